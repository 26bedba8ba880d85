"""Random streams by name: every draw of a run comes from (seed, name, position), never from a state that runs on.

So a resumed run draws what an uninterrupted one would have drawn, whatever else was trained beside it.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def stream(seed: int, name: str, *position: int | str) -> torch.Generator:
    """A CPU generator at the start of the stream `name` of `seed`, at `position` (epoch, step, module name, …)."""
    import torch

    return torch.Generator().manual_seed(stream_seed(seed, name, *position))


def stream_seed(seed: int, name: str, *position: int | str) -> int:
    """The 63-bit seed of a stream: the head of SHA-256 over its name."""
    text = "/".join(map(str, (seed, name, *position)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
