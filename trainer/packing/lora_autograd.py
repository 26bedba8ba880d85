"""One adapted module's forward and backward as a single autograd node, for K LoRAs on their own rows each.

The base's weight is frozen, so only what the low-rank term needs is kept; gradients of the LoRAs are added where the
pack's row of gradients lies, not handed back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from trainer.packing.cpu_tuning import linear

if TYPE_CHECKING:
    from trainer.packing.packed_layers import PackedSite


class LoraLinear(torch.autograd.Function):
    """y = x Wᵀ + b + s · (x downᵀ) upᵀ, run by run, in one node: W is frozen, so nothing else needs to be kept."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, down: Tensor, up: Tensor, site: PackedSite
    ) -> Tensor:
        width, rows, scale = down.shape[0], weight.shape[0], site.scale
        own_down, own_up = down.to(x.dtype), up.to(x.dtype)
        flat = x.reshape(-1, x.shape[-1])
        output = linear(flat, weight, bias)
        if width == 1:
            hidden = _scaled(torch.mm(flat, own_down[0].t()), scale)
            output.addmm_(hidden, own_up[0].t())
        else:
            hidden = torch.bmm(flat.view(width, -1, flat.shape[1]), own_down.mT).mul_(scale)
            output.view(width, -1, rows).baddbmm_(hidden, own_up.mT)
        ctx.save_for_backward(flat, hidden, weight, own_down, own_up)
        ctx.site, ctx.shape = site, x.shape
        return output.view(*x.shape[:-1], rows)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        flat, hidden, weight, down, up = ctx.saved_tensors
        width = down.shape[0]
        grad = grad.reshape(-1, grad.shape[-1])
        grad_x = linear(grad, weight.t(), None) if ctx.needs_input_grad[0] else None
        if width == 1:
            grad_hidden = _scaled(torch.mm(grad, up[0]), ctx.site.scale)
            ctx.site.add_gradients((grad_hidden.t(), flat), (grad.t(), hidden))
            if grad_x is not None:
                grad_x.addmm_(grad_hidden, down[0])
        else:
            grouped = grad.view(width, -1, grad.shape[1])
            grad_hidden = torch.bmm(grouped, up).mul_(ctx.site.scale)
            ctx.site.add_gradients((grad_hidden.mT, flat.view(width, -1, flat.shape[1])), (grouped.mT, hidden))
            if grad_x is not None:
                grad_x.view(width, -1, flat.shape[1]).baddbmm_(grad_hidden, down)
        return None if grad_x is None else grad_x.view(ctx.shape), None, None, None, None, None


class LoraPointwise(torch.autograd.Function):
    """The same for a 1×1 convolution: channels stay where they are, [N, C, H·W], matrices multiply from the left."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, down: Tensor, up: Tensor, site: PackedSite
    ) -> Tensor:
        each, scale = x.shape[0] // down.shape[0], site.scale
        scale_each = scale.repeat_interleave(each, 0) if isinstance(scale, Tensor) else scale
        own_down, own_up = _repeat(down.to(x.dtype), each), _repeat(up.to(x.dtype), each)
        flat = x.reshape(x.shape[0], x.shape[1], -1)
        output = F.conv2d(x, weight, bias).contiguous()
        hidden = _scaled(torch.bmm(own_down, flat), scale_each)
        output.view(x.shape[0], weight.shape[0], -1).baddbmm_(own_up, hidden)
        ctx.save_for_backward(flat, hidden, weight, own_down, own_up)
        ctx.site, ctx.scale, ctx.shape = site, scale_each, x.shape
        return output

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        flat, hidden, weight, down, up = ctx.saved_tensors
        grad = grad.reshape(grad.shape[0], grad.shape[1], -1)
        grad_hidden = _scaled(torch.bmm(up.mT, grad), ctx.scale)
        width = ctx.site.down.shape[0]
        if len(grad) == width:
            ctx.site.add_gradients((grad_hidden, flat.mT), (grad, hidden.mT))
        else:  # the images of a run side by side make one product of all their places
            ctx.site.add_gradients(
                (_side_by_side(grad_hidden, width), _side_by_side(flat, width).mT),
                (_side_by_side(grad, width), _side_by_side(hidden, width).mT),
            )
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = torch.matmul(weight.flatten(1).t(), grad)
            grad_x.baddbmm_(down.mT, grad_hidden)
        return None if grad_x is None else grad_x.view(ctx.shape), None, None, None, None, None


def _side_by_side(matrices: Tensor, width: int) -> Tensor:
    """[K·B, a, n] → [K, a, B·n]"""
    each = matrices.view(width, -1, *matrices.shape[1:])
    return each.transpose(1, 2).flatten(2)


def _scaled(hidden: Tensor, scale: float | Tensor) -> Tensor:
    """In place, and in the scale's precision: what a run's scale is does not hang on whether the others' are equal.
    alpha = rank, the usual case, costs nothing."""
    return hidden.mul_(scale) if isinstance(scale, Tensor) or scale != 1.0 else hidden


def _repeat(matrices: Tensor, each: int) -> Tensor:
    """[K, a, b] → [K·each, a, b]"""
    if each == 1:
        return matrices
    return matrices[:, None].expand(-1, each, -1, -1).reshape(-1, *matrices.shape[1:])
