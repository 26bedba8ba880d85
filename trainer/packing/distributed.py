"""Several processes, one run: each trains on its own share of the batches, gradients are averaged before each step.

Started by `accelerate launch` (or torchrun); a plain start is a crew of one, which costs nothing.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trainer.devices import find_device

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True)
class Crew:
    """The processes of one run. rank: this one's number; size: how many there are; device: where this one trains."""

    device: torch.device
    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and talks to the user."""
        return self.rank == 0

    def wait(self) -> None:
        """Until all are here."""
        if self.size > 1:
            import torch.distributed

            torch.distributed.barrier()

    @contextlib.contextmanager
    def main_first(self) -> Iterator[None]:
        """The main process goes through the block first (and fills caches), then the others."""
        if not self.is_main:
            self.wait()
        yield
        if self.is_main:
            self.wait()

    def average_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Each gradient becomes its mean over all processes; one message for all of them."""
        if self.size == 1:
            return
        import torch
        import torch.distributed

        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients]) / self.size
        torch.distributed.all_reduce(flat)
        parts = flat.split([gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view(gradient.shape))


def join_crew(device: str = "auto") -> Crew:
    """This process's place among those that a launcher started; alone, a crew of one on `device`.

    "auto" is the first CUDA device, then Apple's, then the CPU. In a crew each process takes the device that
    accelerate gives it, or the CPU when `device` says so.

    Raises:
        ConfigError, ModelError: this machine has no such device.
    """
    import torch

    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        from accelerate import PartialState

        state = PartialState(cpu=device == "cpu")
        place = torch.device("cpu") if state.device.type == "cpu" else state.device
        return Crew(place, state.process_index, state.num_processes)
    return Crew(find_device(device, key="--device"))
