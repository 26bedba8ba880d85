"""What training on a CPU asks of oneDNN and of glibc instead of torch's own choice."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import sys
from typing import Any

import torch
from torch import Tensor, nn

_ONEDNN_PRODUCTS = 2**21  # multiplications from which oneDNN's product is the faster one
_LAID_OUT = 2**19  # elements of a weight that is kept laid out for oneDNN besides: 2 MiB
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x Wᵀ + b for [rows, in] and the frozen W [out, in]; W may be a transposed view.

    On a CPU in fp32, from two million multiplications on, oneDNN's product is used where it runs.
    """
    enough = x.shape[0] * weight.numel() >= _ONEDNN_PRODUCTS
    if enough and x.device.type == "cpu" and x.dtype == torch.float32 and _has_product():
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


def hasten_convolutions(module: nn.Module) -> None:
    """Has the small stride-1 convolutions below `module` answer single samples through oneDNN with weights that are
    laid out once. Left to itself, torch lays them out at every call, or multiplies without oneDNN. Module tree, names
    and weights stay as they are; a weight that is changed, or trained, is noticed.
    """
    if not _has_convolution():
        return
    for layer in module.modules():
        if type(layer) is nn.Conv2d and not isinstance(layer._conv_forward, _FrozenConvolution):
            usual = layer.stride == layer.dilation == (1, 1) and layer.groups == 1 and layer.padding_mode == "zeros"
            if usual and not isinstance(layer.padding, str) and layer.weight.numel() <= _LAID_OUT:
                layer.__dict__["_conv_forward"] = _FrozenConvolution(layer)


class _FrozenConvolution:
    """What `hasten_convolutions` puts in the place of a layer's `_conv_forward`."""

    def __init__(self, layer: nn.Conv2d) -> None:
        self._usual = layer._conv_forward
        self._padding = [int(each) for each in layer.padding]
        self._back = [size - 1 - each for size, each in zip(layer.kernel_size, self._padding, strict=True)]
        self._of: tuple[int, int] | None = None
        self._laid_out: dict[tuple[Any, ...], Tensor] = {}

    def __call__(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        one = x.ndim == 4 and x.shape[0] == 1 and x.device.type == "cpu" and not weight.requires_grad
        if not one or not (x.dtype == weight.dtype == torch.float32) or torch.is_autocast_enabled("cpu"):
            return self._usual(x, weight, bias)
        if x.requires_grad and torch.is_grad_enabled():
            answer: Tensor = _Convolve.apply(x, weight, bias, self)
            return answer
        return self.forward(x, weight, bias)

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return _convolution(x, self._layout(x, weight, back=False), bias, self._padding)

    def backward(self, grad: Tensor, weight: Tensor) -> Tensor:
        """The gradient of the input: a convolution with the kernel turned round, channels swapped."""
        return _convolution(grad, self._layout(grad, weight, back=True), None, self._back)

    def _layout(self, x: Tensor, weight: Tensor, *, back: bool) -> Tensor:
        # the best layout depends on the size of the input and on the threads; another one is turned at every call
        of = (weight.data_ptr(), weight._version)
        if of != self._of:
            self._of, self._laid_out = of, {}
        key = (back, x.shape, torch.get_num_threads())
        if key not in self._laid_out:
            kernel = weight.detach()
            kernel = kernel.transpose(0, 1).flip(2, 3).contiguous() if back else kernel
            padding = self._back if back else self._padding
            self._laid_out[key] = _lay_out(kernel, padding, list(x.shape))
        return self._laid_out[key]


class _Convolve(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, layer: _FrozenConvolution) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.layer = layer
        return layer.forward(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return ctx.layer.backward(grad.contiguous(), *ctx.saved_tensors), None, None, None


def _lay_out(kernel: Tensor, padding: list[int], size: list[int]) -> Tensor:
    laid_out: Tensor = torch.ops.mkldnn._reorder_convolution_weight(kernel, padding, [1, 1], [1, 1], 1, size)
    return laid_out


def _convolution(x: Tensor, kernel: Tensor, bias: Tensor | None, padding: list[int]) -> Tensor:
    answer: Tensor = torch.ops.mkldnn._convolution_pointwise(
        x, kernel, bias, padding, [1, 1], [1, 1], 1, "none", [], ""
    )
    return answer


@functools.cache
def _has_convolution() -> bool:
    """Whether torch's oneDNN convolution on laid out weights is there and right (it is no public function)."""
    try:
        x, kernel = torch.arange(32.0).view(1, 2, 4, 4), torch.arange(54.0).view(3, 2, 3, 3)
        found = _convolution(x, _lay_out(kernel, [1, 1], list(x.shape)), None, [1, 1])
    except (AttributeError, RuntimeError, TypeError):
        return False
    return torch.allclose(found, nn.functional.conv2d(x, kernel, padding=1))


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
