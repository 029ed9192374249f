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
from torch._C._distributed_c10d import TCPStore  # by its documented name mypy does not know it
from torch.nn.parallel import DistributedDataParallel

from repro import gpu
from repro.errors import UserError

# How long a rank waits for the others before it gives up. NCCL's own ten minutes are too short for
# a cold scan of 1.28 million files, which ranks do not end at the same time.
PATIENCE = timedelta(minutes=30)


def ranks() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


@contextmanager
def joined(ranks: int, device: str, store: TCPStore | None = None) -> Iterator[None]:
    """The process group of this job for the time of a run, if the job has several processes.

    torchrun sets WORLD_SIZE, RANK, LOCAL_RANK, MASTER_ADDR and MASTER_PORT; the last two are not
    looked at where the ranks meet at a `store`. A rank computes on the GPU of its LOCAL_RANK, or on
    the only one that its job step lets it see.

    After an error an NCCL group is left as it is: to end one takes all ranks, and this one would
    wait for others that wait for it, before anybody is told of the error.

    Raises:
        UserError: the job has another number of processes than `resources.ranks` asks for.
    """
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if started != ranks:
        raise UserError(
            f"resources.ranks={ranks}, but this job has {started} processes; start it with "
            f"torchrun --nproc-per-node {ranks}, or set resources.ranks={started}"
        )
    if ranks == 1:
        yield
        return
    place: dict[str, Any] = {"timeout": PATIENCE}
    if store is not None:
        place |= {"store": store, "rank": int(os.environ["RANK"]), "world_size": ranks}
    if device == "cuda":
        mine = torch.device(
            "cuda", own_gpu(int(os.environ["LOCAL_RANK"]), torch.cuda.device_count())
        )
        torch.cuda.set_device(mine)  # before anything is put on a GPU, which would be the first
        # Without `device_id`, with which collectives have been seen to hang (pytorch issue 153960).
        dist.init_process_group("nccl", **place)
    else:
        dist.init_process_group("gloo", **place)
    try:
        yield
    except BaseException:
        if device != "cuda":
            dist.destroy_process_group()
        raise
    dist.destroy_process_group()


def open_store(host: str, port: int, listening: int | None = None) -> TCPStore:
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


def gather(values: Tensor, dim: int = 0) -> Tensor:
    """All ranks' tensors (of one shape) one after another along `dim`; carries no gradient."""
    if ranks() == 1:
        return values
    # Received where they stay: features of ImageNet are ten gigabytes, which fit a GPU once.
    whole = values.new_empty(ranks() * len(values), *values.shape[1:])
    pieces = list(whole.chunk(ranks()))
    dist.all_gather(pieces, values.contiguous())
    return whole if dim == 0 else torch.cat(pieces, dim=dim)


def gather_shares(rows: Tensor, total: int) -> Tensor:
    """All `total` rows from the ranks' shares (see `share`), which may differ by one in length."""
    if ranks() == 1:
        return rows
    if total % ranks() == 0:
        return gather(rows)
    longest = -(-total // ranks())
    whole = gather(torch.cat([rows, rows.new_zeros(longest - len(rows), *rows.shape[1:])]))
    done = 0
    for r in range(ranks()):
        length = len(share(torch.empty(total), (r, ranks())))
        piece = whole[r * longest : r * longest + length]
        whole[done : done + length] = piece.clone()  # to where another's padding was, or its own
        done += length
    return whole[:total]


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
