"""The most similar database vectors of each query, exactly, in memory that does not grow with them.

Similarities are made a block at a time and never kept. Within a block, groups of neighbouring
columns compete by their largest similarity: the k best columns lie in the k best groups, or in
fewer, where few groups reach what earlier blocks have found. Only these are looked into, so that
selecting costs a fraction of the products. Equal similarities are told apart by place: the earlier
database vector is nearer.

Shapes: M queries, N database vectors, D width, k neighbours, B columns of a block, C candidates.
"""

from __future__ import annotations

import torch
from torch import Tensor

from repro.dino.fast.kernels import REFERENCE, Kernels
from repro.errors import UserError

BLOCK = 65536  # database vectors at a time
CHUNK = 256  # queries at a time: 64 MiB of similarities
GPU_CHUNK = 2048  # 512 MiB, of which a launch costs little
GROUP = 32  # columns that compete together


@torch.no_grad()
def nearest(
    queries_MD: Tensor, database_ND: Tensor, k: int, kernels: Kernels = REFERENCE
) -> tuple[Tensor, Tensor]:
    """Cosine similarities in descending order and places in the database, both [M, k].

    With fewer than k database vectors, all of them. The database may lie in a file mapped into
    memory, and on another device than the queries.

    Raises:
        UserError: features that are not finite.
    """
    k = min(k, len(database_ND))
    device = queries_MD.device
    chunk = GPU_CHUNK if device.type == "cuda" else CHUNK
    queries_MD = _unit(queries_MD)
    best = queries_MD.new_full((len(queries_MD), k), -torch.inf)
    places = torch.full((len(queries_MD), k), -1, device=device)
    for first in range(0, len(database_ND), BLOCK):
        block_BD = _unit(database_ND[first : first + BLOCK].to(device))
        for start in range(0, len(queries_MD), chunk):
            rows = slice(start, start + chunk)
            similarity_MB = kernels.linear(queries_MD[rows], block_BD, None)
            similar, where = _best_of(similarity_MB, k, best[rows, -1:])
            # What came from earlier blocks stands first, so that ties go to earlier places.
            merged = torch.cat([best[rows], similar], dim=1)
            values, order = merged.sort(dim=1, descending=True, stable=True)
            best[rows] = values[:, :k]
            both = torch.cat([places[rows], where + first], dim=1)
            places[rows] = both.gather(1, order[:, :k])
    return best, places


def _best_of(similarity_MB: Tensor, k: int, floor_M1: Tensor) -> tuple[Tensor, Tensor]:
    """The k largest of each row, or all that exceed the row's floor, and their columns.

    In descending order; there may be more of them than asked for, never fewer.
    """
    columns = similarity_MB.shape[1]
    groups = columns // GROUP
    maxima_MG = (
        similarity_MB[:, : groups * GROUP].view(len(similarity_MB), groups, GROUP).amax(dim=2)
    )
    reaching = min(k, int((maxima_MG > floor_M1).sum(dim=1).max())) if groups else 0
    _, chosen_Mk = _top(maxima_MG, reaching)
    starts_Mk1 = chosen_Mk.sort(dim=1).values[..., None] * GROUP
    device = similarity_MB.device
    inside = (starts_Mk1 + torch.arange(GROUP, device=device)).flatten(1)
    rest = torch.arange(groups * GROUP, columns, device=device).expand(len(inside), -1)
    columns_MC = torch.cat([inside, rest], dim=1)
    values, within = _top(similarity_MB.gather(1, columns_MC), min(k, columns_MC.shape[1]))
    return values, columns_MC.gather(1, within)


def _top(values_MB: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """As torch.topk, but of equal values the first ones."""
    if k == 0:
        return values_MB[:, :0], values_MB[:, :0].long()
    least = values_MB.topk(k, dim=1).values[:, -1:]
    kept = values_MB >= least
    if int(kept.sum()) > k * len(values_MB):
        above, equal = values_MB > least, values_MB == least
        room = k - above.sum(dim=1, keepdim=True)
        kept = above | (equal & (equal.cumsum(dim=1) <= room))
    columns_Mk = kept.nonzero()[:, 1].view(-1, k)
    values, order = values_MB.gather(1, columns_Mk).sort(dim=1, descending=True, stable=True)
    return values, columns_Mk.gather(1, order)


def _unit(features: Tensor) -> Tensor:
    norms = torch.linalg.vector_norm(features, dim=1, keepdim=True)
    if not bool(norms.isfinite().all()):
        raise UserError(
            "features that are not finite have no neighbours: the training has diverged"
        )
    unit: Tensor = features / norms.clamp(min=1e-12)  # as torch's normalize
    return unit
