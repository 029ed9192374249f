"""Published results as a research object: an RO-Crate, of which machines can ask what was run.

It holds the records, tables, figures and notes of a scale and the experiment files, and says of
every training, evaluation and repetition which code, versions and hardware made it, of which rows,
when, and where its numbers stand: Process Run Crate 0.5 (Leo et al. 2024) on RO-Crate 1.1. Nothing
depends on the day: the same published folder gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from msgspec import Struct

from analysis.crate.actions import EVALUATIONS, RECORDS, REPLICATIONS, Actions
from analysis.crate.graph import Graph, Ref, fragment, moment, single
from analysis.evidence.evidence import Evidence, published_dir, published_evidence
from repro.decode import decode, read_yaml
from repro.errors import UserError
from repro.harness.experiments.address import Address
from repro.harness.experiments.experiment import experiment_ids
from repro.harness.experiments.folders import experiments_dir
from repro.harness.runs.published import read
from repro.harness.runs.records import PublishedEvaluation, Record, Replication

PROFILE = "https://w3id.org/ro/wfrun/process/0.5"
METADATA = "ro-crate-metadata.json"
EXPERIMENTS = ("*.yaml", "base/**/*", "scales/*.yaml")


class Author(Struct, frozen=True, rename="kebab"):
    name: str = ""
    given_names: str = ""
    family_names: str = ""


class Reference(Struct, frozen=True):
    title: str
    authors: tuple[Author, ...]
    year: int
    doi: str
    identifiers: tuple[dict[str, str], ...] = ()


class Citation(Struct, frozen=True):
    """What of CITATION.cff is told."""

    title: str
    abstract: str
    version: str
    license: str
    authors: tuple[Author, ...]
    references: tuple[Reference, ...]
    keywords: tuple[str, ...] = ()


@dataclass(frozen=True)
class Exported:
    """What a crate holds."""

    metadata: Path
    files: int
    runs: int
    evaluations: int
    replications: int


def export_crate(target: Path, scale: str) -> Exported:
    """Write the crate of a scale's published results into an empty folder, or one that is not yet.

    Raises:
        UserError: nothing is published, or not all of it can be believed; a folder with something
            in it; no CITATION.cff; no library rocrate.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UserError(f"{target}: something is there; name an empty folder or a new one")
    folder = published_dir(scale)
    runs = read(folder / RECORDS, Record)
    evaluations = read(folder / EVALUATIONS, PublishedEvaluation)
    replications = read(folder / REPLICATIONS, Replication)
    evidence = published_evidence(scale)
    for fault in (*evidence.faults, *replications.refused):
        raise UserError(f"{fault}; repro verify --scale {scale}")
    if not runs.candidates:
        raise UserError(f"{folder}: no {RECORDS}; repro publish all --scale {scale}")

    graph, citation = Graph(), _citation()
    places = _places(folder, scale)
    titles = {name: evidence.experiment(name).title for name in experiment_ids()}
    for place, path in places.items():
        graph.file(path, place, titles.get(path.stem, ""))
    agents = [_agent(graph, author) for author in citation.authors]
    told = Actions(graph, f"results/published/{scale}", agents)
    rows = _rows(evidence)
    actions = [
        *(told.training(one, rows.get(one.line.id, ())) for one in runs.candidates),
        *map(told.evaluation, evaluations.candidates),
        *map(told.replication, replications.candidates),
    ]
    last = max(one.line.times.ended or 0.0 for one in runs.candidates)
    _describe(graph, citation, scale, agents, last)
    graph.crate.root_dataset["mentions"] = actions
    graph.crate.write(target)
    numbers = (len(one.candidates) for one in (runs, evaluations, replications))
    return Exported(target / METADATA, len(places), *numbers)


def _citation() -> Citation:
    file = experiments_dir().parent / "CITATION.cff"
    return decode(read_yaml(file), Citation, str(file))


def _places(folder: Path, scale: str) -> Mapping[str, Path]:
    """Files by their places in the crate: those in the repository, so that links between them hold.

    Args:
        folder: the published one.
    """
    experiments = experiments_dir()
    places = {name: experiments.parent / name for name in ("CITATION.cff", "LICENSE")}
    for pattern in EXPERIMENTS:
        for path in sorted(experiments.glob(pattern)):
            places[f"experiments/{path.relative_to(experiments).as_posix()}"] = path
    places["results/published/SCHEMA.md"] = folder.parent / "SCHEMA.md"
    for path in sorted(folder.glob("[!.]*")):
        places[f"results/published/{scale}/{path.name}"] = path
    return {place: path for place, path in places.items() if path.is_file()}


def _rows(evidence: Evidence) -> Mapping[str, Sequence[Address]]:
    """The rows that each record serves, by its id."""
    served: dict[str, list[Address]] = {}
    for experiment in map(evidence.experiment, experiment_ids()):
        for row in evidence.rows(experiment):
            for run in row.all_runs:
                served.setdefault(run.id, []).append(row.address)
    return served


def _agent(graph: Graph, author: Author) -> Ref:
    if author.name:
        return graph.entity(fragment(author.name), "Organization", name=author.name)
    given, family = author.given_names, author.family_names
    name = f"{given} {family}"
    names = {"name": name, "givenName": given, "familyName": family}
    return graph.entity(fragment(name), "Person", **names)


def _describe(
    graph: Graph, citation: Citation, scale: str, agents: Sequence[Ref], last: float
) -> None:
    """The crate as a whole, its licence, and the paper that it reproduces.

    Args:
        last: when the last of its runs ended.
    """
    licence = graph.entity(
        f"https://spdx.org/licenses/{citation.license}",
        "CreativeWork",
        name=citation.license,
        description="the licence of code, records, tables and figures: see the file LICENSE",
    )
    version = PROFILE.rpartition("/")[2]
    profile = graph.entity(PROFILE, "CreativeWork", name="Process Run Crate", version=version)
    papers = [
        graph.entity(
            f"https://doi.org/{paper.doi}",
            "ScholarlyArticle",
            name=paper.title,
            author=[_agent(graph, author) for author in paper.authors],
            datePublished=str(paper.year),
            identifier=[f"doi:{paper.doi}", *(one["value"] for one in paper.identifiers)],
        )
        for paper in citation.references
    ]
    root = graph.crate.root_dataset
    root["name"] = f"{citation.title}: results at {scale} scale"
    root["description"] = " ".join(citation.abstract.split())
    root["version"] = citation.version
    root["keywords"] = list(citation.keywords)
    root["datePublished"] = moment(last)
    root["conformsTo"], root["license"], root["citation"] = profile, licence, single(papers)
    root["author"] = root["publisher"] = single(list(agents))
