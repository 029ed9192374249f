"""Residual sums, layer norms and GELUs of a block in one pass over memory each, on CUDA GPUs.

Between its matrix products a block only moves memory, at D = 384 for as long as the products take.
Here a residual sum and the norm after it read and write each number once, and in the backward pass
what can be made again from what is read anyway (a norm's and a GELU's output) is not kept.

`add_norm`:           x' = x + s (branch + bias);  y = LN(x')
`add_norm_backward`:  the gradients of all of these, and y once more
`bias_gelu`:          g = GELU(h + bias)
`bias_gelu_backward`: the gradients of h and bias, and g once more

x is fp32, as under autocast; branch, y, h, g are bfloat16; sums are fp32 (parity class B). The
normalised rows are kept in bfloat16.

Shapes: T rows (tokens), D width, H width of the MLP's hidden layer, P programs.
"""

# Annotations stay objects: Triton reads them.
# mypy: disable-error-code="no-untyped-def, no-untyped-call, misc, no-any-return, untyped-decorator"
# ruff: noqa: ANN001, ANN202

import torch
import triton
import triton.language as tl
from torch import Tensor

EPSILON = 1e-6  # of the authors' layer norms
PROGRAMS_A_PROCESSOR = 4  # of those that sum columns: each walks over many rows
RSQRT_2 = tl.constexpr(0.7071067811865476)
RSQRT_2_PI = tl.constexpr(0.3989422804014327)


@triton.jit
def _add_norm(
    x_ptr, branch_ptr, bias_ptr, kept_ptr, gamma_ptr, beta_ptr,
    sum_ptr, y_ptr, normed_ptr, rstd_ptr, rows, scale, epsilon,
    D: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_D: tl.constexpr,
    HAS_BRANCH: tl.constexpr, HAS_KEPT: tl.constexpr, KEEPS: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0) * BLOCK_T + tl.arange(0, BLOCK_T)
    column = tl.arange(0, BLOCK_D)
    here = (row < rows)[:, None] & (column < D)[None, :]
    place = row.to(tl.int64)[:, None] * D + column[None, :]
    x = tl.load(x_ptr + place, mask=here, other=0.0).to(tl.float32)
    if HAS_BRANCH:
        bias = tl.load(bias_ptr + column, mask=column < D, other=0.0)
        branch = tl.load(branch_ptr + place, mask=here, other=0.0).to(tl.float32) + bias[None, :]
        if HAS_KEPT:
            kept = tl.load(kept_ptr + row, mask=row < rows, other=0.0) * scale
            branch = branch * kept[:, None]
        x = tl.where(here, x + branch, 0.0)
        tl.store(sum_ptr + place, x, mask=here)
    mean = tl.sum(x, axis=1) / D
    centred = tl.where(here, x - mean[:, None], 0.0)
    rstd = 1 / tl.sqrt(tl.sum(centred * centred, axis=1) / D + epsilon)
    normed = centred * rstd[:, None]
    gamma = tl.load(gamma_ptr + column, mask=column < D, other=0.0)
    beta = tl.load(beta_ptr + column, mask=column < D, other=0.0)
    y = normed * gamma[None, :] + beta[None, :]
    tl.store(y_ptr + place, y.to(y_ptr.dtype.element_ty), mask=here)
    if KEEPS:
        tl.store(normed_ptr + place, normed.to(normed_ptr.dtype.element_ty), mask=here)
        tl.store(rstd_ptr + row, rstd, mask=row < rows)


@triton.jit
def _add_norm_backward(
    dy_ptr, dsum_ptr, normed_ptr, rstd_ptr, kept_ptr, gamma_ptr, beta_ptr,
    dx_ptr, dbranch_ptr, y_ptr, dgamma_ptr, dbeta_ptr, dbias_ptr, rows, scale,
    D: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_D: tl.constexpr,
    HAS_SUM: tl.constexpr, HAS_BRANCH: tl.constexpr, HAS_KEPT: tl.constexpr,
):  # fmt: skip
    program, programs = tl.program_id(0), tl.num_programs(0)
    column = tl.arange(0, BLOCK_D)
    inside = column < D
    gamma = tl.load(gamma_ptr + column, mask=inside, other=0.0)
    beta = tl.load(beta_ptr + column, mask=inside, other=0.0)
    dgamma = tl.zeros([BLOCK_D], dtype=tl.float32)
    dbeta = tl.zeros([BLOCK_D], dtype=tl.float32)
    dbias = tl.zeros([BLOCK_D], dtype=tl.float32)
    for start in range(program * BLOCK_T, rows, programs * BLOCK_T):
        row = start + tl.arange(0, BLOCK_T)
        here = (row < rows)[:, None] & inside[None, :]
        place = row.to(tl.int64)[:, None] * D + column[None, :]
        dy = tl.load(dy_ptr + place, mask=here, other=0.0).to(tl.float32)
        normed = tl.load(normed_ptr + place, mask=here, other=0.0).to(tl.float32)
        rstd = tl.load(rstd_ptr + row, mask=row < rows, other=0.0)
        dgamma += tl.sum(dy * normed, axis=0)
        dbeta += tl.sum(dy, axis=0)
        y = normed * gamma[None, :] + beta[None, :]
        tl.store(y_ptr + place, y.to(y_ptr.dtype.element_ty), mask=here)
        dnormed = dy * gamma[None, :]
        along = tl.sum(dnormed * normed, axis=1) / D
        mean = tl.sum(dnormed, axis=1) / D
        dx = (dnormed - mean[:, None] - normed * along[:, None]) * rstd[:, None]
        if HAS_SUM:
            dx += tl.load(dsum_ptr + place, mask=here, other=0.0)
        tl.store(dx_ptr + place, dx, mask=here)
        if HAS_BRANCH:
            dbranch = tl.where(here, dx, 0.0)
            if HAS_KEPT:
                kept = tl.load(kept_ptr + row, mask=row < rows, other=0.0) * scale
                dbranch = dbranch * kept[:, None]
            dbias += tl.sum(dbranch, axis=0)
            tl.store(dbranch_ptr + place, dbranch.to(dbranch_ptr.dtype.element_ty), mask=here)
    tl.store(dgamma_ptr + program * D + column, dgamma, mask=inside)
    tl.store(dbeta_ptr + program * D + column, dbeta, mask=inside)
    if HAS_BRANCH:
        tl.store(dbias_ptr + program * D + column, dbias, mask=inside)


@triton.jit
def _bias_gelu(h_ptr, bias_ptr, g_ptr, numbers, H: tl.constexpr, BLOCK: tl.constexpr):
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    here = place < numbers
    z = tl.load(h_ptr + place, mask=here, other=0.0).to(tl.float32)
    z += tl.load(bias_ptr + place % H, mask=here, other=0.0)
    g = 0.5 * z * (1 + tl.erf(z * RSQRT_2))
    tl.store(g_ptr + place, g.to(g_ptr.dtype.element_ty), mask=here)


@triton.jit
def _bias_gelu_backward(
    dg_ptr, h_ptr, bias_ptr, dbias_ptr, rows,
    H: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_H: tl.constexpr,
):  # fmt: skip
    """In place: the gradient of h where that of g was, g where h was."""
    program, programs = tl.program_id(1), tl.num_programs(1)
    column = tl.program_id(0) * BLOCK_H + tl.arange(0, BLOCK_H)
    inside = column < H
    bias = tl.load(bias_ptr + column, mask=inside, other=0.0)
    dbias = tl.zeros([BLOCK_H], dtype=tl.float32)
    for start in range(program * BLOCK_T, rows, programs * BLOCK_T):
        row = start + tl.arange(0, BLOCK_T)
        here = (row < rows)[:, None] & inside[None, :]
        place = row.to(tl.int64)[:, None] * H + column[None, :]
        z = tl.load(h_ptr + place, mask=here, other=0.0).to(tl.float32) + bias[None, :]
        dg = tl.load(dg_ptr + place, mask=here, other=0.0).to(tl.float32)
        below = 0.5 * (1 + tl.erf(z * RSQRT_2))  # the normal distribution's
        dh = dg * (below + z * RSQRT_2_PI * tl.exp(-0.5 * z * z))
        dbias += tl.sum(tl.where(here, dh, 0.0), axis=0)
        tl.store(dg_ptr + place, dh.to(dg_ptr.dtype.element_ty), mask=here)
        tl.store(h_ptr + place, (z * below).to(h_ptr.dtype.element_ty), mask=here)
    tl.store(dbias_ptr + program * H + column, dbias, mask=inside)


@torch.no_grad()
def add_norm(
    x_TD: Tensor,
    branch_TD: Tensor | None,
    bias_D: Tensor | None,
    kept_T: Tensor | None,
    scale: float,
    gamma_D: Tensor,
    beta_D: Tensor,
    dtype: torch.dtype,
    keeps: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(x', y, normalised rows, 1 / their deviation); x' is x where there is no branch.

    Args:
        kept_T: ones and zeros, which rows keep the branch; multiplied by `scale`. None keeps all.
        dtype: of y and of the normalised rows.
        keeps: whether a backward pass follows; else the last two are empty.
    """
    rows, width = x_TD.shape
    y_TD = torch.empty(rows, width, dtype=dtype, device=x_TD.device)
    sum_TD = x_TD if branch_TD is None else torch.empty_like(x_TD, dtype=torch.float32)
    normed_TD = torch.empty_like(y_TD) if keeps else y_TD.new_empty(0)
    rstd_T = torch.empty(rows if keeps else 0, dtype=torch.float32, device=x_TD.device)
    block_t, block_d = _tile(width)
    _add_norm[(triton.cdiv(rows, block_t),)](
        x_TD, branch_TD, bias_D, kept_T, gamma_D, beta_D, sum_TD, y_TD, normed_TD, rstd_T,
        rows, scale, EPSILON, D=width, BLOCK_T=block_t, BLOCK_D=block_d,
        HAS_BRANCH=branch_TD is not None, HAS_KEPT=kept_T is not None, KEEPS=keeps, num_warps=4,
    )  # fmt: skip
    return sum_TD, y_TD, normed_TD, rstd_T


class NormGradients:
    """What `add_norm_backward` yields; `branch_TD` and `bias_D` are None without a branch."""

    def __init__(self, x_TD: Tensor, y_TD: Tensor, branch_TD: Tensor | None) -> None:
        self.x_TD, self.y_TD, self.branch_TD = x_TD, y_TD, branch_TD
        self.gamma_D: Tensor
        self.beta_D: Tensor
        self.bias_D: Tensor | None = None


@torch.no_grad()
def add_norm_backward(
    dy_TD: Tensor,
    dsum_TD: Tensor | None,
    normed_TD: Tensor,
    rstd_T: Tensor,
    kept_T: Tensor | None,
    scale: float,
    gamma_D: Tensor,
    beta_D: Tensor,
    branch: bool,
) -> NormGradients:
    """Gradients of `add_norm` from those of y and, where it is used, of x'; y_TD is y once more."""
    rows, width = dy_TD.shape
    found = NormGradients(
        torch.empty(rows, width, dtype=torch.float32, device=dy_TD.device),
        torch.empty_like(dy_TD),
        torch.empty_like(dy_TD) if branch else None,
    )
    block_t, block_d = _tile(width)
    programs = min(_programs(dy_TD), triton.cdiv(rows, block_t))
    partial_3PD = dy_TD.new_empty(3 if branch else 2, programs, width, dtype=torch.float32)
    _add_norm_backward[(programs,)](
        dy_TD, dsum_TD, normed_TD, rstd_T, kept_T, gamma_D, beta_D,
        found.x_TD, found.branch_TD, found.y_TD, partial_3PD[0], partial_3PD[1], partial_3PD[-1],
        rows, scale, D=width, BLOCK_T=block_t, BLOCK_D=block_d,
        HAS_SUM=dsum_TD is not None, HAS_BRANCH=branch, HAS_KEPT=kept_T is not None, num_warps=4,
    )  # fmt: skip
    sums = partial_3PD.sum(dim=1).unbind()
    found.gamma_D, found.beta_D = sums[:2]
    found.bias_D = sums[2] if branch else None
    return found


@torch.no_grad()
def bias_gelu(h_TH: Tensor, bias_H: Tensor) -> Tensor:
    """GELU(h + bias), by the error function as in the authors' code."""
    g_TH = torch.empty_like(h_TH)
    block = 2048
    _bias_gelu[(triton.cdiv(h_TH.numel(), block),)](
        h_TH, bias_H, g_TH, h_TH.numel(), H=h_TH.shape[1], BLOCK=block, num_warps=4
    )
    return g_TH


@torch.no_grad()
def bias_gelu_backward(
    dg_TH: Tensor, h_TH: Tensor, bias_H: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """(gradient of h, g, gradient of bias); the first two take the memory of dg and h."""
    rows, width = h_TH.shape
    block_t, block_h = 16, 128
    columns = triton.cdiv(width, block_h)
    programs = max(1, min(4 * _programs(h_TH) // columns, triton.cdiv(rows, block_t)))
    partial_PH = h_TH.new_empty(programs, width, dtype=torch.float32)
    _bias_gelu_backward[(columns, programs)](
        dg_TH, h_TH, bias_H, partial_PH, rows,
        H=width, BLOCK_T=block_t, BLOCK_H=block_h, num_warps=4,
    )  # fmt: skip
    return dg_TH, h_TH, partial_PH.sum(dim=0)


def _tile(width: int) -> tuple[int, int]:
    """Rows and columns at a time: whole rows, 2,048 numbers or more."""
    columns = triton.next_power_of_2(width)
    return max(1, 2048 // columns), columns


def _programs(like: Tensor) -> int:
    if like.device.type != "cuda":
        return 2  # Triton's interpreter, in tests
    processors = torch.cuda.get_device_properties(like.device).multi_processor_count
    return PROGRAMS_A_PROCESSOR * processors
