"""Experiments x scale x seeds -> the runs they need, each once, with state and cost.

Starts and writes nothing. Two rows, of one table or of two, whose resolved configs are equal need
one run; it carries the label of the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from repro.config.identity import run_id, run_ids, slug
from repro.config.schema import RunConfig
from repro.errors import UserError
from repro.harness.evaluation.names import check_given, evaluations
from repro.harness.evaluation.requests import benchmark_of, request_for, without_data
from repro.harness.evaluation.stage import missing
from repro.harness.experiments.clusters import Cluster
from repro.harness.experiments.experiment import Experiment, Row, row_config, select
from repro.harness.experiments.folders import published_in
from repro.harness.plan.cost import Cost, estimate
from repro.harness.runs.planned import PlannedRun
from repro.harness.runs.published import readable
from repro.harness.runs.states import EvaluationState, State
from repro.harness.runs.store import RunFolder, find_runs
from repro.harness.status.overview import Overview, overview

SETTLED = (State.done, State.running, State.damaged)
UNEVALUATED = (EvaluationState.missing, EvaluationState.failed)


@dataclass(frozen=True)
class Plan:
    """`skipped` holds (experiment, row, why); `cost` is None where nothing comparable finished;
    `without_data` are the benchmarks that have neither a folder here nor a stand-in.
    """

    runs: tuple[PlannedRun, ...]
    skipped: tuple[tuple[str, str, str], ...]
    cost: Cost | None
    without_data: tuple[str, ...] = ()

    @property
    def todo(self) -> tuple[PlannedRun, ...]:
        """What a submission would train: everything but done, running and sent ones."""
        return tuple(run for run in self.runs if to_do(run))

    @property
    def to_evaluate(self) -> tuple[PlannedRun, ...]:
        """Trained runs that lack a protocol and have no job that will run it."""
        return tuple(run for run in self.runs if to_evaluate(run))


def plan(
    references: Sequence[str],
    scale: str,
    seeds: int,
    results: Path,
    cluster: Cluster | None = None,
) -> Plan:
    """The runs of `references` (`T7`, `F7:both`, `all`) for seeds 0 to `seeds` - 1.

    Args:
        cluster: where its evaluations find their benchmarks.

    Raises:
        UserError: unknown experiment, row or scale; a mistake in a file; no seeds.
    """
    return plan_rows(select(references), scale, seeds, results, cluster)


def plan_rows(
    selection: Sequence[tuple[Experiment, Sequence[Row]]],
    scale: str,
    seeds: int,
    results: Path,
    cluster: Cluster | None = None,
) -> Plan:
    """The same of experiments that are at hand, with some of their rows."""
    if seeds < 1:
        raise UserError(f"--seeds {seeds}: at least 1")
    folders = {folder.id: folder for folder in find_runs(results / "runs")}
    runs: dict[str, PlannedRun] = {}
    skipped = []
    for experiment, rows in selection:
        for row in rows:
            if why := row.why_not(scale):
                skipped.append((experiment.id, row.name, str(why)))
                continue
            for variant in experiment.runs_a_row:
                base = row_config(experiment, row, scale, 0, variant)
                if cluster:
                    base = cluster.with_benchmarks(base)
                sources = experiment.sources(row, variant)
                check_given(sources, f"{experiment.path}: row {row.name}: metrics")
                needed = evaluations(sources)
                for seed, identity in enumerate(run_ids(base, range(seeds))):
                    run = _planned(identity, replace(base, seed=seed), folders, needed)
                    if run.id in runs:
                        run = _joined(runs[run.id], run)
                    runs[run.id] = run
    seen = overview([folders[run.id] for run in runs.values() if run.id in folders], results)
    ids = {run.id for run in readable(published_in(results) / scale / "records.jsonl")}
    viewed = (replace(with_view(run, seen), published=run.id in ids) for run in runs.values())
    known = tuple(_not_yet_asked(run, folders.get(run.id)) for run in viewed)
    todo = {run.id: run.config for run in known if to_do(run)}
    requests = [request_for(name, run.config) for run in known for name in run.requests]
    lacking = sorted({benchmark_of(one.data) for one in requests if without_data(one)})
    return Plan(known, tuple(skipped), estimate(todo, scale, results), tuple(lacking))


def _joined(first: PlannedRun, second: PlannedRun) -> PlannedRun:
    """One run that serves the rows of both."""
    requests = tuple(dict.fromkeys(first.requests + second.requests))
    return replace(first, serves=first.serves + second.serves, requests=requests)


def _not_yet_asked(run: PlannedRun, folder: RunFolder | None) -> PlannedRun:
    """A finished run lacks an evaluation also before its folder has been asked for it."""
    evaluated = run.evaluation in (EvaluationState.none, EvaluationState.done)
    if folder and run.state is State.done and evaluated:
        requests = (request_for(name, run.config) for name in run.requests)
        if missing(folder, [one for one in requests if not without_data(one)]):
            return replace(run, evaluation=EvaluationState.missing)
    return run


def to_do(run: PlannedRun) -> bool:
    return run.state not in SETTLED and not run.sent


def to_evaluate(run: PlannedRun) -> bool:
    return run.state is State.done and run.evaluation in UNEVALUATED


def with_view(run: PlannedRun, seen: Overview) -> PlannedRun:
    """The run as an overview found it; one without a folder stays without a state."""
    view = seen.views.get(run.id)
    if view is None:
        return run
    damage = view.cause.line if view.cause and view.state is State.damaged else ""
    state, evaluation = view.state, view.evaluation
    return replace(run, state=state, sent=view.sent, evaluation=evaluation, damage=damage)


def planned_run(config: RunConfig, folders: dict[str, RunFolder]) -> PlannedRun:
    """One run as its label and its folder, if there is one, name it; its state is not looked at."""
    return _planned(run_id(config), config, folders, ())


def _planned(
    identity: str, config: RunConfig, folders: dict[str, RunFolder], requests: tuple[str, ...]
) -> PlannedRun:
    label = config.label
    folder = folders.get(identity)
    return PlannedRun(
        id=identity,
        experiment=label.experiment,
        row=label.row,
        seed=config.seed,
        state=None,
        config=config,
        slug=folder.slug if folder else slug(config, label.experiment, label.row),
        serves=((label.experiment, label.row),),
        requests=requests,
    )
