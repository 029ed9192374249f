"""Experiments drawn again and again: as records for `judge_ours`, or ten thousand at once.

A `World` (`worlds.py`) has what every run of every repetition measures. `verdicts` takes one
repetition through the whole of the evidence, as real records are; `decided` takes all of them
through the same statements and tables, whose values have an axis of repetitions. The tests hold one
to the other.

Shapes: R rows, N seeds, E points of a curve, B repetitions.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import yaml
from msgspec import structs

from analysis.evidence.evidence import Evidence
from analysis.evidence.model import Table
from analysis.verdicts.claims import judge_ours
from analysis.verdicts.family import ALPHA, Family, family_of
from analysis.verdicts.quantities import LEAST_SHARE, MOST_SHARE
from analysis.verdicts.statement import Bound, P, Statement
from repro.config.identity import SCHEMA, canonical, run_id
from repro.dino.sentinel import (
    INFORMATION_LIMIT,
    KL_LIMIT,
    SPREAD_LIMIT,
    judge,
    judge_vectors,
)
from repro.harness.experiments.experiment import Experiment, load
from repro.harness.runs.environment import Environment
from repro.harness.runs.records import Counts, Record, SentinelReport, Times
from tests.analysis.verdicts.simulated.noises import Array
from tests.analysis.verdicts.simulated.scenes import EVALUATIONS, ROWS, STEPS, Scene
from tests.analysis.verdicts.simulated.worlds import ACCURACIES, LOG_K, RANDOM, World

LAST, EVERY = round(EVALUATIONS[-1]), round(EVALUATIONS[0])  # epochs


@dataclass(frozen=True, eq=False)
class Simulated(Evidence):
    """Evidence of one experiment, which is in no folder of the repository."""

    file: Experiment

    def experiment(self, name: str) -> Experiment:
        assert name == self.file.id, name
        return self.file


@dataclass(frozen=True)
class Stage:
    """One experiment file with the claims of a scene, at the paper's own scale."""

    scene: Scene
    experiment: Experiment
    bare: Simulated = field(repr=False)

    @classmethod
    def of(cls, scene: Scene, folder: Path) -> Stage:
        """Args: folder: has what experiments are composed of, `base` and `scales`."""
        metrics = [{"key": key, "title": key, "unit": "%", "decimals": 1} for key in ACCURACIES]
        speed = {"key": "im_s", "title": "speed", "unit": "1/s", "decimals": 0}
        content = {
            "id": "X1",
            "kind": "table",
            "title": f"Claims of kind {scene.kind}",
            "where": "nowhere",
            "source": ["S1"],
            "question": "Are the verdicts calibrated?",
            "layout": [],
            "also": {"optim.weight_decay_end": "makes a row another run than all others"},
            "metrics": [*metrics, speed],
            "baseline": {"train.epochs": LAST, "eval.every_epochs": EVERY},
            "rows": [
                {"name": f"r{r}", "label": f"r{r}", "overrides": _own(r), "reported": {"knn": 70.0}}
                for r in range(ROWS)
            ],
            "claims": [
                {"id": f"C.{i}", "statement": f"claim {i}", "portability": "M", **claim}
                for i, claim in enumerate(scene.claims)
            ],
        }
        path = folder / "X1.yaml"
        path.write_text(yaml.safe_dump(content))
        experiment = load(path)
        return cls(scene, experiment, Simulated("paper", {}, file=experiment))

    @cached_property
    def with_first_claim(self) -> Stage:
        return replace(
            self, experiment=structs.replace(self.experiment, claims=self.experiment.claims[:1])
        )

    @cached_property
    def asked(self) -> set[int]:
        """The rows that claims are made of."""
        bodies = [claim.body for claim in self.experiment.claims]
        addresses = [a for body in bodies for a in (*body.row_addresses(), *body.cell_addresses())]
        return {int(address.split(".")[1].removeprefix("r")) for address in addresses}

    @cached_property
    def identities(self) -> dict[str, int]:
        return {row.identity(): r for r, row in enumerate(self.bare.rows(self.experiment))}

    def evidence(self, world: World, b: int = 0) -> Evidence:
        """One repetition as records."""
        records = {}
        for r, row in enumerate(self.bare.rows(self.experiment)):
            for seed in range(world.seeds_R[r]):
                config = replace(row.config(), seed=seed)
                made = _record(world, r, seed, b, run_id(config), canonical(config))
                records[made.id] = made
        return Simulated("paper", records, file=self.experiment).knowing(self.bare)

    def verdicts(self, world: World, b: int) -> list[str]:
        judged = judge_ours(self.experiment, self.evidence(world, b))
        return [str(one.verdict) for one in judged]

    def decided(self, world: World) -> Decided:
        """All repetitions, those at once of which the same rows are healthy."""
        states, group_B = np.unique(world.healthy_RB, axis=1, return_inverse=True)
        shape = len(self.experiment.claims), world.repetitions
        found = Decided(np.zeros(shape, bool), np.zeros(shape, bool))
        for group in range(states.shape[1]):
            chosen_B = group_B == group
            alike = world.of(chosen_B)
            family = family_of(self.experiment, self.evidence(alike))
            one = _decided(family, self._tables(family, alike))
            found.confirmed[:, chosen_B] = one.confirmed
            found.contradicted[:, chosen_B] = one.contradicted
        return found

    def _tables(self, family: Family, world: World) -> dict[Table, Table]:
        """With values of all repetitions, for those of one."""
        found = {}
        for statement in _statements(family):
            assert statement.expression is not None, statement.missing
            for bound in statement.expression.bounds():
                for table, _ in bound.terms:
                    if table in found:
                        continue
                    if table.values.keys() <= self.identities.keys():
                        values = self._of_rows(table, world)
                    else:
                        values = self._of_curves(statement, table, world)
                    assert values.keys() == table.values.keys(), table.name
                    by_seed = {
                        name: dict(enumerate(values[name][: len(its)]))
                        for name, its in table.values.items()
                    }
                    found[table] = replace(table, values=by_seed)
        return found

    def _of_rows(self, table: Table, world: World) -> dict[str, Array]:
        values_RNB = _values(table.name, world.metrics)
        return {name: values_RNB[self.identities[name]] for name in table.values}

    def _of_curves(self, statement: Statement, table: Table, world: World) -> dict[str, Array]:
        assert isinstance(statement.key, tuple)
        rows = [self.identities[name] for name in statement.key if name in self.identities]
        its = {name: [curve[r] for r in rows] for name, curve in world.curves.items()}
        epochs, values_NEB = _curve(table.name, its)
        return {
            f"{e:g}": values_NEB[:, i] for i, e in enumerate(epochs) if f"{e:g}" in table.values
        }


def _own(r: int) -> dict[str, Any]:
    """What makes a row another run than all others."""
    return {"optim.weight_decay_end": 0.4 + r / 100}


def _record(world: World, r: int, seed: int, b: int, identity: str, config: Any) -> Record:
    metrics = {name: float(values[r, seed, b]) for name, values in world.metrics.items()}
    lacking = ("entropy", "kl", "mean_entropy", "cross_entropy")
    if math.isnan(metrics["output_spread"]):
        lacking = ("output_spread",)
    its = {name: curve[r, seed, :, b].tolist() for name, curve in world.curves.items()}
    curves = {
        "epoch": STEPS,
        "entropy": its["h"],
        "kl": its["kl"],
        "loss": [seed + r / 10 for _ in STEPS],
        "eval": {"epoch": EVALUATIONS, "knn": its["knn"], "student_knn": its["student_knn"]},
    }
    loss, h, kl, mean_h = (metrics[k] for k in ("cross_entropy", "entropy", "kl", "mean_entropy"))
    state = judge(loss, h, kl, mean_h, LOG_K)
    if "output_spread" not in lacking:
        state = judge_vectors(loss, metrics["output_spread"])
    if r == world.collapsed:
        state = "constant"
    return Record(
        schema=SCHEMA,
        id=identity,
        slug=f"X1-r{r}-s{seed}",
        scale="paper",
        seed=seed,
        config=config,
        metrics={k: v for k, v in metrics.items() if k not in lacking}
        | {"knn_random": RANDOM + 10.0, "log_K": LOG_K},
        sentinel=msgspec.convert({"state": state, "since_step": 1, "meaning": ""}, SentinelReport),
        counts=Counts(test_images=world.images),
        undecoded_curves=msgspec.Raw(json.dumps(curves).encode()),
        env=Environment(git_sha="0123456789abcdef", dirty=False),
        times=Times(),
    )


def _log10(values: Array, limit: float) -> Array:
    return np.log10(np.maximum(values, limit / 100))


def _logit(share: Array) -> Array:
    share = np.clip(share, LEAST_SHARE, MOST_SHARE)
    return np.log(share / (1 - share))


def _values(name: str, metrics: Mapping[str, Array]) -> Array:
    """Of a table of rows, by its name."""
    share = metrics["entropy"] / LOG_K
    match name:
        case "KL":
            return _log10(metrics["kl"], KL_LIMIT)
        case "h/ln K":
            return _logit(share)
        case "h/ln K of the batch mean":
            return _logit(metrics["mean_entropy"] / LOG_K)
        case "information on the image, of ln K":
            return _log10(metrics["mean_entropy"] / LOG_K - share, INFORMATION_LIMIT)
        case "spread of outputs":
            return _log10(metrics["output_spread"], SPREAD_LIMIT)
        case "loss / ln K":
            return metrics["cross_entropy"] / LOG_K
        case "k-NN gained":
            return metrics["knn"] - (RANDOM + 10.0)
        case "log im_s":
            return np.log(metrics["im_s"])
        case "+1 linear -1 knn" | "-1 linear +1 knn" | "-1 knn +1 linear" | "+1 knn -1 linear":
            sign = 1.0 if "+1 linear" in name else -1.0
            return sign * (metrics["linear"] - metrics["knn"])
    return metrics[name]


def _curve(name: str, its: Mapping[str, Sequence[Array]]) -> tuple[tuple[float, ...], Array]:
    """Of a table of epochs, by its name: the epochs, and values N x E x B."""
    knn, kl = its["knn"], np.log10(np.maximum(its["kl"][0], KL_LIMIT / 100))
    match name:
        case "h/ln K":
            return STEPS, _logit(its["h"][0] / LOG_K)
        case "fall of h":
            share = its["h"][0] / LOG_K
            return STEPS, share - share[:, -1:]
        case "KL over its first":
            return STEPS, kl - kl[:, :1]
        case "KL over its last":
            return STEPS, kl - kl[:, -1:]
        case "knn - student_knn":
            return EVALUATIONS, knn[0] - its["student_knn"][0]
        case "knn over its end":
            return EVALUATIONS, knn[0] - knn[0][:, -1:]
    assert " - " in name, name
    return EVALUATIONS, knn[1] - knn[0]


@dataclass(frozen=True)
class Decided:
    """By claim and repetition."""

    confirmed: npt.NDArray[np.bool_]
    contradicted: npt.NDArray[np.bool_]

    @property
    def any_confirmed(self) -> float:
        return float(self.confirmed.any(axis=0).mean())

    @property
    def any_contradicted(self) -> float:
        return float(self.contradicted.any(axis=0).mean())

    @property
    def any(self) -> float:
        """Share of repetitions in which some claim is decided, either way."""
        return float((self.confirmed | self.contradicted).any(axis=0).mean())


def _statements(family: Family) -> list[Statement]:
    return [statement for its in family.statements.values() for statement in its]


def _decided(family: Family, tables: Mapping[Table, Table]) -> Decided:
    def tested(bound: Bound) -> P:
        drawn = replace(bound, terms=tuple((tables[table], w) for table, w in bound.terms))
        return drawn.tested(drawn.estimate)

    judged: dict[Any, P] = {}
    for statement in _statements(family):
        if statement.key not in judged:
            assert statement.expression is not None, statement.missing
            judged[statement.key] = statement.expression.judge(tested)
    assert len(judged) == family.size, (len(judged), family.size)
    p_MB = np.sort([np.minimum(*p) for p in judged.values()], axis=0)
    steps_M1 = (family.size - np.arange(family.size))[:, None]
    decided_B = np.logical_and.accumulate(p_MB < ALPHA / steps_M1, axis=0).sum(axis=0)
    level_B = ALPHA / np.maximum(1, family.size - decided_B)
    # A statement may be made the other way round by another claim: judge each as it stands.
    confirmed, contradicted = [], []
    for its in family.statements.values():
        p = [s.expression.judge(tested) for s in its if s.expression is not None]
        against = np.any([one.contradicting < level_B for one in p], axis=0)
        speaks = np.all([one.confirming < level_B for one in p], axis=0)
        contradicted.append(against)
        confirmed.append(speaks & ~against)
    return Decided(np.array(confirmed), np.array(contradicted))
