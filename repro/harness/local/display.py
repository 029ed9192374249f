"""What the local pool shows: a live table in a terminal, plain lines elsewhere.

Reads run folders as any other process could: the end of metrics.jsonl as it grows, run.json,
result.json and failure.json. The workers know nothing of it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from repro.errors import UserError
from repro.harness.runs.records import early_end
from repro.harness.runs.states import State
from repro.harness.runs.store import RunFolder
from repro.harness.worker.journal import output_words
from repro.terminal import percent

LIVE_SECONDS = 0.5
PLAIN_SECONDS = 15.0
BAR_WIDTH = 20
BAR_FROM = 100  # columns a terminal must have before bars take room from the numbers
FIRST_READ = 64 * 1024  # bytes of an existing metrics.jsonl that are read at first


@dataclass
class Tail:
    """New lines of a growing JSON-lines file; never reads a byte twice."""

    path: Path
    offset: int | None = None
    torn: bytes = b""

    def read(self) -> list[dict[str, Any]]:
        """The complete lines appended since the last call; the first call sees the file's end.

        A file that shrank (a resumed run cuts lines) is followed from its new end.
        """
        try:
            file = self.path.open("rb")
        except FileNotFoundError:
            return []
        with file:
            size = file.seek(0, 2)
            if self.offset is None:
                self.offset = max(0, size - FIRST_READ)
                # Starting inside a line: what precedes the first newline is dropped below.
                skip_first = self.offset > 0
            else:
                skip_first = False
            if size < self.offset:
                self.offset, self.torn = size, b""
            file.seek(self.offset)
            data = self.torn + file.read(size - self.offset)
            self.offset = size
        *lines, self.torn = data.split(b"\n")
        return list(_parsed(lines[skip_first:]))


def _parsed(lines: list[bytes]) -> Iterator[dict[str, Any]]:
    for line in lines:
        # A file that was cut and grew again between two reads is joined inside a line.
        with suppress(ValueError):
            yield json.loads(line)


@dataclass
class ActiveRun:
    """One run in training, as far as its files tell."""

    folder: RunFolder
    elsewhere: bool = False  # trained by another process
    tail: Tail = field(init=False)
    step: dict[str, Any] = field(default_factory=dict)  # the latest step event
    total: int = 0
    first: tuple[float, int] | None = None  # when which step was first seen
    rate: float = 0.0  # steps a second, evaluations included

    def __post_init__(self) -> None:
        self.tail = Tail(self.folder.path / "metrics.jsonl")

    def update(self, now: float) -> None:
        steps = [event for event in self.tail.read() if event["kind"] == "step"]
        if not steps:
            return
        self.step = steps[-1]
        if not self.total:
            self.total = self.folder.told().total_steps or 0
        if self.first is None:
            self.first = (now, self.step["step"])
        seen_at, seen = self.first
        if self.step["step"] > seen and now > seen_at:
            self.rate = (self.step["step"] - seen) / (now - seen_at)

    @property
    def seconds_left(self) -> float | None:
        if not self.rate:
            return None
        return float(self.total - self.step["step"]) / self.rate

    def line(self) -> str:
        """For outputs that are not a terminal."""
        if not self.step:
            return f"{self.folder.path.name}: starting"
        share = 100 * self.step["step"] // self.total
        return (
            f"{self.folder.path.name}: step {self.step['step']}/{self.total} ({share} %), "
            f"{self.step['images_per_second']:.0f} images/s, {clock(self.seconds_left)} left, "
            f"loss {number(self.step['loss'])}, {output_words(self.step)}, {self.step['sentinel']}"
        )

    def cells(self) -> list[Text | ProgressBar | str]:
        """For a row of the live table."""
        style = "dim" if self.elsewhere else ""
        name = Text(self.folder.slug, style, no_wrap=True, overflow="ellipsis")
        if not self.step:
            return [name, ProgressBar(total=1, completed=0, width=BAR_WIDTH), "starting", *[""] * 6]
        sentinel = self.step["sentinel"]
        return [
            name,
            ProgressBar(total=self.total, completed=self.step["step"], width=BAR_WIDTH),
            f"{self.step['step']}/{self.total}",
            f"{self.step['images_per_second']:.0f}",
            clock(self.seconds_left),
            number(self.step["loss"]),
            *(number(self.step[key]) if key in self.step else "-" for key in ("entropy", "kl")),
            Text(sentinel, style="green" if sentinel == "healthy" else "bold red"),
        ]


HEADINGS = ("run", "", "step", "images/s", "left", "loss", "entropy", "KL", "sentinel")


class Display:
    """Shows a pool's runs; a context manager, because a live table must give the terminal back."""

    def __init__(self, total: int, done: int, workers: int, console: Console | None = None) -> None:
        """`total` runs asked for, of which `done` were finished before."""
        self.total, self.finished, self.workers = total, done, workers
        self.console = console or Console()
        self.active: dict[Path, ActiveRun] = {}
        self.durations: list[float] = []  # seconds a finished run took, in this display
        self.started_at: dict[Path, float] = {}
        self.drawn = time.monotonic()
        self.live: Live | None = None
        if self.console.is_terminal:
            self.live = Live(console=self.console, auto_refresh=False, transient=True)

    def __enter__(self) -> Self:
        if self.live:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.live:
            self.live.stop()

    def started(self, folder: RunFolder, elsewhere: bool = False) -> None:
        self.active[folder.path] = ActiveRun(folder, elsewhere)
        self.started_at[folder.path] = time.monotonic()
        if not self.live:
            note = " in another process: waiting for it" if elsewhere else ""
            self.say(f"started {folder.path.name}{note}")

    def ended(self, folder: RunFolder, state: State) -> None:
        """A run is no longer active: `state` is done, failed, cancelled or interrupted."""
        self.finished += 1
        self.active.pop(folder.path, None)
        began = self.started_at.pop(folder.path, None)
        if state is State.done and began is not None:
            self.durations.append(time.monotonic() - began)
        self.say(f"{state:<11} {folder.path.name}  {summary(folder, state)}".rstrip())

    def say(self, line: str) -> None:
        """One permanent line."""
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def refresh(self) -> None:
        """Draw again if the last drawing is old enough; cheap to call often."""
        now = time.monotonic()
        if now - self.drawn < (LIVE_SECONDS if self.live else PLAIN_SECONDS):
            return
        self.drawn = now
        for run in self.active.values():
            run.update(now)
        if self.live:
            self.live.update(self._table(), refresh=True)
            return
        for run in self.active.values():
            self.say(run.line())

    def _table(self) -> Group:
        bars = self.console.width >= BAR_FROM
        table = Table(box=None, padding=(0, 1, 0, 0), header_style="dim")
        shown = [heading for heading in HEADINGS if heading or bars]
        for heading in shown:
            left = heading in ("run", "", "sentinel")
            # In a narrow terminal the name gives way, never a number.
            table.add_column(heading, justify="left" if left else "right", no_wrap=heading != "run")
        for run in self.active.values():
            cells = zip(HEADINGS, run.cells(), strict=True)
            table.add_row(*(cell for heading, cell in cells if heading in shown))
        return Group(Text(self.header(), style="bold"), table)

    def header(self) -> str:
        elsewhere = sum(run.elsewhere for run in self.active.values())
        return (
            f"{self.finished}/{self.total} runs ended, {len(self.active)} active"
            + (f" ({elsewhere} in another process)" if elsewhere else "")
            + f", {clock(self.seconds_left())} left"
        )

    def seconds_left(self) -> float | None:
        """Of all runs: the waiting ones are taken to last as long as those seen so far."""
        lefts = [run.seconds_left for run in self.active.values()]
        known = [left for left in lefts if left is not None]
        whole = self.durations + [r.total / r.rate for r in self.active.values() if r.rate]
        if not whole or not known:
            return None
        typical = sum(whole) / len(whole)
        waiting = self.total - self.finished - len(known)
        return max(*known, (sum(known) + waiting * typical) / self.workers)


def summary(folder: RunFolder, state: State) -> str:
    """What is worth knowing of a run that ended: its numbers, or why it has none."""
    with suppress(UserError):  # damaged, which is said elsewhere
        return _summary(folder, state)
    return ""


def _summary(folder: RunFolder, state: State) -> str:
    if state is State.done and (result := folder.result()):
        metrics = result["metrics"]
        early = early_end(result, str(folder.path))
        ended = f"{result['sentinel']['state']}{f', {early}' if early else ''}"
        return (
            f"k-NN {percent(metrics['knn'])}  {output_words(metrics)}  "
            f"{ended}  wall {clock(result['wall_seconds'])}"
        )
    if state is State.failed and (failure := folder.failure()):
        return f"{failure.kind.meaning} (step {failure.step}): {failure.line}"
    return ""


def clock(seconds: float | None) -> str:
    """Seconds as 0:07, 12:30 or 1:02:03; unknown as ?."""
    if seconds is None:
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def number(value: float | None) -> str:
    """Three decimals; a non-finite value is null in the files."""
    return "nan" if value is None else f"{value:.3f}"
