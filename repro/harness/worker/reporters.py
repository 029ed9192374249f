"""A run's metrics in TensorBoard and Weights & Biases, for people who like them there.

Only when asked (`--report tensorboard`, `reporting.wandb=true`). metrics.jsonl stays the record; a
reporter that fails says so in the log, once, and the run goes on without it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from importlib.util import find_spec
from typing import Any

from repro.config.identity import canonical
from repro.config.schema import Reporting, RunConfig
from repro.errors import UserError
from repro.harness.runs.store import RunFolder

PROJECT = "dino-repro"  # of Weights & Biases, unless WANDB_PROJECT says otherwise
Report = Callable[[dict[str, Any]], None]


def check_reporters(reporting: Reporting) -> None:
    """Raises: UserError, if a reporter that is asked for is not installed."""
    for name in ("tensorboard", "wandb"):
        if getattr(reporting, name) and find_spec(name) is None:
            raise UserError(f"--report {name}: not installed; pip install {name}")


@contextmanager
def reporters(folder: RunFolder, config: RunConfig, step: int) -> Iterator[Report]:
    """A function that takes every event of a run, which goes on from `step`."""
    with ExitStack() as stack:
        sinks: dict[str, Report] = {}
        for name, start in (("tensorboard", _tensorboard), ("wandb", _wandb)):
            if getattr(config.reporting, name):
                with _or_without(name):
                    sinks[name] = start(folder, config, step, stack)

        def report(event: dict[str, Any]) -> None:
            for name in list(sinks):
                fine = False
                with _or_without(name):
                    sinks[name](event)
                    fine = True
                if not fine:
                    del sinks[name]

        yield report


def scalars(event: dict[str, Any]) -> dict[str, float]:
    """An event's numbers, as "step/loss" or "eval/knn"."""
    numbers = {
        key: value
        for key, value in event.items()
        if isinstance(value, int | float) and key != "step"
    }
    return {f"{event['kind']}/{key}": value for key, value in numbers.items()}


def _tensorboard(folder: RunFolder, _: RunConfig, step: int, stack: ExitStack) -> Report:
    from torch.utils.tensorboard import SummaryWriter

    # What an earlier attempt wrote after its checkpoint is written again.
    writer = SummaryWriter(folder.path / "tensorboard", purge_step=step + 1 if step else None)
    stack.callback(writer.close)

    def report(event: dict[str, Any]) -> None:
        for name, value in scalars(event).items():
            writer.add_scalar(name, value, event["step"])

    return report


def _wandb(folder: RunFolder, config: RunConfig, _: int, stack: ExitStack) -> Report:
    import os

    import wandb

    run = wandb.init(
        project=os.environ.get("WANDB_PROJECT", PROJECT),
        id=folder.id,
        name=folder.slug,
        group=f"{config.label.experiment} {config.label.scale}",
        config=canonical(config),
        dir=folder.path,
        resume="allow",
    )
    stack.callback(_finish, run)

    def report(event: dict[str, Any]) -> None:
        run.log(scalars(event), step=event["step"])

    return report


def _finish(run: Any) -> None:
    with suppress(Exception):
        run.finish()


@contextmanager
def _or_without(name: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # noqa: BLE001 - no reporter may end a training
        print(f"{name}: {type(error).__name__}: {error}; the run goes on without it")
