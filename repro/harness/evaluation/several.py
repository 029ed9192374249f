"""Several checkpoints, protocols and data sets in one go: what is kept serves, others are measured.

Whoever cannot be evaluated holds back no other: a line says why. Data sets are opened once for all
checkpoints, features made once a checkpoint for all protocols.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, TypeVar

from repro.errors import UserError
from repro.harness.evaluation.answers import CHANGED, Answer, Frozen
from repro.harness.evaluation.any_checkpoint import ChosenWeights, ask_run, run_folder
from repro.harness.evaluation.chosen_data import ChosenData, chosen_data
from repro.harness.evaluation.names import PROTOCOLS, THROUGHPUT
from repro.harness.evaluation.requests import benchmark_of, requests_in
from repro.harness.evaluation.stage import evaluate, evaluation_file, failure_file
from repro.harness.experiments.clusters import load_cluster
from repro.harness.runs.evaluations import Request, RunEvaluation, read_evaluation
from repro.harness.runs.failures import failure_of, told_failure
from repro.harness.runs.store import RunFolder

if TYPE_CHECKING:
    from repro.data.dataset import Dataset

T = TypeVar("T")
ELSEWHERE = "another process evaluates this run"
WITHOUT_ITEMS = "what was kept does not say how each test item did"


@dataclass(frozen=True)
class Asked:
    """What a person wants to know of every checkpoint; without data, of a run on its own."""

    protocols: Sequence[str]
    data: Sequence[str] = ()
    epochs: int = 0
    side: int = 0
    skip_unreadable: bool = False


@dataclass(frozen=True)
class Outcome:
    """One protocol on one checkpoint and one data set.

    Attributes:
        checkpoint: as short as it can be told from the others.
        failed: why there is no answer.
    """

    checkpoint: str
    path: Path
    protocol: str
    data: str
    answer: Answer | None = None
    failed: str = ""


def pairs(asked: Asked) -> list[ChosenData]:
    """Which protocol is to see which data: several protocols each see those of their own kind.

    Raises:
        UserError: data that no protocol can use.
    """
    found, used = [], set()
    special = [name for name in asked.protocols if PROTOCOLS[name].benchmarks]
    for protocol in asked.protocols:
        if protocol == THROUGHPUT:
            found.append(chosen_data("", protocol))
            continue
        own = [data for data in asked.data if _suits(data, protocol)]
        others = [d for d in asked.data if not any(_suits(d, name) for name in special)]
        suiting = own if protocol in special else others
        chosen = suiting if len(asked.protocols) > 1 else asked.data
        if not chosen:
            known = PROTOCOLS[protocol].benchmarks
            hint = f"name its folder {known[0]}=PATH" if known else "name others, birds=PATH"
            raise UserError(f"{protocol}: --data {' '.join(asked.data)} does not suit it; {hint}")
        used |= set(chosen)
        found += [chosen_data(data, protocol, asked.epochs) for data in chosen]
    if left := [data for data in asked.data if data not in used]:
        raise UserError(f"--data {left[0]}: none of {', '.join(asked.protocols)} can use it")
    return found


def _suits(data: str, protocol: str) -> bool:
    name = benchmark_of(data.partition("=")[0])
    return name in (*PROTOCOLS[protocol].benchmarks, PROTOCOLS[protocol].stand_in or None)


def evaluate_all(
    chosen: Sequence[ChosenWeights], asked: Asked, results: Path, say: Callable[[str], None]
) -> list[Outcome]:
    """An outcome for every checkpoint, protocol and data set, in that order.

    Args:
        say: takes a line of progress.

    Raises:
        UserError: data that no protocol can use, or a file without data.
    """
    images = pairs(asked) if asked.data else []
    names = told_apart([one.path for one in chosen])
    outcomes: list[Outcome] = []
    opened: dict[str, Dataset] = {}
    for number, (one, name) in enumerate(zip(chosen, names, strict=True), 1):
        say(f"{number} of {len(chosen)}: {name}")
        if of_its_own(one, asked) and (folder := run_folder(one.path)):
            found = _of_run(folder, name, asked, say)
        else:
            found = _of_weights(one, name, asked, images or pairs(asked), results, opened, say)
        outcomes += found
    return outcomes


def of_its_own(one: ChosenWeights, asked: Asked) -> bool:
    """Whether a run's answers on its own images are meant, which lie in its folder."""
    return not asked.data and not one.network and run_folder(one.path) is not None


def told_apart(paths: Sequence[Path]) -> list[str]:
    """Each path by as few of its last parts as tell it from the others."""
    whole = [path.absolute().parts for path in paths]

    def short(parts: tuple[str, ...]) -> str:
        others = [other for other in whole if other != parts]
        for length in range(1, len(parts)):
            if not any(other[-length:] == parts[-length:] for other in others):
                return str(Path(*parts[-length:]))
        return str(Path(*parts))

    return [short(parts) for parts in whole]


def _of_weights(
    chosen: ChosenWeights,
    name: str,
    asked: Asked,
    images: Sequence[ChosenData],
    results: Path,
    opened: dict[str, Dataset],
    say: Callable[[str], None],
) -> Iterator[Outcome]:
    with TemporaryDirectory(prefix="repro-features-") as scratch:
        frozen = Frozen(chosen, results, asked.side, asked.skip_unreadable, Path(scratch), opened)
        _, unreadable = _tried(lambda: frozen.weights)
        if unreadable:
            say(f"  failed: {unreadable}")
        for one in images:
            protocol, begun = one.request.protocol, time.monotonic()
            what = f"{protocol} on {one.name}" if one.name else protocol
            answer, failed = None, unreadable
            if not unreadable:
                answer, failed = _tried(lambda one=one: frozen.answer(one))  # type: ignore[misc]
                say(f"  {what}: {_how(answer, failed, time.monotonic() - begun)}")
            yield Outcome(name, chosen.path, protocol, one.name, answer, failed)


def _tried(make: Callable[[], T]) -> tuple[T | None, str]:
    """What is made, or in one line why not: whatever happened, the others go on."""
    try:
        return make(), ""
    except Exception as error:  # noqa: BLE001
        return None, failure_of(error, 0).line


def _of_run(
    folder: RunFolder, name: str, asked: Asked, say: Callable[[str], None]
) -> Iterator[Outcome]:
    """A run's answers on its own images, which lie in its folder."""
    requests: dict[str, Request] = {}
    for protocol in asked.protocols:
        try:
            names = ask_run(folder, protocol, load_cluster("local"), asked.epochs)
            requests |= {known: requests_in(folder)[known] for known in names}
        except UserError as error:
            say(f"  {protocol}: failed: {error}")
            own = "" if PROTOCOLS[protocol].benchmarks else folder.config().data.name
            yield Outcome(name, folder.path, protocol, own, failed=str(error))
    there = {known: _kept(folder, request) for known, request in requests.items()}
    begun = time.time()
    if missing := [known for known, (found, _) in there.items() if found is None]:
        evaluate(folder, again=missing)
    for known, request in requests.items():
        file, (found, why) = evaluation_file(folder, known), there[known]
        answer, failed = None, ""
        if found is not None:
            answer = Answer(found, file, kept=True)
        elif (told := told_failure(failure_file(folder, known))) is not None:
            failed = told.line
        else:
            made = read_evaluation(file, folder.id)
            fresh = made is not None and (made.made or 0) >= begun
            if fresh and made is not None:
                answer = Answer(made, file, kept=False, why=why)
            failed = "" if fresh else ELSEWHERE
        say(f"  {known}: {_how(answer, failed)}")
        data = request.data or folder.config().data.name
        yield Outcome(name, folder.path, request.protocol, data, answer, failed)


def _kept(folder: RunFolder, request: Request) -> tuple[RunEvaluation | None, str]:
    """The answer that lies in a run's folder, or why it does not serve."""
    try:
        found = read_evaluation(evaluation_file(folder, request.name), folder.id)
    except UserError as damaged:
        return None, str(damaged)
    if found is None or request.protocol == THROUGHPUT:
        return None, ""
    if not found.answers(request):
        return None, CHANGED
    return (found, "") if found.judged else (None, WITHOUT_ITEMS)


def _how(answer: Answer | None, failed: str, seconds: float = 0.0) -> str:
    if answer is None:
        return f"failed: {failed}"
    if answer.kept:
        return "kept"
    took = f", {seconds:.1f} s" if seconds else ""
    return f"new{took}" + (f" ({answer.why})" if answer.why else "")
