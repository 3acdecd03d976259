"""Several processes that train one network, each on its part of every batch, started by torchrun."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from trainer.errors import TrainerError


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """Which of how many processes this is. One process is the usual case, and then nothing is exchanged.

    Attributes:
        rank: 0 writes the files and shows the progress.
        local_rank: number on this machine, which is the number of its GPU.
    """

    rank: int = 0
    count: int = 1
    local_rank: int = 0

    @property
    def first(self) -> bool:
        """Whether this process writes."""
        return self.rank == 0

    def require_even_shares(self, batch: int) -> None:
        """Refuse a batch that the processes cannot divide evenly: their mean would not be the mean of the images.

        Raises:
            TrainerError: naming both numbers.
        """
        if batch % self.count:
            raise TrainerError(f"{self.count} processes cannot share a batch of {batch}: choose another --batch")

    def wait(self) -> None:
        """Wait until every process is here."""
        if self.count > 1:
            dist.barrier()

    def mean(self, *values: Tensor) -> list[float]:
        """Return the means of numbers over the processes, the same in all of them."""
        together = torch.stack([value.detach().double() for value in values])
        if self.count > 1:
            dist.all_reduce(together)
            together /= self.count
        return together.tolist()

    def wrap(self, network: nn.Module) -> nn.Module:
        """Return the network to call forward on: its gradients are the means over the processes."""
        if self.count == 1:
            return network
        on_gpu = next(network.parameters()).device.type == "cuda"
        # The statistics of BatchNorm are averaged below; DDP would copy those of the first process instead.
        return DistributedDataParallel(
            network, device_ids=[self.local_rank] if on_gpu else None, broadcast_buffers=False
        )

    @torch.no_grad()
    def average_statistics(self, network: nn.Module) -> None:
        """Average the statistics of BatchNorm over the processes, so that all hold one network."""
        buffers = [buffer for buffer in network.buffers() if buffer.is_floating_point()]
        if self.count == 1 or not buffers:
            return
        together = torch.cat([buffer.flatten() for buffer in buffers])
        dist.all_reduce(together)
        together /= self.count
        parts = torch.split(together, [buffer.numel() for buffer in buffers])
        for buffer, part in zip(buffers, parts, strict=True):
            buffer.copy_(part.view_as(buffer))


ALONE = Ranks()


@contextmanager
def joined_ranks(device: str | None) -> Iterator[Ranks]:
    """Join the processes that torchrun started; without torchrun there is one.

    Args:
        device: the --device option; on a GPU the processes talk by NCCL, else by gloo.

    Raises:
        TrainerError: more processes on this machine than GPUs.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield ALONE
        return
    ranks = Ranks(
        rank=int(os.environ["RANK"]), count=int(os.environ["WORLD_SIZE"]), local_rank=int(os.environ["LOCAL_RANK"])
    )
    on_gpu = torch.cuda.is_available() if device is None else device.startswith("cuda")
    if on_gpu:
        if ranks.local_rank >= torch.cuda.device_count():
            raise TrainerError(f"{torch.cuda.device_count()} GPUs here: lower torchrun's --nproc-per-node to that")
        torch.cuda.set_device(ranks.local_rank)
    dist.init_process_group("nccl" if on_gpu else "gloo")
    try:
        yield ranks
    finally:
        dist.destroy_process_group()
