"""The evaluation protocols of the paper by name: a new one is a function and its entry here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from repro.harness.evaluation import benchmarks, classification
from repro.harness.evaluation.protocol import Kind, Protocol

THROUGHPUT = "throughput"  # which needs no data
FINETUNE = ("finetune_epochs", "finetune_batch", "finetune_lr")

PROTOCOLS: Mapping[str, Protocol] = {
    "knn": Protocol(
        "weighted k-NN for k = 10, 20, 100, 200", Kind.knn,
        ("knn_10", "knn_20", "knn_100", "knn_200"), classification.knn,
    ),
    "linear": Protocol(
        "a sweep of linear probes", Kind.linear, ("linear",), classification.linear, tiers=True,
        settings=("linear_epochs",),
    ),
    "blocks": Protocol(
        "linear probes on the [CLS] of the last 1, 2, 4 and 6 blocks (App. F.2)", Kind.linear,
        ("linear_l1", "linear_l2", "linear_l4", "linear_l6"), classification.blocks, tiers=True,
        settings=("linear_epochs",),
    ),
    "pooling": Protocol(
        "linear probes without and with the mean patch token (App. F.2)", Kind.linear,
        ("linear_cls", "linear_cls_avg"), classification.pooling, tiers=True,
        settings=("linear_epochs",),
    ),
    "logistic": Protocol(
        "logistic regression", Kind.logistic, ("logistic",), classification.logistic, tiers=True
    ),
    "finetune": Protocol(
        "finetuning by DeiT's recipe", Kind.finetune, ("finetune",), classification.finetune,
        tiers=True, settings=FINETUNE,
    ),
    "scratch": Protocol(
        "the same from random weights (Table 11)", Kind.finetune, ("scratch",),
        classification.scratch, tiers=True, settings=FINETUNE,
    ),
    "attention": Protocol(
        "Jaccard index of the last layer's self-attention", Kind.attention,
        ("jaccard", "jaccard_random"), benchmarks.attention, tiers=True,
        benchmarks=("voc12",), stand_in=benchmarks.COMPOSITES,
    ),
    "retrieval": Protocol(
        "image retrieval, mAP", Kind.retrieval, ("map_medium", "map_hard"), benchmarks.retrieval,
        tiers=True, benchmarks=("roxford5k", "rparis6k"), stand_in=benchmarks.CROPS,
        over="queries",
    ),
    "copies": Protocol(
        "copy detection, mAP", Kind.copies, ("copy_map",), benchmarks.copies, tiers=True,
        benchmarks=("copydays",), stand_in=benchmarks.COPIES, over="queries",
    ),
    "video": Protocol(
        "video object segmentation, J and F", Kind.video, ("jf_mean", "j_mean", "f_mean"),
        benchmarks.video, tiers=True, benchmarks=("davis17",), stand_in=benchmarks.CLIPS,
        over="objects",
    ),
    THROUGHPUT: Protocol(
        "128 images a forward pass, inference: images per second and peak memory", Kind.speed,
        ("images_per_second", "peak_memory_GB"), benchmarks.throughput, over="",
    ),
}  # fmt: skip

# What a training leaves itself, in result.json.
TRAINING = (
    "knn", "student_knn", "knn_random", "knn_pixels", "loss", "entropy", "cross_entropy", "kl",
    "mean_entropy", "log_K", "decomposition_error", "effective_rank", "feature_spread",
    "output_spread", "centre_norm", "grad_norm", "student_teacher_distance", "im_s", "time_h",
    "mem_G", "params_M", "tokens",
)  # fmt: skip


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


def check_given(metrics: Iterable[str], where: str) -> None:
    """Raises: UserError for a metric that neither a training nor a protocol leaves."""
    from repro.decode import check_among  # brings yaml, which `repro --help` does without

    known = [*TRAINING, *(name for protocol in PROTOCOLS for name in numbers(protocol))]
    check_among((metric.partition("@")[0] for metric in metrics), known, where)


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


def kind_of(metric: str) -> Kind:
    """What a number is; percentages that training itself leaves are those of k-NN."""
    protocol = protocol_of(metric).partition("@")[0]
    return PROTOCOLS[protocol].kind if protocol else Kind.knn
