"""What `import repro` gives in a notebook: experiments, runs, curves, tables and verdicts as pandas
frames, figures that a notebook shows by itself, and one line from a row's name to its training.

    import repro
    repro.table("T7", scale="laptop")
    trainer = repro.trainer(repro.config_of("T7:r2", scale="smoke"), device="cpu")

Frames are tidy, a line a thing, numbers as numbers; docs/notebook.ipynb shows them. `scale` is a
file of experiments/scales. `evidence` says whose runs: "own" (results/runs here), "published", or
"all"; by default one's own where there are any of what is asked for, else the published ones.
Accuracies are in percent, entropies, divergences and losses in nats, times in hours.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import pandas as pd

from analysis.evidence import frames
from analysis.evidence.evidence import Evidence, load_evidence
from analysis.evidence.sources import Source
from analysis.verdicts.cells import judge_cells
from analysis.verdicts.claims import judge_ours
from repro.errors import UserError, nearest
from repro.harness.experiments.experiment import Experiment, Row, load, row_config, run_name
from repro.harness.experiments.folders import experiments_dir, results_dir
from repro.harness.experiments.own import every_experiment

if TYPE_CHECKING:
    import torch
    from matplotlib.figure import Figure

    from analysis.comparison.described import Described
    from repro.config.schema import RunConfig
    from repro.train import Trainer

Whose = Literal["own", "published", "all"] | None
EXPERIMENTS = ("id", "kind", "where", "title", "rows", "trainable", "claims", "own")
VERDICTS = (
    "id", "experiment", "statement", "verdict", "holds", "detail", "rule", "flips", "where",
    "portability",
)  # fmt: skip
RUNS = ("id", "run", "scale", "seed", "state", "sentinel", "stopped_on")


def experiments() -> pd.DataFrame:
    """Every table and figure of the paper, then one's own: a line an experiment. An own file with
    a mistake is left out, with a line on standard error.

    Columns: id (which every function here takes), kind, where (in the paper), title, rows,
    trainable (rows that are not only reported), claims, own.
    """
    lines = []
    for one, own in every_experiment():
        trainable = sum(row.trainable for row in one.rows)
        counts = len(one.rows), trainable, len(one.claims)
        lines.append((one.id, one.kind, one.where, one.title, *counts, own))
    return pd.DataFrame(lines, columns=list(EXPERIMENTS))


def runs(scale: str | None = None, evidence: Whose = None) -> pd.DataFrame:
    """A line a run: own ones in any state, published ones that are believed.

    Columns: id, run (a name for people), scale, seed, state (as `repro status`, or published),
    sentinel, stopped_on (where it ended early), then every metric that any of them has, of a run
    that is not done the last ones logged, then every setting that is not the same in all of them.
    """
    found = [run for run in _described(evidence) if scale in (None, run.scale)]
    head = [
        (r.id, r.slug, r.scale, r.seed, r.state, r.sentinel, str(r.stopped_on or "")) for r in found
    ]
    metrics = pd.DataFrame([dict(run.metrics) for run in found], dtype=float)
    settings = pd.DataFrame([dict(run.config) for run in found])
    apart = [key for key in settings if settings[key].astype(str).nunique() > 1 and key != "seed"]
    columns = [pd.DataFrame(head, columns=list(RUNS)), metrics, settings[apart]]
    return pd.concat([c.reset_index(drop=True) for c in columns], axis=1)


def curves(experiment: str, scale: str = "laptop", evidence: Whose = None) -> pd.DataFrame:
    """What the runs of an experiment logged over training, and the paper's digitised curves.

    Columns: experiment, row, seed (-1: the paper), epoch (done), fraction (of all epochs), metric,
    value, whose (ours, paper). Of ours all diagnostics, means over at most 60 equal bins of steps,
    and knn and student_knn at each evaluation.
    """
    one = load(experiment)
    found = _evidence(scale, evidence, one.id)
    logged = [run.curves for row in found.rows(one) for run in row.runs().values()]
    names = dict.fromkeys(k for c in logged for k in (*c.steps, *c.evaluations) if k != "epoch")
    ours = frames.curves(msgspec.structs.replace(one, curves=tuple(names)), found)
    both = {"ours": ours, "paper": frames.reported_curves(one)}
    return pd.concat(
        [frame.assign(whose=whose) for whose, frame in both.items() if len(frame)] or [ours],
        ignore_index=True,
    )


def cells(experiment: str, scale: str = "laptop", evidence: Whose = None) -> pd.DataFrame:
    """A table's numbers: a line a cell and seed, as `repro table --format csv` writes them.

    Columns: those of `analysis.tables.tidy.TYPES`; value, mean, low and high (of the 95 %
    interval), reported (the paper's) and difference are in `unit`.
    """
    from analysis.tables.tidy import tidy

    one = load(experiment)
    found = _evidence(scale, evidence, one.id)
    return tidy(one, found, judge_cells(one, found))


def table(experiment: str, scale: str = "laptop", evidence: Whose = None) -> pd.DataFrame:
    """The paper's table: a line a row, indexed by the row's name, as numbers.

    Columns have two levels: ("", what describes the row), and for every metric, under its title,
    paper (the reported number), ours (mean over seeds), ± (half of its 95 % interval) and n
    (seeds), in the paper's unit; then ("", sentinel).
    """
    one, numbers = load(experiment), cells(experiment, scale, evidence)
    numbers["half"] = (numbers["high"] - numbers["low"]) / 2
    lines: dict[str, dict[tuple[str, str], Any]] = {}
    for row in one.rows:
        own = numbers[numbers["row"] == row.name]
        line = {("", c.title): row.described.get(c.key, "") for c in one.layout}
        for metric in one.metrics:
            first = own[own["metric"] == metric.key].iloc[0]
            columns = {"paper": "reported", "ours": "mean", "±": "half", "n": "n"}
            line |= {(metric.title, title): first[key] for title, key in columns.items()}
        said = dict.fromkeys(state for state in own["sentinel"] if state)
        lines[row.name] = line | {("", "sentinel"): ", ".join(said)}
    frame = pd.DataFrame.from_dict(lines, orient="index")
    frame.columns = pd.MultiIndex.from_tuples(list(next(iter(lines.values()))))
    return frame.rename_axis(one.id)


def verdicts(experiment: str, scale: str = "laptop", evidence: Whose = None) -> pd.DataFrame:
    """A line a claim of the experiment.

    Columns: id, experiment, statement, verdict (docs/verdicts.md has the words), holds (True,
    False, or None: not decided), detail (the numbers behind it), rule, flips (at which margin it
    would turn), where (in the paper), portability.
    """
    one = load(experiment)
    judged = [v.as_json() for v in judge_ours(one, _evidence(scale, evidence, one.id))]
    return pd.DataFrame([[v[key] for key in VERDICTS] for v in judged], columns=list(VERDICTS))


def figure(experiment: str, scale: str = "laptop", evidence: Whose = None) -> Figure:
    """The paper's figure from our runs, as `repro figure` draws it; no backend has a part in it.

    Raises:
        UserError: no finished run to draw.
    """
    from analysis.figures.draw import drawn

    one = load(experiment)
    return drawn(one, _evidence(scale, evidence, one.id))


def config_of(
    name: str = "",
    scale: str = "laptop",
    seed: int = 0,
    overrides: Mapping[str, Any] | None = None,
) -> RunConfig:
    """The complete, checked config of a run.

    Args:
        name: a row (`T7:r2`; of one with several runs `T8:l0.100ep`); by default what the scale
            has by itself.
        overrides: dotted keys of `repro/config/schema.py` (or groups such as `method`), which win.

    Raises:
        UserError: no such row, key or value; names the nearest one.
    """
    overrides = dict(overrides or {})
    if not name:
        from repro.config.compose import compose

        return compose(experiments_dir(), scale, {"seed": seed, **overrides}, "config_of")
    experiment, _, called = name.partition(":")
    one = load(experiment)
    row, variant = _row_called(one, called)
    if why := row.why_not(scale):
        raise UserError(f"{name} has no run at {scale} scale: {why}")
    # Behind all layers of the file, of which the last is what its row says of this scale.
    last = {scale: {**row.at_scale.get(scale, {}), **overrides}}
    variants = {
        key: msgspec.structs.replace(
            v, at_scale={**v.at_scale, scale: {**v.at_scale.get(scale, {}), **overrides}}
        )
        for key, v in row.variants.items()
    }
    changed = msgspec.structs.replace(row, at_scale={**row.at_scale, **last}, variants=variants)
    return row_config(one, changed, scale, seed, variant)


def trainer(config: RunConfig, device: str | torch.device = "") -> Trainer:
    """A run in memory, from its first step: `for event in trainer.run()` trains it.

    Events are dicts; of kind "step" with the metrics of an optimiser step, of kind "eval" with
    k-NN accuracies, of kind "epoch" at an epoch's end. `trainer.result()` has the last ones.
    Nothing is written: `repro train` leaves a run folder.

    Args:
        device: "cpu", "cuda" or "auto"; by default what the config says.
    """
    from repro.data.datasets import open_dataset
    from repro.distributed import open_device
    from repro.train import Trainer

    place = str(device) or config.resources.device.value
    where = open_device(place, config.resources.deterministic)
    paths = config.paths
    data = open_dataset(config.data, paths.data, config.resources, where, paths.labelled)
    return Trainer(config, data, where)


def _row_called(one: Experiment, name: str) -> tuple[Row, str]:
    """A row and its variant, the first where the name says none."""
    known = {row.name: (row, one.runs_a_row[0]) for row in one.rows}
    known |= {run_name(row, v): (row, v) for row in one.rows for v in one.runs_a_row}
    if name not in known:
        raise UserError(
            f"no row '{name}' in {one.id}; nearest: {nearest(name, known)} "
            f"(one of {', '.join(known)})"
        )
    return known[name]


def _evidence(scale: str, evidence: Whose, asked: str) -> Evidence:
    return load_evidence(scale, _source(evidence), [asked])


def _source(evidence: Whose) -> Source | None:
    if evidence is not None and evidence not in list(Source):
        close = nearest(evidence, list(Source))
        raise UserError(f"evidence='{evidence}': nearest: {close} (one of {', '.join(Source)})")
    return None if evidence is None else Source(evidence)


def _described(evidence: Whose) -> list[Described]:
    """One's own runs, and the published ones that are none of them."""
    from analysis.comparison.described import of_record
    from analysis.comparison.listing import described
    from repro.harness.experiments.folders import published_in, scales_of
    from repro.harness.status.find import find

    source = _source(evidence)
    found: list[Described] = []
    if source is not Source.published:
        found, _ = described(*find([], results_dir()))
    if source is Source.own or (source is None and found):
        return found
    known = {run.id for run in found}
    published = published_in(results_dir())
    for scale in scales_of(experiments_dir()):
        if (published / scale).is_dir():
            records = load_evidence(scale, Source.published).records.values()
            found += [of_record(record) for record in records if record.id not in known]
    return found
