"""results/published/SCHEMA.md, the keys of published files, from the structs of `records.py`:

    python -m repro.harness.runs.published_schema > results/published/SCHEMA.md

Metrics are named here, since a record has those of its method and of the evaluations made of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from msgspec import Struct, inspect

from repro.harness.runs.records import PublishedEvaluation, Record, Replication

MEASURED: Mapping[tuple[str, ...], str] = {
    ("knn", "student_knn"): "weighted k-NN top-1 of teacher and student at the end, percent",
    ("knn_random", "knn_pixels"): "the floors: the same seed's initial network, and raw pixels, "
    "percent",
    ("entropy", "cross_entropy", "kl"): "h(Pt), H(Pt, Ps), KL(Pt|Ps) over all pairs of different "
    "views, mean of the last epoch, nats",
    ("mean_entropy",): "entropy of the batch-mean target, mean of the last epoch, nats",
    ("log_K",): "ln of the number of prototypes: the entropy of a uniform target",
    ("loss", "grad_norm", "centre_norm"): "means of the last epoch; gradient norm before clipping",
    ("feature_spread",): "standard deviation of l2-normalised teacher features x sqrt(D): 1 spread "
    "evenly, 0 all equal",
    ("effective_rank",): "exponential of the entropy of the centred features' singular values",
    ("student_teacher_distance",): "|student - teacher| / |teacher| over all weights",
    ("decomposition_error",): "largest |H - (h + KL)| / max(1, H) over all steps",
    ("im_s",): "images/s of the backbone in inference, 128 a forward, the fastest pass, on "
    "`env.hardware`; of what: `env.im_s`",
    ("params_M",): "parameters of the backbone, millions",
    ("tokens",): "tokens that enter the ViT at evaluation: patches and [CLS]; absent for ResNets",
    ("time_h",): "hours of training steps on `env.hardware`, without evaluations",
    ("mem_G",): "peak memory, 10^9 bytes: of the GPU, or resident in the process on a CPU",
    ("output_spread",): "in place of the entropies, KL and `decomposition_error` where outputs are "
    "vectors (BYOL, MoCo-v2, SimCLR, MSE): standard deviation of the unit outputs, 1 spread "
    "evenly, 0 all equal",
}
EVALUATED: Mapping[tuple[str, ...], str] = {
    ("knn_10", "knn_20", "knn_100", "knn_200"): "weighted k-NN of the teacher for so many "
    "neighbours",
    ("linear", "linear_clean", "linear_clean_rate"): "linear probes: best epoch and rate on the "
    "test images; last epoch at the rate that held-out training images chose, and that rate per "
    "256 images",
    ("linear_l1", "linear_l2", "linear_l4", "linear_l6", "linear_cls", "linear_cls_avg"): "the "
    "same for the last 1, 2, 4, 6 blocks (fewer where the ViT has fewer), and for [CLS] without "
    "and with the mean patch token",
    ("logistic", "logistic_clean", "logistic_clean_penalty"): "logistic regression: penalty "
    "0.1 / N; the penalty that held-out images chose, and that number",
    ("finetune", "scratch"): "finetuning by DeiT's recipe, from the trained and from the initial "
    "network: best epoch; `_clean`: last epoch",
    ("jaccard@voc12", "jaccard_random@voc12"): "attention masks against objects, of the trained "
    "and of the initial network",
    ("map_medium@roxford5k", "map_hard@roxford5k"): "retrieval, mAP",
    ("copy_map@copydays",): "copy detection, mAP",
    ("jf_mean@davis17", "j_mean@davis17", "f_mean@davis17"): "video object segmentation",
}
REPEATED: Mapping[tuple[str, ...], str] = {
    ("*",): "of the repetition, those of its evaluations too",
}
CURVES = {
    "curves": "per-step diagnostics averaged over at most 60 equal bins of steps, by name; `epoch` "
    "is their place",
    "curves.eval": "`epoch`, `knn`, `student_knn` at each evaluation; epoch 0 is the initial "
    "network",
}
SEAL = {
    "previous": "digest of the line before; empty in the first",
    "digest": 'sha256 of the line\'s own bytes before `, "digest"`: see below',
}
SEALS = """# Seals

A line ends with `previous` and `digest`, so that a line that was edited, added, moved or removed by
hand shows; the last digests stand in the folder's README.md. `repro verify` computes them anew, and
so does a shell:

    head -1 records.jsonl | tr -d '\\n' | sed 's/, "digest": "[0-9a-f]*"}$//' | sha256sum

Files that were published before there were seals have neither key. They are read as before; the
next `repro publish` seals them, or `python -m repro.harness.runs.seal FILE`.
"""
RECORDS = """# One line of records.jsonl: one finished run

{}

Not-finite numbers are `null`. Lines are appended by `repro publish` and never changed.
"""
EVALUATIONS = """# One line of evaluations.jsonl: one evaluation of a run

Evaluations may be made long after the run. Their `metrics` join those of the run; of two lines of
one run and name the later one counts. Names are PROTOCOL or PROTOCOL@BENCHMARK, metrics of a
benchmark end in @BENCHMARK. `x` is the official tier, as the authors' script evaluates, `x_clean`
the benchmark's own definition. All are percent unless said otherwise.

{}
"""
REPLICATIONS = """# One line of replications.jsonl: one repetition of a run

A published run that was trained again, by `repro replicate --publish`. The file is there once
somebody has done so.

{}
"""


def page() -> str:
    """The whole page, as Markdown."""
    sealed = [_line([key], what) for key, what in SEAL.items()]
    records, evaluations, replications = (
        "\n".join(["| key | what it holds |", "| --- | --- |", *_lines(kind, metrics), *sealed])
        for kind, metrics in (
            (Record, MEASURED),
            (PublishedEvaluation, EVALUATED),
            (Replication, REPEATED),
        )
    )
    parts = (
        RECORDS.format(records),
        EVALUATIONS.format(evaluations),
        REPLICATIONS.format(replications),
    )
    return "\n".join((*parts, SEALS))


def _lines(kind: type[Struct], metrics: Mapping[tuple[str, ...], str]) -> Iterator[str]:
    """A line a key, in the order of the file."""
    info = inspect.type_info(kind)
    assert isinstance(info, inspect.StructType), f"{kind} is no struct"
    for key, what in _keys(info):
        if key == "metrics":
            for names, meaning in metrics.items():
                yield _line([f"metrics.{names[0]}", *(f".{name}" for name in names[1:])], meaning)
        elif key == "curves":
            yield from (_line([name], meaning) for name, meaning in CURVES.items())
        elif what:
            yield _line([key], what)


def _keys(info: inspect.StructType) -> Iterator[tuple[str, str]]:
    """Keys with what is said of them; of an object without a word of its own those inside it."""
    for field in info.fields:
        kind, what = field.type, ""
        if isinstance(field.type, inspect.Metadata):
            kind, what = field.type.type, (field.type.extra_json_schema or {})["description"]
        kinds = kind.types if isinstance(kind, inspect.UnionType) else (kind,)
        inner = [one for one in kinds if isinstance(one, inspect.StructType)]
        if inner and not what:
            for key, meaning in _keys(inner[0]):
                yield f"{field.encode_name}.{key}", meaning
        else:
            yield field.encode_name, what


def _line(keys: list[str], what: str) -> str:
    escaped = what.replace("|", r"\|")
    return f"| {', '.join(f'`{key}`' for key in keys)} | {escaped} |"


if __name__ == "__main__":
    print(page(), end="")
