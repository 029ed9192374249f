"""A run's events as they happen: to metrics.jsonl, to reporters, and now and then to the log.

Metric lines are on disk before the checkpoint that follows them, so a resumed run cuts the lines
after its checkpoint and writes them again.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from repro.harness.runs.store import RunFolder
from repro.harness.worker.reporters import Report
from repro.terminal import percent

if TYPE_CHECKING:
    from repro.train import Trainer

FLUSH_SECONDS = 1.0
PRINT_SECONDS = 10.0


class Journal:
    """Takes a run's events to metrics.jsonl, to reporters and, now and then, to standard output."""

    def __init__(self, folder: RunFolder, trainer: Trainer, report: Report, written: int) -> None:
        self.folder, self.trainer, self.report = folder, trainer, report
        self.lines: list[dict[str, Any]] = []
        self.written = written  # lines of the file
        self.flushed = self.printed = time.monotonic()
        self.last_step: dict[str, Any] = {}
        self.sentinel = "healthy"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # After a failed write the rest must not land behind a torn line.
        if kind is None or not issubclass(kind, OSError):
            self.flush()

    def flush(self) -> None:
        self.folder.append_metrics(self.lines)
        self.written += len(self.lines)
        self.lines = []
        self.flushed = time.monotonic()

    def see(self, event: dict[str, Any]) -> None:
        now = time.monotonic()
        if event["kind"] == "epoch":
            return
        self.lines.append(event)
        self.report(event)
        evaluated = event["kind"] == "eval"
        if evaluated or now - self.flushed >= FLUSH_SECONDS:
            self.flush()
        if not evaluated:
            self.last_step = event
            self._watch(event["sentinel"])
        if self.last_step and (evaluated or now - self.printed >= PRINT_SECONDS):
            print(progress_line(self.last_step, self.trainer.total_steps))
            self.printed = now
        if evaluated:
            teacher, student = event["knn"], event["student_knn"]
            if teacher is not None:
                both = f"teacher {percent(teacher)}, student {percent(student)}"
                print(f"step {event['step']}: k-NN {both}")
            if self.trainer.config.reporting.feature_space and teacher is not None:
                self._keep_features(event["epoch"])

    def _keep_features(self, epoch: float) -> None:
        """The teacher's features of some test images, in half precision."""
        from repro.evals.features.space import some

        features_MD = self.trainer.test_features_MD
        assert features_MD is not None, "an evaluation leaves features"
        assert self.trainer.judged is not None, "what was evaluated has classes"
        chosen = some(self.trainer.judged.test.labels_N)
        files = self.folder.path / "features"
        files.mkdir(exist_ok=True)
        np.save(files / f"epoch-{epoch:07.2f}.npy", features_MD[chosen].half().cpu().numpy())

    def _watch(self, sentinel: str) -> None:
        if sentinel == self.sentinel:
            return
        self.sentinel = sentinel
        report = self.trainer.sentinel.report()
        print(f"sentinel: {sentinel} since step {report['since_step']}: {report['meaning']}")
        self.folder.event("sentinel", **report)


def progress_line(event: dict[str, Any], total_steps: int) -> str:
    """One step's event in words, for logs and displays."""
    return (
        f"step {event['step']}/{total_steps}  {event['images_per_second']:.0f} images/s  "
        f"loss {event['loss']:.3f}  {output_words(event)}  {event['sentinel']}"
    )


def output_words(values: dict[str, Any]) -> str:
    """What the outputs look like, as distributions or as vectors; nan is null in the files."""
    titles = {"entropy": "entropy", "kl": "KL", "output_spread": "output spread"}
    known = {title: values[key] for key, title in titles.items() if key in values}
    return ", ".join(f"{t} {'nan' if v is None else f'{v:.3f}'}" for t, v in known.items())
