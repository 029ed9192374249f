"""Which implementation of a linear layer and of attention is fastest here: measured, once for each
machine, and again only where the answer was uncertain.

Candidates run in turn, in another order every round, on tensors laid out as in a step. If three
quarters of the rounds and the least disturbed ones agree whether another one than the usual is
faster, by `FASTER`, the choice is clear and stays. If not it was within the noise: the usual one
serves unless the median says that another is `MUCH_FASTER`, and it is measured again,
`MOST_MEASUREMENTS` times at most, when a run starts `REST` later or more while the machine is less
busy than it was then.

Choices are kept in a file of the user's cache folder. A resumed run computes with the kernels of
its first attempt all the same, which its checkpoint names.

Shapes: M samples, N tokens, A heads, W width of a head.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Mapping
from importlib.util import find_spec
from statistics import median, quantiles
from typing import Any

import torch
from msgspec import Struct
from torch import Tensor

from repro.config.schema import GLOBAL_VIEWS, CodePath, Family, Precision, RunConfig
from repro.dino.fast.checked import why_not_fused
from repro.dino.fast.kernels import ATTENTION, LINEAR, REFERENCE, Attention, Kernels, Linear
from repro.hardware import available_cores, cpu_model
from repro.kept import Answers

FASTER = 1.04  # than the usual implementation, or that one stays
MUCH_FASTER = 1.15  # within the noise too
LEAST_ROUNDS, MOST_ROUNDS = 5, 15
BUDGET = 0.5  # seconds for the rounds after the least
SHORTEST = 0.0005  # seconds; what is over sooner is timed several times in a row
MOST_IN_A_ROW = 20
MOST_MEASUREMENTS = 3
REST = 3600.0  # seconds
CHOSEN = Answers("chosen_kernels")

MEASURED_ROWS = 1024
MEASURED_ROW_TOKENS = 2**14  # enough that a GPU's launches do not count
MEASURED_SAMPLES = {"cpu": 16, "cuda": 1024}  # at most; on a CPU more answer the same
MEASURED_PRODUCTS = {"cpu": 2e9, "cuda": 2e11}  # operations of attention, at most
EVALUATED = 128  # images of a batch of an evaluation
ROW_ATTENTION = ("flash", "rows")
Call = Callable[[], object]


class Choice(Struct, frozen=True, kw_only=True):
    """The answer to a question, and how sure it is."""

    name: str
    clear: bool  # or within the noise
    milliseconds: dict[str, tuple[float, float, float]]  # quartiles of every candidate
    dropped: dict[str, str]  # candidates that raised, and what
    load: float  # processes a core that the machine ran before it was measured
    measurements: int
    measured: float  # seconds since 1970

    def of(self, candidates: Mapping[str, Call]) -> bool:
        """Whether it is between just these candidates."""
        return set(self.milliseconds) | set(self.dropped) == set(candidates)

    @property
    def settled(self) -> bool:
        """Whether measuring again would not make it any surer, or not now."""
        if self.clear or self.measurements >= MOST_MEASUREMENTS:
            return True
        return time.time() - self.measured < REST or load() >= min(1.0, self.load)


def choose_kernels(
    config: RunConfig, device: torch.device, earlier: Mapping[str, Any] | None = None
) -> Kernels:
    """The kernels of a run on this machine; may measure for some seconds.

    Args:
        earlier: `named_kernels` of an attempt that this one goes on from.
    """
    resources, model = config.resources, config.model
    if resources.path is CodePath.reference:
        return REFERENCE
    known = earlier or {}
    if known.get("device") != device.type or known.get("path") != resources.path.value:
        known = {}
    linear_name = half_linear_name = "torch"
    if device.type == "cpu":
        name = _known(known.get("linear"), LINEAR)
        linear_name = name or faster_linear(torch.float32, model.dim)
        if config.train.precision is Precision.bf16:
            name = _known(known.get("half_linear"), LINEAR)
            half_linear_name = name or faster_linear(torch.bfloat16, model.dim)
    compiled, recompute = resources.compile, resources.recompute
    other_blocks = compiled or recompute or find_spec("triton") is None
    other_blocks |= bool(known) and not known.get("row_attention")  # as the attempts before
    attention: dict[tuple[torch.dtype, int], str] = {}
    row_attention: dict[int, str] = {}
    if model.family is Family.vit:
        for (dtype, tokens), samples in sorted(_attended(config).items(), key=str):
            name = _known(known.get("attention", {}).get(_words(dtype, tokens)), ATTENTION)
            attention[dtype, tokens] = name or faster_attention(
                device.type, dtype, tokens, model.heads, model.dim, samples
            )
            if dtype is torch.bfloat16 and device.type == "cuda" and not other_blocks:
                name = _known(known.get("row_attention", {}).get(f"{tokens} tokens"), ROW_ATTENTION)
                row_attention[tokens] = name or faster_row_attention(tokens, model.heads, model.dim)
    not_fused = ""
    if row_attention:
        not_fused = why_not_fused(model.dim, model.heads, row_attention, device)
    if not_fused:
        row_attention = {}
    return Kernels(
        CodePath.fast,
        linear_name,
        half_linear_name,
        attention,
        row_attention,
        not_fused,
        compiled,
        recompute,
    )


def named_kernels(kernels: Kernels, device: torch.device) -> dict[str, Any]:
    """What a checkpoint says of them."""
    return kernels.words() | {"device": device.type}


def _known(name: object, candidates: Collection[str]) -> str | None:
    return name if isinstance(name, str) and name in candidates else None


def _words(dtype: torch.dtype, tokens: int) -> str:
    """As in `Kernels.words`."""
    return f"{str(dtype).removeprefix('torch.')}, {tokens} tokens"


def _attended(config: RunConfig) -> dict[tuple[torch.dtype, int], int]:
    """Sequences of which type and length there are, and how many together."""
    model, views, resources = config.model, config.views, config.resources
    precision = torch.bfloat16 if config.train.precision is Precision.bf16 else torch.float32
    images = max(1, config.train.batch_size // (resources.ranks * resources.accumulate))

    def tokens(side: int) -> int:
        return (side // model.patch_size) ** 2 + 1

    found = {(torch.float32, tokens(config.data.resolution)): EVALUATED}
    if views.local_number:
        found[precision, tokens(views.local_size)] = views.local_number * images
    found[precision, tokens(views.global_size)] = GLOBAL_VIEWS * images
    return found


def faster_linear(dtype: torch.dtype, dim: int) -> str:
    """By forward and backward of the layer that widens `dim` four times, on a CPU."""

    def leaf(*shape: int) -> Tensor:
        return torch.randn(shape, dtype=dtype).requires_grad_()

    x, weight, bias = leaf(MEASURED_ROWS, dim), leaf(4 * dim, dim), leaf(4 * dim)
    gradient = torch.randn(MEASURED_ROWS, 4 * dim, dtype=dtype)

    def run(kernel: Linear) -> Call:
        leaves = (x, weight, bias)
        return lambda: torch.autograd.grad(kernel(*leaves), leaves, gradient)

    return fastest(f"linear {dtype} {dim}", "cpu", {name: run(k) for name, k in LINEAR.items()})


def faster_attention(
    device: str, dtype: torch.dtype, tokens: int, heads: int, dim: int, samples: int = EVALUATED
) -> str:
    """By forward and backward of `samples` sequences, or of fewer, where these tell as much."""
    products = MEASURED_PRODUCTS[device] / (4 * tokens**2 * dim)
    m = min(samples if device == "cuda" else EVALUATED, MEASURED_SAMPLES[device], int(products))
    m = max(1, m)
    rows_MN3AW = torch.randn(m, tokens, 3, heads, dim // heads, device=device, dtype=dtype)
    rows_MN3AW.requires_grad_()
    gradient_MNAW = torch.randn_like(rows_MN3AW[:, :, 0])

    def run(kernel: Attention) -> Call:
        def call() -> object:
            attended_MANW = kernel(*rows_MN3AW.permute(2, 0, 3, 1, 4).unbind())
            attended_MNAW = attended_MANW.transpose(1, 2).contiguous()
            return torch.autograd.grad(attended_MNAW, rows_MN3AW, gradient_MNAW)

        return call

    question = f"attention {dtype} {tokens} tokens {heads} x {dim // heads}"
    question += f" {m} samples" if device == "cuda" else ""
    return fastest(question, device, {name: run(k) for name, k in ATTENTION.items()})


def faster_row_attention(tokens: int, heads: int, dim: int) -> str:
    """Attention within fused blocks: by `triton_attention` or by torch's flash kernel."""
    from repro.dino.fast import fused_blocks  # Triton, which only CUDA machines have

    samples = -(-MEASURED_ROW_TOKENS // tokens)
    qkv = torch.randn(samples * tokens, 3 * dim, device="cuda", dtype=torch.bfloat16)

    def run(name: str) -> Call:
        return lambda: fused_blocks.attention_and_gradient(qkv, samples, heads, name)

    question = f"attention of rows, {tokens} tokens {heads} x {dim // heads}"
    return fastest(question, "cuda", {name: run(name) for name in ROW_ATTENTION})


def fastest(question: str, device: str, candidates: Mapping[str, Call]) -> str:
    """The fastest candidate on this machine. The first is the usual one: another one must be
    clearly faster, so that noise decides nothing.
    """
    hardware = torch.cuda.get_device_name() if device == "cuda" else cpu_model()
    key = f"{hardware} | torch {torch.__version__} | {torch.get_num_threads()} threads | {question}"

    def again(kept: Choice | None) -> Choice:
        earlier = kept.measurements if kept is not None and kept.of(candidates) else 0
        return measure(device, candidates, earlier)

    def stays(kept: Choice) -> bool:
        return kept.of(candidates) and kept.settled

    return CHOSEN.get_for_good(key, Choice, again, stays).name


def measure(device: str, candidates: Mapping[str, Call], earlier: int = 0) -> Choice:
    """Choose between candidates by their time; one that raises is dropped.

    Raises:
        Exception: what the last candidate raised, if none is left.
    """
    load_before = load()
    in_a_row: dict[str, int] = {}
    dropped: dict[str, str] = {}
    with torch.enable_grad():
        for name, call in candidates.items():
            try:
                seconds_of(call, 1, device)  # compiles, and fills caches
                times = SHORTEST / max(1e-9, seconds_of(call, 1, device))
            except Exception as error:
                if len(dropped) == len(candidates) - 1:
                    raise
                dropped[name] = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
            else:
                in_a_row[name] = min(MOST_IN_A_ROW, max(1, round(times)))
        seconds: dict[str, list[float]] = {name: [] for name in in_a_row}
        order, begun = list(in_a_row), time.perf_counter()
        for number in range(MOST_ROUNDS):
            if number >= LEAST_ROUNDS and time.perf_counter() - begun > BUDGET:
                break
            first = number % len(order)
            for name in order[first:] + order[:first]:
                seconds[name].append(seconds_of(candidates[name], in_a_row[name], device))
    name, clear = decide(seconds)
    return Choice(
        name=name,
        clear=clear,
        milliseconds={name: _quartiles([1000 * s for s in all_]) for name, all_ in seconds.items()},
        dropped=dropped,
        load=load_before,
        measurements=earlier + 1,
        measured=time.time(),
    )


def decide(seconds: Mapping[str, list[float]]) -> tuple[str, bool]:
    """Which candidate, the first being the usual one, and whether that is clear.

    Rounds are compared one by one, so that what slows a whole round decides nothing; and for a
    clear answer the fastest rounds, which were disturbed least, must say the same.
    """
    usual, *others = seconds
    if not others:
        return usual, True
    ratios = {
        name: _quartiles([u / s for u, s in zip(seconds[usual], seconds[name], strict=True)])
        for name in others
    }
    best = max(others, key=lambda name: ratios[name][1])
    undisturbed = {name: min(seconds[usual]) / min(seconds[name]) for name in others}
    low, middle, _ = ratios[best]
    if min(low, undisturbed[best]) > FASTER:
        return best, True
    highest = max(*(high for _, _, high in ratios.values()), *undisturbed.values())
    return best if middle > MUCH_FASTER else usual, highest <= FASTER


def _quartiles(values: list[float]) -> tuple[float, float, float]:
    low, _, high = quantiles(values, n=4, method="inclusive")
    return low, median(values), high


def seconds_of(call: Call, times: int, device: str) -> float:
    """Of one call, after those before it have ended."""
    if device == "cuda":
        event: Any = torch.cuda.Event
        start, end = event(enable_timing=True), event(enable_timing=True)
        torch.cuda.synchronize()
        start.record()
        for _ in range(times):
            call()
        end.record()
        end.synchronize()
        return float(start.elapsed_time(end)) / 1000 / times
    # On one core what other processes take of it need not count.
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    begun = clock()
    for _ in range(times):
        call()
    return (clock() - begun) / times


def load() -> float:
    """Processes that this machine has run during the last minute, for each of its cores."""
    return os.getloadavg()[0] / available_cores()
