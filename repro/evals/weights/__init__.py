"""Weights in and out: whose file it is, which network it fills, which images it wants to see, and
what does not fit.
"""

from repro.evals.weights.networks import Weights, load_weights, named_weights

__all__ = ["Weights", "load_weights", "named_weights"]
