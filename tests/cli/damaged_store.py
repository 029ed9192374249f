"""A store of results in which bits are flipped and files are cut, one at a time: is any number that
a command prints another one, without the damaged thing being named?

Real runs with their evaluations, an interrupted one, a submission, kept answers, and the published
laptop records with the page that tells where they end.

    python -m tests.cli.damaged_store FLIPS CUTS
"""

from __future__ import annotations

import io
import os
import random
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from analysis.evidence import evidence
from repro.cli.parser import main
from repro.harness.experiments.folders import experiments_dir
from repro.harness.plan.plan import plan
from repro.harness.runs.records import as_line
from repro.harness.runs.store import create_run
from repro.harness.slurm.submissions import Array, new_submission
from tests.harness.processes import train

PUBLISHED = ("records.jsonl", "evaluations.jsonl", "README.md")  # the rest is made of them
ASKED = (
    ["status", "--runs"], ["status", "--json"], ["list", "--json"],
    ["table", "F7", "--scale", "smoke"],
    ["check", "F7", "--scale", "smoke", "--json"],
)  # fmt: skip


@dataclass
class Store:
    """What commands say of the folder `results` as it is, and as it was."""

    results: Path
    cache: Path
    said: str = ""
    published: str = ""
    outcomes: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def remember(self) -> None:
        self.said, self.published = self.told(), self.believed()

    def told(self) -> str:
        out = io.StringIO()
        with redirect_stdout(out), redirect_stderr(out):
            for command in ASKED:
                print(main([*command]))
        return out.getvalue()

    def believed(self) -> str:
        """All numbers that tables, figures and verdicts are made of, and what was refused."""
        found = evidence.published_evidence("laptop")
        records = [f"{as_line(one)} {one.metrics}" for one in found.records.values()]
        return "\n".join([*records, *map(str, found.refused)])

    def files(self) -> list[Path]:
        published = self.results / "published" / "laptop"
        found = [published / name for name in PUBLISHED]
        for folder in (self.results / "runs", self.results / "submissions", self.cache):
            found += [p for p in folder.rglob("*") if p.is_file() and p.stat().st_size]
        return sorted(found)

    def judge(self, file: Path, content: bytes) -> None:
        """Damage a file, ask, and put it back; the worst that was said of it counts."""
        whole = file.read_bytes()
        published = file.name in PUBLISHED and "published" in file.parts
        before = self.published if published else self.said
        times = file.stat()
        file.write_bytes(content)
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
        try:
            now = self.believed() if published else self.told()
        except BaseException as error:  # noqa: BLE001  a traceback is what is looked for
            self.wrong.append(f"{file}: {type(error).__name__}: {error}")
            outcome = "a traceback"
        else:
            new = set(now.splitlines()) - set(before.splitlines())
            named = any(file.name in line for line in new)
            outcome = "the same" if now == before else "named" if named else "another"
            if outcome == "another":
                self.wrong.append(f"{file}: {_difference(before, now)}")
        finally:
            file.write_bytes(whole)
            os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
        self.outcomes[outcome] += 1


def _difference(before: str, now: str) -> str:
    pairs = zip(before.splitlines(), now.splitlines(), strict=False)
    return next((f"{one!r} became {other!r}" for one, other in pairs if one != other), "more lines")


def make(root: Path, seeds: int) -> Store:
    """Trains runs of Figure 7, a minute's work; the environment is set for it."""
    results, cache = root / "results", root / "cache"
    os.environ |= {"REPRO_RESULTS": str(results), "XDG_CACHE_HOME": str(cache)}
    os.environ["REPRO_THREADS"] = "1"
    runs = plan(["F7:both"], "smoke", seeds, results).runs
    folders = [create_run(results / "runs", run.slug, run.config) for run in runs]
    for folder in folders:
        assert train(folder)[0] == 0, folder.path
    interrupted = plan(["F7:neither"], "smoke", 1, results).runs[0]
    stopped = create_run(results / "runs", interrupted.slug, interrupted.config)
    stopped.append_metrics([{**e, "step": s} for s, e in enumerate(folders[0].metrics()[:3], 1)])
    stopped.update_run(state="interrupted", started=1e9, ended=1e9 + 60)
    sent = new_submission(results, "mine", results / "code" / "0123456789ab")
    sent.arrays = [Array("a", "train", [[folders[0].id]], {}, "7")]
    sent.complete = True
    sent.save()
    published = experiments_dir().parent / "results" / "published" / "laptop"
    (results / "published" / "laptop").mkdir(parents=True)
    for name in PUBLISHED:
        shutil.copy(published / name, results / "published" / "laptop")
    store = Store(results, cache)
    store.told()  # fills the caches
    store.remember()
    return store


def flipped(content: bytes, draw: random.Random) -> bytes:
    damaged = bytearray(content)
    damaged[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    return bytes(damaged)


def cut(content: bytes, draw: random.Random) -> bytes:
    return content[: draw.randrange(len(content))]


def damage(store: Store, flips: int, cuts: int, seed: int = 0) -> Iterator[int]:
    draw = random.Random(seed)
    files = store.files()
    for number in range(flips + cuts):
        file = draw.choice(files)
        how = flipped if number < flips else cut
        store.judge(file, how(file.read_bytes(), draw))
        yield number + 1


def run(flips: int, cuts: int) -> int:
    with TemporaryDirectory() as root:
        store = make(Path(root), 2)
        for number in damage(store, flips, cuts):
            if number % 20 == 0:
                print(number, dict(store.outcomes), len(store.wrong), flush=True)
        print(*store.wrong, dict(store.outcomes), sep="\n", flush=True)
    return 1 if store.wrong else 0


if __name__ == "__main__":
    sys.exit(run(*map(int, sys.argv[1:])))
