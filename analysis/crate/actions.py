"""What was done, as a crate tells it: trainings, evaluations of them, and repetitions elsewhere.

Commits go by their Software Heritage identifiers, packages by package URLs; what a run noted of its
machine are the resources that it used.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import msgspec

from analysis.crate.graph import Graph, Ref, fragment, moment
from repro.harness.experiments.address import Address
from repro.harness.runs.environment import Environment
from repro.harness.runs.published import Candidate
from repro.harness.runs.records import PublishedEvaluation, Record, Replication

RECORDS, EVALUATIONS, REPLICATIONS = "records.jsonl", "evaluations.jsonl", "replications.jsonl"
PACKAGES = ("python", "torch", "torchvision", "timm", "numpy")


@dataclass(frozen=True)
class Actions:
    """What was done: trainings, evaluations of them, and repetitions elsewhere."""

    graph: Graph
    folder: str
    agents: Sequence[Ref]

    def training(self, one: Candidate[Record], rows: Sequence[Address]) -> Ref:
        run = one.line
        experiments = dict.fromkeys(row.experiment for row in rows)
        names = ", ".join(map(str, rows)) or "no row of today's experiments"
        inputs = [
            *({"@id": f"experiments/{name}.yaml"} for name in experiments),
            {"@id": f"experiments/scales/{run.scale}.yaml"},
            *(self.graph.value("row", str(row)) for row in rows),
            self.graph.value("seed", run.seed),
            self.graph.value("data", run.config["data"]["name"]),
        ]
        if run.env.data is not None:
            inputs.append(self.graph.value("training images", run.env.data.train))
        wall = run.times.wall_seconds
        return self._action(
            f"#run-{run.id}",
            f"training {run.slug}",
            f"{names}; seed {run.seed}; {line_of(one)} of {RECORDS}",
            run.env,
            inputs,
            [self._lines(RECORDS), self.graph.value("record", run.id)],
            {"startTime": run.times.started, "endTime": run.times.ended},
            [] if wall is None else [self.graph.value("wall seconds", round(wall, 1))],
        )

    def evaluation(self, one: Candidate[PublishedEvaluation]) -> Ref:
        made = one.line
        return self._action(
            fragment(f"evaluation {line_of(one)}"),
            f"evaluation {made.name} of {made.slug}",
            f"of the checkpoint of step {made.step}; {line_of(one)} of {EVALUATIONS}",
            made.env,
            [self.graph.value("record", made.run), self.graph.value("protocol", made.name)],
            [self._lines(EVALUATIONS)],
        )

    def replication(self, one: Candidate[Replication]) -> Ref:
        line = one.line
        return self._action(
            fragment(f"replication {line_of(one)}"),
            f"repetition of {line.slug}",
            f"{line.agreement}; {line_of(one)} of {REPLICATIONS}",
            line.env,
            [self.graph.value("record", line.run)],
            [self._lines(REPLICATIONS)],
            {"startTime": line.started},
        )

    def _action(
        self,
        identity: str,
        name: str,
        description: str,
        env: Environment,
        inputs: Sequence[Ref],
        results: Sequence[Ref],
        times: Mapping[str, float | None] = MappingProxyType({}),
        resources: Sequence[Ref] = (),
    ) -> Ref:
        return self.graph.entity(
            identity,
            "CreateAction",
            name=name,
            description=description,
            instrument=list(self._software(env)),
            object=list(inputs),
            result=list(results),
            agent=list(self.agents),
            actionStatus="http://schema.org/CompletedActionStatus",
            resourceUsage=[*self._machine(env), *resources],
            **{key: moment(time) for key, time in times.items() if time is not None},
        )

    def _software(self, env: Environment) -> Iterator[Ref]:
        """The code first, then what it was built upon."""
        sha = env.git_sha or "unknown"
        changed = "" if env.committed else ", with changes that were not committed"
        yield self.graph.entity(
            fragment(f"{sha}{changed}") if changed else f"swh:1:rev:{sha}",
            "SoftwareSourceCode",
            name=f"dino-repro at commit {sha[:10]}{changed}",
            version=sha,
            author=list(self.agents),
        )
        for name in PACKAGES:
            if version := getattr(env, name):
                kind = "generic" if name == "python" else "pypi"
                about = {"name": name, "softwareVersion": version}
                yield self.graph.entity(
                    f"pkg:{kind}/{name}@{version}", "SoftwareApplication", **about
                )

    def _machine(self, env: Environment) -> Iterator[Ref]:
        hardware = {} if env.hardware is None else msgspec.to_builtins(env.hardware)
        for name, value in {"platform": env.platform, **hardware}.items():
            if value is not None:
                yield self.graph.value(name, value)

    def _lines(self, name: str) -> Ref:
        """A published file."""
        return {"@id": f"{self.folder}/{name}"}


def line_of(one: Candidate[Any]) -> str:
    """`line 3`, the end of where it stands."""
    return one.where.rpartition(": ")[2]
