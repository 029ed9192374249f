"""Which evaluations a run is asked for: from the columns of an experiment to files in a run folder.

A column of a table names a number: `knn` and other numbers of the training itself, `linear`, or
`jaccard@voc12`, a number of a protocol on a benchmark (`names.py`). A request for one,
`linear` or `attention@voc12`, is a file in the run's `evaluations`
folder, so that a job that receives a run folder finds all it needs there.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from repro.config.schema import RunConfig
from repro.files import write_json
from repro.harness.evaluation.classification import LOW_SHOT
from repro.harness.evaluation.names import PROTOCOLS
from repro.harness.runs.evaluations import Request, read_request
from repro.harness.runs.store import RunFolder

REQUEST = ".request.json"


def request_for(name: str, config: RunConfig) -> Request:
    """What `linear` or `attention@voc12` means for a run of this scale and cluster."""
    protocol, _, data = name.partition("@")
    settings = {key: getattr(config.protocols, key) for key in PROTOCOLS[protocol].settings}
    benchmark, folders = benchmark_of(data), config.paths.benchmarks
    source = config.protocols.stand_ins.get(benchmark, benchmark)
    root = folders.get(source, folders.get(benchmark, ""))
    return Request(protocol, data, source, root, settings)


def benchmark_of(data: str) -> str:
    """copydays of copydays-224 (its images at that size), places205 of places205-1pct."""
    return data.partition("-")[0]


def without_data(request: Request) -> bool:
    """Whether the benchmark has neither a stand-in at this scale nor a folder on this cluster."""
    benchmark = benchmark_of(request.data)
    return bool(benchmark) and not (
        request.root or benchmark in LOW_SHOT or request.source != benchmark
    )


def ask(folder: RunFolder, names: Iterable[str], config: RunConfig) -> None:
    """Leave requests in a run folder; those without data are left out."""
    for name in names:
        request = request_for(name, config)
        if without_data(request):
            continue
        file = _file(folder, name)
        if read_request(file) != request:
            file.parent.mkdir(exist_ok=True)
            write_json(file, asdict(request))


def requests_in(folder: RunFolder) -> dict[str, Request]:
    """The requests in a run folder, by name."""
    files = sorted((folder.path / "evaluations").glob(f"*{REQUEST}"))
    requests = [request for file in files if (request := read_request(file))]
    return {request.name: request for request in requests}


def _file(folder: RunFolder, name: str) -> Path:
    return folder.path / "evaluations" / f"{name}{REQUEST}"
