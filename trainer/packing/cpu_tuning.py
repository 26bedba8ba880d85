"""What training on a CPU asks of oneDNN and of glibc instead of torch's own choice."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import sys
from typing import Any

import torch
from torch import Tensor, nn

_LEAST_MULTIPLICATIONS = 2**21  # from here on oneDNN's matrix product is the faster one
_MOST_ELEMENTS = 2**19  # of a weight that is prepacked: 2 MiB
_MOST_SIZES = 4  # of inputs that a weight is prepacked for
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x Wᵀ + b for [rows, in] and the frozen W [out, in]; W may be a transposed view.

    On a CPU in fp32, from two million multiplications on, oneDNN's product is used where it runs.
    """
    enough = x.shape[0] * weight.numel() >= _LEAST_MULTIPLICATIONS
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


def prepack_convolutions(module: nn.Module) -> None:
    """Has the small stride-1 convolutions below `module` answer single samples through oneDNN with prepacked weights.

    Left to itself, torch reorders the weights at every call, or multiplies without oneDNN. Module tree, names and
    weights stay as they are, answers change by rounding only; a weight that is trained, or changed in place (other than
    behind autograd's back, through `.data`), is noticed. Costs twice the weights' memory for each size of input, for
    the last four sizes.
    """
    if not _has_convolution():
        return
    for layer in module.modules():
        if type(layer) is nn.Conv2d and _can_prepack(layer):
            layer.__dict__["_conv_forward"] = _PrepackedConvolution(layer)


def _can_prepack(layer: nn.Conv2d) -> bool:
    plain = layer.stride == layer.dilation == (1, 1) and layer.groups == 1 and layer.padding_mode == "zeros"
    new = not isinstance(layer._conv_forward, _PrepackedConvolution)
    return plain and new and layer.weight.numel() <= _MOST_ELEMENTS and _pads_inside(layer)


def _pads_inside(layer: nn.Conv2d) -> bool:
    """Whether the gradient of its input is a convolution as well: by less than the kernel, and by numbers."""
    padding = () if isinstance(layer.padding, str) else layer.padding
    return bool(padding) and all(each < size for each, size in zip(padding, layer.kernel_size, strict=True))


class _PrepackedConvolution:
    """What `prepack_convolutions` puts in the place of a layer's `_conv_forward`."""

    def __init__(self, layer: nn.Conv2d) -> None:
        self._plain_forward = layer._conv_forward
        self._padding = [int(each) for each in layer.padding]
        self._back_padding = [size - 1 - each for size, each in zip(layer.kernel_size, self._padding, strict=True)]
        self._forget()

    def _forget(self) -> None:
        self._packed_from: Tensor | None = None  # held, so that no other tensor can come to lie at its address
        self._version = -1
        self.packed: dict[tuple[Any, ...], Tensor] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Without the prepacked weights, which can neither be copied nor saved."""
        return {**self.__dict__, "_packed_from": None, "_version": -1, "packed": {}}

    def __call__(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        frozen = not weight.requires_grad and not weight.is_inference() and (bias is None or not bias.requires_grad)
        single = x.ndim == 4 and x.shape[0] == 1 and x.device.type == "cpu" and x.dtype == weight.dtype == torch.float32
        if not frozen or not single or torch.is_autocast_enabled("cpu"):
            return self._plain_forward(x, weight, bias)
        if x.requires_grad and torch.is_grad_enabled():
            answer: Tensor = _Convolve.apply(x, weight, bias, self)
            return answer
        return self.forward(x, weight, bias)

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return _convolution(x, self._prepacked(x, weight, back=False), bias, self._padding)

    def backward(self, grad: Tensor, weight: Tensor) -> Tensor:
        """The gradient of the input: a convolution with the kernel turned round, channels swapped."""
        return _convolution(grad, self._prepacked(grad, weight, back=True), None, self._back_padding)

    def _prepacked(self, x: Tensor, weight: Tensor, *, back: bool) -> Tensor:
        old = self._packed_from
        if old is None or old.data_ptr() != weight.data_ptr() or self._version != weight._version:
            self._forget()
            self._packed_from, self._version = weight.detach(), weight._version
        # the best format depends on the size of the input and on the threads; oneDNN reorders any other at every call
        key = (back, x.shape, torch.get_num_threads())
        if key not in self.packed:
            while len(self.packed) >= 2 * _MOST_SIZES:
                del self.packed[next(iter(self.packed))]
            kernel = weight.detach()
            kernel = kernel.transpose(0, 1).flip(2, 3).contiguous() if back else kernel
            self.packed[key] = _prepack(kernel, self._back_padding if back else self._padding, list(x.shape))
        return self.packed[key]


class _Convolve(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, layer: _PrepackedConvolution) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.layer = layer
        return layer.forward(x, weight, bias)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return ctx.layer.backward(grad, *ctx.saved_tensors), None, None, None


def _prepack(kernel: Tensor, padding: list[int], size: list[int]) -> Tensor:
    packed: Tensor = torch.ops.mkldnn._reorder_convolution_weight(kernel, padding, [1, 1], [1, 1], 1, size)
    return packed


def _convolution(x: Tensor, kernel: Tensor, bias: Tensor | None, padding: list[int]) -> Tensor:
    answer: Tensor = torch.ops.mkldnn._convolution_pointwise(
        x, kernel, bias, padding, [1, 1], [1, 1], 1, "none", [], ""
    )
    return answer


@functools.cache
def _has_convolution() -> bool:
    """Whether torch's oneDNN convolution on prepacked weights is there and right (it is no public function)."""
    try:
        x, kernel = torch.arange(32.0).view(1, 2, 4, 4), torch.arange(54.0).view(3, 2, 3, 3)
        found = _convolution(x, _prepack(kernel, [1, 1], list(x.shape)), None, [1, 1])
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
