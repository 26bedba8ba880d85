"""What training on a CPU asks of oneDNN and of glibc instead of torch's own choice."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import sys

import torch
from torch import Tensor

_ONEDNN_ROWS = 96
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x Wᵀ + b for [rows, in] and the frozen W [out, in]; W may be a transposed view.

    On a CPU in fp32, from a hundred rows on, oneDNN's product is used where it runs.
    """
    if x.device.type == "cpu" and x.dtype == torch.float32 and x.shape[0] >= _ONEDNN_ROWS and _has_product():
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return torch.mm(x, weight.t()) if bias is None else torch.addmm(bias, x, weight.t())


@functools.cache
def _has_product() -> bool:
    """Whether torch's oneDNN product, which torch.compile uses, is there and right (it is no public function)."""
    try:
        x, weight = torch.arange(12.0).view(4, 3), torch.arange(6.0).view(3, 2)
        found = torch.ops.mkldnn._linear_pointwise(x, weight.t(), None, "none", [], "")
    except (AttributeError, RuntimeError, TypeError):
        return False
    return torch.equal(found, x @ weight)


@functools.cache
def keep_freed_memory() -> None:
    """Has glibc keep what is freed instead of giving it back: a wide pack's activations are megabytes each, and
    mapping them anew at every step costs page faults. Elsewhere it does nothing."""
    if not sys.platform.startswith("linux"):
        return
    with contextlib.suppress(AttributeError, OSError):
        library = ctypes.CDLL(None)
        library.mallopt(_M_MMAP_THRESHOLD, 1 << 30)
        library.mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)
