"""Which evaluations a run is asked for: from the columns of an experiment to files in a run folder.

A column of a table names a number: `knn` and other numbers of the training itself, `linear`, or
`jaccard@voc12`, a number of a protocol on a benchmark. `PROTOCOLS` says which protocol gives which
numbers. A request for one, `linear` or `attention@voc12`, is a file in the run's `evaluations`
folder, so that a job that receives a run folder finds all it needs there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from repro.config import RunConfig
from repro.harness.files import read_json, write_json
from repro.harness.store import RunFolder

LOW_SHOT = {"1pct": 0.01, "10pct": 0.1}  # of the run's own training images (App. A)
REQUEST = ".request.json"


@dataclass(frozen=True)
class Protocol:
    """What it measures, for people, and the numbers that it leaves. `tiers`: each number twice,
    `x` as the authors' script computes it and `x_clean` by the benchmark's own definition.
    """

    about: str
    metrics: tuple[str, ...]
    tiers: bool = False
    benchmarks: tuple[str, ...] = ()  # the paper's, where it needs data of its own kind
    settings: tuple[str, ...] = ()  # keys of `config.Protocols`


PROTOCOLS: Mapping[str, Protocol] = {
    "knn": Protocol(
        "weighted k-NN for k = 10, 20, 100, 200", ("knn_10", "knn_20", "knn_100", "knn_200")
    ),
    "linear": Protocol(
        "a sweep of linear probes", ("linear",), tiers=True, settings=("linear_epochs",)
    ),
    "blocks": Protocol(
        "linear probes on the [CLS] of the last 1, 2, 4 and 6 blocks (App. F.2)",
        ("linear_l1", "linear_l2", "linear_l4", "linear_l6"), tiers=True,
        settings=("linear_epochs",),
    ),
    "pooling": Protocol(
        "linear probes without and with the mean patch token (App. F.2)",
        ("linear_cls", "linear_cls_avg"), tiers=True, settings=("linear_epochs",),
    ),
    "logistic": Protocol("logistic regression", ("logistic",), tiers=True),
    "finetune": Protocol(
        "finetuning by DeiT's recipe", ("finetune",), tiers=True,
        settings=("finetune_epochs", "finetune_batch", "finetune_lr"),
    ),
    "attention": Protocol(
        "Jaccard index of the last layer's self-attention",
        ("jaccard", "jaccard_random"), tiers=True, benchmarks=("voc12",),
    ),
    "retrieval": Protocol(
        "image retrieval, mAP", ("map_medium", "map_hard"), tiers=True,
        benchmarks=("roxford5k", "rparis6k"),
    ),
    "copies": Protocol(
        "copy detection, mAP", ("copy_map",), tiers=True, benchmarks=("copydays",)
    ),
    "video": Protocol(
        "video object segmentation, J and F", ("jf_mean", "j_mean", "f_mean"), tiers=True,
        benchmarks=("davis17",),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Request:
    """`protocol` on the benchmark `data` (empty: the run's own data), for which `source` stands at
    this scale, in the folder `root`.
    """

    protocol: str
    data: str = ""
    source: str = ""
    root: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.protocol}@{self.data}" if self.data else self.protocol

    def same_numbers(self, made: Mapping[str, Any]) -> bool:
        """Whether an evaluation made for the request `made` answers this one; folders may move."""
        ours = asdict(self) | {"settings": dict(self.settings)}
        return all(made.get(key) == ours[key] for key in ours if key != "root")


def numbers(protocol: str) -> list[str]:
    """The metrics that a protocol leaves."""
    known = PROTOCOLS[protocol]
    return [f"{m}{tier}" for m in known.metrics for tier in ("", "_clean")[: 1 + known.tiers]]


def protocol_of(metric: str) -> str:
    """The request that a metric such as `jaccard@voc12` needs; empty for training's own numbers."""
    name, _, data = metric.partition("@")
    for protocol in PROTOCOLS:
        if name in numbers(protocol):
            return f"{protocol}@{data}" if data else protocol
    return ""


def evaluations(metrics: Iterable[str]) -> tuple[str, ...]:
    """The requests that these metrics need, each once."""
    return tuple(dict.fromkeys(name for name in map(protocol_of, metrics) if name))


def tier_of(metric: str) -> str:
    """official, clean, or empty where the two do not differ."""
    name = metric.partition("@")[0]
    for protocol in PROTOCOLS.values():
        if protocol.tiers and name.removesuffix("_clean") in protocol.metrics:
            return "clean" if name.endswith("_clean") else "official"
    return ""


def request(name: str, config: RunConfig) -> Request:
    """What `linear` or `attention@voc12` means for a run of this scale and cluster."""
    protocol, _, data = name.partition("@")
    settings = {key: getattr(config.protocols, key) for key in PROTOCOLS[protocol].settings}
    source = config.protocols.stand_ins.get(data, data)
    root = config.paths.benchmarks.get(source, config.paths.benchmarks.get(data, ""))
    return Request(protocol, data, source, root, settings)


def without_data(wanted: Request) -> bool:
    """Whether the benchmark has neither a stand-in at this scale nor a folder on this cluster."""
    return bool(wanted.data) and not (
        wanted.root or wanted.data in LOW_SHOT or wanted.source != wanted.data
    )


def ask(folder: RunFolder, names: Iterable[str], config: RunConfig) -> None:
    """Leave requests in a run folder; those without data are left out."""
    for name in names:
        wanted = request(name, config)
        if without_data(wanted):
            continue
        file = _file(folder, name)
        if read_json(file) != asdict(wanted):
            file.parent.mkdir(exist_ok=True)
            write_json(file, asdict(wanted))


def asked(folder: RunFolder) -> dict[str, Request]:
    """The requests in a run folder, by name."""
    files = sorted((folder.path / "evaluations").glob(f"*{REQUEST}"))
    found = (read_json(file) for file in files)
    requests = [Request(**content) for content in found if content]
    return {one.name: one for one in requests}


def _file(folder: RunFolder, name: str) -> Path:
    return folder.path / "evaluations" / f"{name}{REQUEST}"
