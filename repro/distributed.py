"""Several processes that share a batch, one a GPU (Sec. 3.2: 16 GPUs), as torchrun starts them.

Rank r works on images r x B/R to (r + 1) x B/R of each batch. What the method computes over a batch
(centre, Sinkhorn-Knopp, negatives) is reduced or gathered over the ranks here, so that R ranks take
the step that one process takes on the same batch. With one process every function is the identity.

Departure from the authors' code: theirs gives every rank the same seed, so that crops and drop path
repeat across ranks; here a rank's drop path has a stream of its own.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.nn.functional as differentiable
from torch import Tensor, nn
from torch._C._distributed_c10d import Store, TCPStore  # mypy does not know the documented names
from torch.nn.parallel import DistributedDataParallel

from repro import gpu
from repro.errors import UserError

# How long a rank waits for the others in a collective before it gives up.
PATIENCE = timedelta(minutes=30)
# The same before the first one: a cold scan of 1.28 million files is as slow as a file system is
# busy, and not over everywhere at once. What has become of a rank meanwhile its notes tell.
PATIENCE_FOR_DATA = timedelta(days=1)
PIECE = 2**28  # bytes that rank 0 receives at a time


def ranks() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def take_place(ranks: int, device: str) -> None:
    """What a process does before it opens its data: take the GPU of its LOCAL_RANK, or the only one
    that its job step lets it see.

    Raises:
        UserError: the job has another number of processes than `resources.ranks` asks for.
    """
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if started != ranks:
        raise UserError(
            f"resources.ranks={ranks}, but this job has {started} processes; start it with "
            f"torchrun --nproc-per-node {ranks}, or set resources.ranks={started}"
        )
    if ranks > 1 and device == "cuda":
        mine = own_gpu(int(os.environ["LOCAL_RANK"]), torch.cuda.device_count())
        torch.cuda.set_device(torch.device("cuda", mine))  # without it all would take the first


@contextmanager
def joined(ranks: int, device: str, store: Store | None = None) -> Iterator[None]:
    """The process group of this job for the time of a run, if the job has several processes.

    torchrun sets WORLD_SIZE, RANK, LOCAL_RANK, MASTER_ADDR and MASTER_PORT; the last two are not
    looked at where the ranks meet at a `store`. There they wait for each other as long as it takes,
    before the time limit of the group counts: what ranks do not end at the same time, such as
    opening the data set, belongs before it.

    After an error an NCCL group is left as it is: to end one takes all ranks, and this one would
    wait for others that wait for it, before anybody is told of the error.
    """
    if ranks == 1:
        yield
        return
    place: dict[str, Any] = {"timeout": PATIENCE}
    if store is not None:
        own = int(os.environ["RANK"])
        store.set(f"ready {own}", "")
        store.wait([f"ready {r}" for r in range(ranks)], PATIENCE_FOR_DATA)
        place |= {"store": store, "rank": own, "world_size": ranks}
    # Without `device_id`, with which collectives have been seen to hang (pytorch issue 153960).
    dist.init_process_group("nccl" if device == "cuda" else "gloo", **place)
    try:
        yield
    except BaseException:
        if device != "cuda":
            dist.destroy_process_group()
        raise
    dist.destroy_process_group()


def torchrun_store() -> Store:
    """Where the ranks of torchrun meet."""
    from torch.distributed.rendezvous import rendezvous

    store: Store = next(rendezvous("env://", timeout=PATIENCE))[0]
    return store


def open_store(host: str, port: int, listening: int | None = None) -> Store:
    """Where ranks meet: kept by the one that gives the file descriptor of its `listening` port."""
    if listening is None:
        return TCPStore(host, port, timeout=PATIENCE)
    return TCPStore(
        host, port, is_master=True, timeout=PATIENCE, wait_for_workers=False,
        master_listen_fd=listening,
    )  # fmt: skip


def own_gpu(local_rank: int, visible: int) -> int:
    """The index of a rank's GPU among those that its process sees: all of a node's, or its own."""
    return local_rank % visible


def synchronise_batch_norm(network: nn.Module, device: torch.device) -> nn.Module:
    """The network with batch statistics over all ranks; itself with a single process.

    Raises:
        UserError: several ranks on a CPU, where torch does not synchronise.
    """
    normed = any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in network.modules())
    if ranks() == 1 or not normed:
        return network
    if device.type != "cuda":
        raise UserError(
            f"resources.ranks={ranks()}: torch synchronises batch norm on GPUs only; set "
            "train.sync_batch_norm=false or resources.ranks=1"
        )
    convert: Callable[[nn.Module], nn.Module] = nn.SyncBatchNorm.convert_sync_batchnorm
    return convert(network)


def replicate(student: nn.Module) -> nn.Module:
    """The student in torch's DDP, which averages its gradients; itself with a single process."""
    if ranks() == 1:
        return student
    device = next(student.parameters()).device
    ids = [device.index] if device.type == "cuda" else None
    return DistributedDataParallel(student, device_ids=ids)


def gradients_at(replica: nn.Module, last: bool) -> AbstractContextManager[None]:
    """Where a batch comes in parts: average gradients over the ranks after the last part only."""
    if last or not isinstance(replica, DistributedDataParallel):
        return nullcontext()
    waiting: AbstractContextManager[None] = replica.no_sync()
    return waiting


def share(batch: Tensor, part: tuple[int, int]) -> Tensor:
    """The rows of `batch` that rank `part[0]` of `part[1]` works on; equal shares, in order."""
    return batch.tensor_split(part[1])[part[0]]


def mean(values: Tensor) -> Tensor:
    """The mean of a tensor over all ranks."""
    if ranks() == 1:
        return values
    total = values.clone()
    dist.all_reduce(total)
    return total / ranks()


def means(scalars: dict[str, Tensor]) -> dict[str, Tensor]:
    """The mean over all ranks of each of these numbers, in one exchange."""
    if ranks() == 1:
        return scalars
    first, *_ = scalars.values()
    stacked = torch.stack([value.to(first.device) for value in scalars.values()])
    return dict(zip(scalars, mean(stacked).unbind(), strict=True))


def gather(values: Tensor, dim: int = 0) -> Tensor:
    """All ranks' tensors (of one shape) one after another along `dim`; carries no gradient."""
    if ranks() == 1:
        return values
    values = values.contiguous()
    pieces = [torch.empty_like(values) for _ in range(ranks())]
    dist.all_gather(pieces, values)
    return torch.cat(pieces, dim=dim)


def gather_shares(rows: Tensor, total: int) -> Tensor:
    """On rank 0 all `total` rows from the ranks' shares (see `share`), on the others none.

    They come piece by piece into rank 0's host memory: features of ImageNet are ten gigabytes, more
    than a GPU has beside the training.
    """
    if ranks() == 1:
        return rows
    lengths = [len(share(torch.empty(total), (r, ranks()))) for r in range(ranks())]
    wires = "cuda" if dist.get_backend() == "nccl" else "cpu"
    width = rows.shape[1:].numel() * rows.element_size()
    of_a_piece = max(1, PIECE // (ranks() * width))
    whole = rows.new_empty(total if rank() == 0 else 0, *rows.shape[1:], device="cpu")
    shares = torch.split(whole, lengths) if rank() == 0 else ()
    for start in range(0, lengths[0], of_a_piece):  # the first share is a longest one
        stop = min(start + of_a_piece, lengths[0])
        mine = rows.new_zeros(stop - start, *rows.shape[1:], device=wires)
        mine[: len(rows) - start] = rows[start:stop]
        pieces = [torch.empty_like(mine) for _ in shares]
        dist.gather(mine, pieces or None)
        for received, piece in zip(shares, pieces, strict=True):
            received[start:stop] = piece[: len(received) - start]
    return whole


def of_first(number: float) -> float:
    """Rank 0's number, on every rank."""
    if ranks() == 1:
        return number
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    told = torch.tensor(number, dtype=torch.float64, device=device)
    dist.broadcast(told, 0)
    return float(told)


def gather_with_gradient(values: Tensor, dim: int = 0) -> Tensor:
    """`gather` through which every rank's loss reaches every rank's tensor."""
    if ranks() == 1:
        return values
    all_gather: Callable[[Tensor], tuple[Tensor, ...]] = differentiable.all_gather
    return torch.cat(all_gather(values.contiguous()), dim=dim)


def logsumexp(values_NK: Tensor) -> Tensor:
    """log sum exp over the images of all ranks, [1, K]."""
    local = values_NK.logsumexp(dim=0, keepdim=True)
    return local if ranks() == 1 else gather(local).logsumexp(dim=0, keepdim=True)


def any_rank(flag: bool) -> bool:
    """Whether the flag is raised on any rank: a decision that all of them must share."""
    if ranks() == 1:
        return flag
    raised = torch.tensor(float(flag), device="cuda" if dist.get_backend() == "nccl" else "cpu")
    dist.all_reduce(raised, op=dist.ReduceOp.MAX)
    return bool(raised)


def choose_device(name: str) -> torch.device:
    """The device that `resources.device` names: cpu, cuda, or auto: cuda where there is one.

    Raises:
        UserError: cuda is asked for and there is none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("resources.device=cuda, but torch sees no GPU; use auto or cpu")
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(name)


def open_device(name: str, deterministic: bool = False) -> torch.device:
    """The device of `choose_device`, set up to compute; see `gpu.prepare`."""
    device = choose_device(name)
    gpu.prepare(device, deterministic)
    return device
