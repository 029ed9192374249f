"""Claims on what a network gives out and takes in at the end of training: collapse and its absence.

Sec. 5.3: KL(Pt|Ps) equal to zero indicates a constant output, hence a collapse; its two forms are a
uniform output (entropy = ln K) and one dominant dimension (entropy = 0). The thresholds are those
of the collapse sentinel. They are ours, not the paper's, and were fixed before any run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from analysis.evidence.evidence import Evidence
from analysis.evidence.rows import MeasuredRow
from analysis.verdicts.meaning import Meaning
from analysis.verdicts.rows import Observation, by_row, by_seed
from analysis.verdicts.verdict import Judgement, Outcome
from repro.dino.sentinel import HIGH, KL_LIMIT, LOW
from repro.harness.experiments.claims import (
    Body,
    Collapse,
    Decomposition,
    Fails,
    Healthy,
    Tokens,
    Works,
)
from repro.harness.runs.records import Record

CHANCE = 1 / 1000  # top-1 of a constant output on ImageNet
VALIDATION_IMAGES = 50_000
DECOMPOSITION_LIMIT = 1e-4


def collapsed(
    entropy: float, kl: float, mean_entropy: float | None, log_K: float, form: str | None = None
) -> bool:
    """Whether the output is constant, in nats; in the given form, or in either.

    One dimension also needs a low entropy of the batch-mean target: sharp targets that differ
    between images are healthy. The paper prints no such number; `None` leaves that part out.
    """
    same_for_all = mean_entropy is None or mean_entropy / log_K < LOW
    shapes = {
        "uniform": entropy / log_K > HIGH,
        "one_dimension": entropy / log_K < LOW and same_for_all,
    }
    return kl < KL_LIMIT and (shapes[form] if form else any(shapes.values()))


def healthy(entropy: float, kl: float, log_K: float) -> bool:
    return kl > KL_LIMIT and LOW < entropy / log_K < HIGH


def token_count(resolution: int, patch: int) -> int:
    """Patches and the class token (Table 1)."""
    side = resolution // patch
    return side * side + 1


def at_chance(accuracy: float) -> bool:
    """Whether an ImageNet top-1 accuracy in percent is that of a constant output."""
    noise = 3 * math.sqrt(CHANCE * (1 - CHANCE) / VALIDATION_IMAGES)
    return accuracy / 100 <= max(2 * CHANCE, CHANCE + noise)


def _collapse(body: Collapse, run: Record) -> Observation:
    m = run.metric
    holds = collapsed(m("entropy"), m("kl"), m("mean_entropy"), m("log_K"), body.form)
    return Observation(holds, _outputs(run))


def _printed_collapse(body: Collapse, line: MeasuredRow) -> Judgement:
    return _printed_outputs(line, lambda h, kl, log_K: collapsed(h, kl, None, log_K, body.form))


def _collapse_turns(body: Collapse, runs: Sequence[Record]) -> str:
    """The limits between which all seeds would have to lie, closest seed first."""
    shares = [run.metric("entropy") / run.metric("log_K") for run in runs]
    kl = max(run.metric("kl") for run in runs)
    entropy, limit = (min(shares), HIGH) if body.form == "uniform" else (max(shares), LOW)
    return (
        f"all seeds collapsed at a KL limit above {kl:.2g} (now {KL_LIMIT:g}) "
        f"and an entropy limit of {entropy:.3f} ln K (now {limit:g})"
    )


def _healthy(_body: Healthy, run: Record) -> Observation:
    m = run.metric
    return Observation(healthy(m("entropy"), m("kl"), m("log_K")), _outputs(run))


def _printed_health(_body: Healthy, line: MeasuredRow) -> Judgement:
    return _printed_outputs(line, healthy)


def _health_turns(_body: Healthy, runs: Sequence[Record]) -> str:
    shares = [run.metric("entropy") / run.metric("log_K") for run in runs]
    kl = min(run.metric("kl") for run in runs)
    return (
        f"all seeds healthy at a KL limit below {kl:.2g} (now {KL_LIMIT:g}) and entropy limits "
        f"outside {min(shares):.2f} to {max(shares):.2f} ln K (now {LOW:g} and {HIGH:g})"
    )


def _decomposition(_body: Decomposition, run: Record) -> Observation:
    error = run.metric("decomposition_error")
    return Observation(error < DECOMPOSITION_LIMIT, {"largest error": f"{error:.1e}"})


def _not_numeric(_body: Decomposition, _evidence: Evidence) -> Judgement:
    numbers = "an identity at every step; the paper prints no number to test it on"
    return Judgement(None, numbers)


def _fails(_body: Fails, run: Record) -> Observation:
    m = run.metric
    return Observation(m("knn") <= m("knn_random"), _accuracy(run))


def _printed_failure(_body: Fails, line: MeasuredRow) -> Judgement:
    printed = _printed_accuracies(line)
    low = all(at_chance(value) for value in printed.values())
    return _of_accuracies(printed, low)


def _works(_body: Works, run: Record) -> Observation:
    """Where outputs are vectors, not distributions, the sentinel has watched their spread."""
    m = run.metric
    if "entropy" not in run.metrics:
        constant = not run.sentinel.healthy
    else:
        constant = collapsed(m("entropy"), m("kl"), m("mean_entropy"), m("log_K"))
    holds = m("knn") > m("knn_random") and not constant
    return Observation(holds, _accuracy(run) | _outputs(run))


def _printed_work(_body: Works, line: MeasuredRow) -> Judgement:
    printed = _printed_accuracies(line)
    return _of_accuracies(printed, not any(at_chance(value) for value in printed.values()))


def _accuracy_turns(_body: Fails | Works, runs: Sequence[Record]) -> str:
    gaps = [run.metric("knn") - run.metric("knn_random") for run in runs]
    return f"k-NN minus random initialisation by seed: {', '.join(f'{g:+.1f}' for g in gaps)}"


def _tokens(_body: Tokens, run: Record) -> Observation:
    config, counted = run.config, run.metric("tokens")
    expected = token_count(config["data"]["resolution"], config["model"]["patch_size"])
    return Observation(counted == expected, {"tokens": f"{counted} for {expected}"})


def _printed_tokens(_body: Tokens, line: MeasuredRow) -> Judgement:
    config = line.paper_config()
    expected = token_count(config.data.resolution, config.model.patch_size)
    printed = line.row.reported.get("tokens")
    if printed is None:
        return Judgement(None, "no number of tokens is printed")
    return Judgement(printed == expected, f"{printed:g} tokens for {expected}")


def _outputs(run: Record) -> dict[str, str]:
    m = run.metric
    if "entropy" not in run.metrics:
        return {"output spread": f"{m('output_spread'):.2f}", "sentinel": run.sentinel.state}
    return {
        "KL": f"{m('kl'):.2g}",
        "h/ln K": f"{m('entropy') / m('log_K'):.3f}",
        "that of the batch mean": f"{m('mean_entropy') / m('log_K'):.3f}",
    }


def _accuracy(run: Record) -> dict[str, str]:
    m = run.metric
    return {"k-NN": f"{m('knn'):.1f}", "random initialisation": f"{m('knn_random'):.1f}"}


def _printed_outputs(line: MeasuredRow, holds: Callable[[float, float, float], bool]) -> Judgement:
    """Args: holds: asked with entropy, KL and ln K, in nats."""
    entropy, kl = line.row.reported.get("entropy"), line.row.reported.get("kl")
    if entropy is None or kl is None:
        return Judgement(None, "not printed")
    log_K = math.log(line.paper_config().head.prototypes)
    numbers = f"entropy {entropy:g} of ln K = {log_K:.2f}, KL {kl:g} nats"
    return Judgement(holds(entropy, kl, log_K), numbers)


def _printed_accuracies(line: MeasuredRow) -> dict[str, float]:
    percent = {metric.key for metric in line.experiment.metrics if metric.unit == "%"}
    return {key: value for key, value in line.row.reported.items() if key in percent}


def _of_accuracies(printed: Mapping[str, float], holds: bool) -> Judgement:
    if not printed:
        return Judgement(None, "no accuracy is printed")
    return Judgement(holds, ", ".join(f"{key} {value:g} %" for key, value in printed.items()))


MEANINGS: Mapping[type[Body], Meaning[Any]] = {
    Collapse: Meaning(
        "KL < 0.05 nats, h/ln K < 0.05 (one dimension) or > 0.95 (uniform), in every seed",
        by_seed(_collapse, turns=_collapse_turns),
        by_row(_printed_collapse),
        confirmed=Outcome.EXPECTED_COLLAPSE,
    ),
    Healthy: Meaning(
        "KL > 0.05 nats and 0.05 < h/ln K < 0.95, in every seed",
        by_seed(_healthy, turns=_health_turns),
        by_row(_printed_health),
    ),
    Decomposition: Meaning(
        "|H - (h + KL)| < 1e-4 max(1, H) at every step", by_seed(_decomposition), _not_numeric
    ),
    Fails: Meaning(
        "k-NN at or below the same seed's random initialisation, in every seed",
        by_seed(_fails, turns=_accuracy_turns),
        by_row(_printed_failure),
        confirmed=Outcome.EXPECTED_COLLAPSE,
    ),
    Works: Meaning(
        "k-NN above the same seed's random initialisation and no collapse, in every seed",
        by_seed(_works, turns=_accuracy_turns),
        by_row(_printed_work),
    ),
    Tokens: Meaning("(resolution / patch)^2 + 1", by_seed(_tokens), by_row(_printed_tokens)),
}
