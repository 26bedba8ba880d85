"""A DoRA as a plain LoRA, which all programs draw alike.

DoRA's magnitudes by output, as peft and LyCORIS train them, are read in several ways: A1111 divides by norms by input,
ComfyUI by those of the base without the LoRA, sd-scripts and diffusers pass over them, also over those by input, which
the first two read as they were trained. What they change is no low-rank matrix and depends on the base. So it is taken
from the base and brought to a rank by singular values.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from trainer.delivery.rank_reduction import RankCurve
from trainer.errors import ModelError
from trainer.lora.lora import LoraModule
from trainer.lora.merge import check_fits, merged_weight

if TYPE_CHECKING:
    from torch import Tensor

    from trainer.families.family import Base
    from trainer.lora.lora import LoraWeights

_TIMES = 4
"""Ranks of the DoRA that the plain LoRA has where none is asked for."""
_MOST_TIMES = 16  # of what the curve shows


@dataclass(frozen=True)
class PlainLora:
    """A DoRA made plain.

    Attributes:
        lora: the same change without magnitudes, as near as its rank allows.
        layers: how many were DoRA's.
        rank: of those.
        curve: what each rank loses of their change.
    """

    lora: LoraWeights
    layers: int
    rank: int
    curve: RankCurve

    @property
    def loss(self) -> float:
        """‖change − change of the plain LoRA‖ ÷ ‖change‖ over the layers that were DoRA's."""
        return self.curve.losses[self.rank]


def plain_lora(lora: LoraWeights, base: Base, rank: int | None = None) -> PlainLora:
    """The LoRA of this rank that is nearest to a DoRA on its base (Eckart and Young, 1936); other layers stay.

    Args:
        base: that the DoRA was trained on, in fp32.
        rank: of the layers that are DoRA's; None: four times their own.

    Raises:
        ModelError: no layer is DoRA's, or the base is another or not in fp32.
    """
    import torch

    dora = {site: module for site, module in lora.modules.items() if module.magnitude is not None}
    if not dora:
        raise ModelError("--plain-lora: expected a DoRA, got a file without magnitudes: all programs read it already")
    check_fits(base, lora)
    own = max(module.rank for module in dora.values())
    wanted = _TIMES * own if rank is None else rank
    most = max(wanted, _MOST_TIMES * own)
    lost, total = torch.zeros(most, dtype=torch.float64), 0.0
    modules = dict(lora.modules)
    for (component, path), module in dora.items():
        weight = base.component(component).get_submodule(path).weight
        if not isinstance(weight, torch.Tensor) or weight.dtype != torch.float32:
            raise ModelError("--plain-lora: expected a base in fp32, got one in bf16, fp16 or quantised")
        weight = weight.detach().double()
        change = (merged_weight(weight, module, 1.0) - weight).flatten(1)
        factors = _principal(change, most)
        energy = float(change.square().sum())
        kept = factors.values.square().cumsum(0)
        rest = (energy - kept).clamp(min=0.0)
        lost += torch.cat([rest, rest[-1:].expand(most - len(rest))])
        total += energy
        modules[component, path] = _module(factors, module, min(wanted, len(factors.values)))
    losses = {n: float((lost[n - 1] / total).sqrt()) if total else 0.0 for n in range(1, most + 1)}
    return PlainLora(replace(lora, modules=modules), len(dora), wanted, RankCurve(most, losses))


@dataclass(frozen=True)
class _Principal:
    """The largest singular values of a matrix, falling, with their vectors: left [out, n], right [n, in]."""

    left: Tensor
    values: Tensor
    right: Tensor


def _principal(matrix: Tensor, most: int) -> _Principal:
    """By the eigenvectors of the smaller of MMᵀ and MᵀM, in fp64: many times faster than a whole decomposition."""
    import torch

    if matrix.shape[0] > matrix.shape[1]:
        turned = _principal(matrix.T, most)
        return _Principal(turned.right.T, turned.values, turned.left.T)
    squares, vectors = torch.linalg.eigh(matrix @ matrix.T)
    count = min(most, len(squares))
    left = vectors.flip(1)[:, :count]
    values = squares.flip(0)[:count].clamp(min=0.0).sqrt()
    right = (left.T @ matrix) / values.clamp(min=1e-30)[:, None]
    return _Principal(left, values, right)


def _module(factors: _Principal, module: LoraModule, rank: int) -> LoraModule:
    """up · down · alpha ÷ rank is the change; the alpha stays."""
    scale = module.alpha / rank
    roots = (factors.values[:rank] / abs(scale)).sqrt()
    up = factors.left[:, :rank] * roots * (1.0 if scale > 0 else -1.0)
    down = factors.right[:rank] * roots[:, None]
    return LoraModule(
        down=down.reshape(rank, *module.down.shape[1:]).to(module.down.dtype).contiguous(),
        up=up.reshape(len(up), rank, *module.up.shape[2:]).to(module.up.dtype).contiguous(),
        alpha=module.alpha,
    )
