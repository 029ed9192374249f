"""Runs whose records enter the published tables, as many as a time buys: `make gpu`'s last step.

    python -m tests.gpu.evidence --seconds 300 --out DIR
    python -m tests.gpu.evidence --unpack DIR    # elsewhere: into results/runs, for `repro publish`

What decides most comes first: Figure 7's three rows, the teachers of Figure 6, Table 7, all with
one seed, then with three. `repro submit` trains them, as many at a time as fill the card, and they
are stopped with a checkpoint before the time is over: where they lie, the same command goes on.
Where so many at a time would not end in time, fewer are trained, of which some will. DIR then holds
what the runs left, without their checkpoints, as an archive in parts that narrow channels take;
unfinished runs join with their last checkpoint while there is room, to be continued elsewhere.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from pathlib import Path

from repro.errors import UserError
from repro.hardware import visible_gpus
from repro.terminal import count
from tests.gpu.evidence.archive import pack, parts_in, unpack
from tests.gpu.evidence.training import runs_of, train

STOPPING = 20.0  # seconds before the end at which runs are told to save


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=300.0, help="all in all")
    parser.add_argument("--out", type=Path, help="where the archive goes")
    parser.add_argument("--scale", default="gpu")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--workers", default="auto", help="runs at a time")
    parser.add_argument("--room", type=int, default=40, help="MiB of the archive")
    parser.add_argument("--unpack", type=Path, help="bring the runs of an archive home")
    arguments = parser.parse_args()
    try:
        if arguments.unpack:
            unpack(arguments.unpack)
            return 0
        return collect(arguments)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2


def collect(arguments: argparse.Namespace) -> int:
    if arguments.out is None:
        raise UserError("--out DIR: where shall the archive go?")
    if arguments.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    elif not visible_gpus():
        raise UserError("no GPU here; --device cpu --scale smoke rehearses without one")
    end = time.monotonic() + arguments.seconds - STOPPING
    room = arguments.room * 2**20
    signal.signal(signal.SIGTERM, _stop)
    try:
        train(
            arguments.scale,
            arguments.workers,
            end,
            lambda done: pack(done, [], arguments.out, room),
        )
    except KeyboardInterrupt:
        print("stopped from outside", flush=True)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # what there is shall be whole
    done, others = runs_of(arguments.scale)
    names = pack(done, others, arguments.out, room)
    for folder in others:
        print(f"{folder.path.name}: {folder.step} of {folder.read_run().total_steps} steps")
    taken = sum(folder.path.name in names for folder in done)
    size = sum(part.stat().st_size for part in parts_in(arguments.out)) / 2**20
    print(
        f"{count(len(done), 'run')} done, {len(others)} begun; the archive has {taken} done, "
        f"{len(names) - taken} to be continued, {size:.1f} MiB"
    )
    return 0 if done else 1


def _stop(*_: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
