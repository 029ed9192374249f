"""The collapse sentinel: names what the diagnostics show, since which step, and what it means.

Sec. 5.3 names two forms of collapse: the output is uniform, or dominated by one dimension. The
thresholds are those with which the paper's Figure 7 is read here: KL below 0.05 nats, and entropy
above 0.95 or below 0.05 of ln K. One dimension also needs the entropy of the batch-mean target
below 0.05 ln K: sharp targets that differ between images are healthy. `constant` is ours: the
targets carry less than 0.01 ln K nats of information on the image (entropy of the mean minus mean
entropy), so every image gets the same output, although it is neither uniform nor one-hot.

Outputs of BYOL, MoCo-v2 and SimCLR are vectors, for which `constant` means that their directions
spread by less than 0.05 of what evenly spread ones would.

The first epochs are not judged: the output starts near uniform and the loss rises when the last
layer is released, in healthy runs too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

KL_LIMIT = 0.05
HIGH, LOW = 0.95, 0.05
INFORMATION_LIMIT = 0.01
SPREAD_LIMIT = 0.05
STATES = ("healthy", "uniform", "one_dimension", "constant", "nan")


def judge(loss: float, entropy: float, kl: float, mean_entropy: float, log_K: float) -> str:
    """What one step's diagnostics (in nats) look like: one of `STATES`."""
    if not math.isfinite(loss):
        return "nan"
    if kl < KL_LIMIT and entropy > HIGH * log_K:
        return "uniform"
    if kl < KL_LIMIT and entropy < LOW * log_K and mean_entropy < LOW * log_K:
        return "one_dimension"
    if mean_entropy - entropy < INFORMATION_LIMIT * log_K:
        return "constant"
    return "healthy"


def judge_vectors(loss: float, output_spread: float) -> str:
    """The same for methods whose outputs are vectors instead of distributions."""
    if not math.isfinite(loss):
        return "nan"
    return "constant" if output_spread < SPREAD_LIMIT else "healthy"


@dataclass
class Sentinel:
    """Reports a state once it has held for `patience` steps; NaN at once."""

    log_K: float
    grace: int  # steps that are not judged
    patience: int
    state: str = "healthy"
    since_step: int = 1
    candidate: str = "healthy"
    candidate_since: int = 1

    def see(self, step: int, seen: str) -> str:
        """Take in what step `step` (1-based) looks like; returns the state now in force."""
        if seen != self.candidate:
            self.candidate, self.candidate_since = seen, step
        held = step - self.candidate_since + 1
        ripe = step > self.grace and held >= self.patience
        if self.candidate != self.state and (ripe or self.candidate == "nan"):
            self.state, self.since_step = self.candidate, self.candidate_since
        return self.state

    def collapsed_for(self, step: int) -> int:
        """Steps up to `step` in which the collapse in force was seen, without a break."""
        collapsed = self.state not in ("healthy", "nan") and self.candidate == self.state
        return step - self.candidate_since + 1 if collapsed else 0

    def meaning(self) -> str:
        """One line for the user."""
        ln_K = f"ln K = {self.log_K:.3f}"
        return {
            "healthy": "targets differ between images and the student has not caught up with them",
            "uniform": f"loss = {ln_K}: the target is uniform, every image gets the same output; "
            "usual causes: no sharpening or a teacher temperature above 0.06, a teacher too close "
            "to the student (momentum too low), or a centre that lags (centre momentum too high)",
            "one_dimension": "loss near 0: one prototype dominates the target of every "
            "image; usual causes: no centering, or a centre momentum that never follows the output",
            "constant": "every image gets the same target, although it is neither uniform nor "
            "one-hot; usual cause: the teacher follows the student too closely (student copy, "
            "previous iteration, momentum too low)",
            "nan": "the loss is not finite; usual causes: learning rate too high, fp16 overflow, "
            "or unreadable values in the data",
        }[self.state]

    def report(self) -> dict[str, str | int]:
        return {"state": self.state, "since_step": self.since_step, "meaning": self.meaning()}
