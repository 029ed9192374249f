"""Which columns a figure shows, what they are called on an axis, and what they would be by chance.

A figure shows what its claims are judged on: the columns whose cells they compare, and k-NN for
claims on whether rows learn at all. What has not been measured is named, never replaced.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from analysis.evidence.evidence import Evidence
from analysis.evidence.rows import MeasuredRow
from repro.harness.experiments.address import Address
from repro.harness.experiments.experiment import Experiment, Metric

KNN = "knn"
ACCURACY = "%"
UNITS = {"M": "million"}
NO_UNIT = ("", "1/s")
# What a title of a table's column is on an axis; a table has no room for more.
WORDS: Mapping[str, str] = {
    "1 %": "top-1, 1 % of labels",
    "10 %": "top-1, 10 % of labels",
    "(J&F)m": "mean of J and F",
    "K": "number of prototypes K",
    "l": "number of blocks l",
    "m": "centre momentum m",
    "s": "scale s between local and global crops",
    "heads": "number of heads",
    "epochs": "number of epochs",
    "linear layers": "number of linear layers",
    "k-NN": "k-NN top-1",
    "Lin.": "linear top-1",
    "Top-1": "top-1",
    "Jaccard": "Jaccard index",
    "mAP": "mean average precision",
    "im/s": "images per second",
    "params": "parameters",
}
# Words within longer titles ("RN50 Lin.").
SHORT: Mapping[str, str] = {
    "Lin.": "linear", "ep.": "epochs", "Flwrs": "Flowers", "delta": "difference",
    "ROx": "Oxford", "RPar": "Paris", "INet": "ImageNet",
}  # fmt: skip
CHANCE_OF_THE_PAPER = 0.1  # ImageNet's thousand classes
CLASSIFIES = ("knn", "student", "linear", "logistic", "finetune", "scratch")


def judged_metrics(experiment: Experiment) -> list[Metric]:
    """The columns that claims are about, in the order of the file; without such, all of them."""
    keys: set[str] = set()
    for claim in experiment.claims:
        for part in claim.body.parts():
            cells = [Address.of_cell(address) for address in part.cell_addresses()]
            keys |= {cell.metric for cell in cells if cell.experiment == experiment.id}
            keys |= {part.kind} if cells else {part.kind, KNN}
    return [metric for metric in experiment.metrics if metric.key in keys] or [*experiment.metrics]


def accuracies(metrics: Sequence[Metric]) -> list[Metric]:
    """Those in percent; all of them where none is."""
    return [metric for metric in metrics if metric.unit == ACCURACY] or [*metrics]


def is_measured(experiment: Experiment, metric: Metric, evidence: Evidence) -> bool:
    return any(row.cell(metric.key).values for row in evidence.rows(experiment))


def is_printed(experiment: Experiment, metric: Metric) -> bool:
    return any(metric.key in row.reported for row in experiment.rows)


def in_words(title: str) -> str:
    """A column's title as an axis has it."""
    if title in WORDS:
        return WORDS[title]
    return " ".join(SHORT.get(word, word) for word in title.split())


def axis_label(metric: Metric) -> str:
    """A metric in words, with its unit but for counts."""
    words = in_words(metric.title)
    return words if metric.unit in NO_UNIT else f"{words} ({UNITS.get(metric.unit, metric.unit)})"


def chance(metric: Metric, rows: Iterable[MeasuredRow]) -> float | None:
    """In percent: what guessing gets of the classes of our data; None where nothing is guessed."""
    if not _classifies(metric):
        return None
    counts = {run.counts.classes for row in rows for run in row.all_runs}
    classes = counts.pop() if len(counts) == 1 else None
    return 100 / classes if classes else None


def chance_of_the_paper(metric: Metric) -> float | None:
    return CHANCE_OF_THE_PAPER if _classifies(metric) else None


def _classifies(metric: Metric) -> bool:
    """Whether it is an accuracy on the classes of the data that was trained on."""
    name, _, other_data = metric.measured.partition("@")
    own = metric.unit == ACCURACY and not other_data and not metric.difference
    return own and name.startswith(CLASSIFIES)


def common_seeds(rows: Iterable[MeasuredRow], keys: Iterable[str]) -> list[int]:
    """The seeds of which all the rows have all these columns: only their points may be joined."""
    columns = [set(row.cell(key).values) for row in rows for key in keys]
    return sorted(set.intersection(*columns)) if columns else []


def seeds_named(seeds: Sequence[int]) -> str:
    """ "seed 0", "seeds 0 to 2", "seeds 0, 3"."""
    if len(seeds) == 1:
        return f"seed {seeds[0]}"
    if len(seeds) > 2 and list(seeds) == list(range(seeds[0], seeds[-1] + 1)):
        return f"seeds {seeds[0]} to {seeds[-1]}"
    return f"seeds {', '.join(map(str, seeds))}"
