"""The evaluation protocols of the paper by name, and the numbers that each of them leaves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

THROUGHPUT = "throughput"  # which needs no data
FINETUNE = ("finetune_epochs", "finetune_batch", "finetune_lr")


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
        "finetuning by DeiT's recipe", ("finetune",), tiers=True, settings=FINETUNE,
    ),
    "scratch": Protocol(
        "the same from random weights (Table 11)", ("scratch",), tiers=True, settings=FINETUNE,
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
    THROUGHPUT: Protocol(
        "128 images a forward pass, inference: images per second and peak memory",
        ("images_per_second", "peak_memory_GB"),
    ),
}  # fmt: skip


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


def clean_tier(metric: str) -> str:
    """The same number of the clean tier: linear_clean of linear; empty where there is none."""
    name, at, data = metric.partition("@")
    return f"{name}_clean{at}{data}" if tier_of(metric) == "official" else ""
