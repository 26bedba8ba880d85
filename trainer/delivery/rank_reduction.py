"""Fewer ranks by singular values: what each rank would lose of a LoRA's change, and the smaller LoRA.

As sd-scripts' `networks/resize_lora.py`, but with the loss of all layers together, and without making ΔW: the singular
values of up · down are those of the product of their triangular factors.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from trainer.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor

    from trainer.lora.lora import LoraModule, LoraWeights, Site

NOTHING = 1e-3
"""A relative loss: of the order of what fp16 rounds away, 2^-11 of each number."""


@dataclass(frozen=True)
class RankCurve:
    """What each rank would lose.

    Attributes:
        rank: the largest of the LoRA.
        losses: rank (1 to `rank`) to ‖ΔW − ΔW of that rank‖ ÷ ‖ΔW‖ over all layers, each with that rank.
    """

    rank: int
    losses: dict[int, float]

    def least(self, loss: float) -> int:
        """The smallest rank that loses no more than `loss`."""
        return next(rank for rank in sorted(self.losses) if self.losses[rank] <= loss or rank == self.rank)

    @property
    def lines(self) -> tuple[str, ...]:
        """The curve for people, at halves of the rank."""
        shown = {self.rank}
        while (half := min(shown) // 2) >= 1:
            shown.add(half)
        return tuple(f"rank {rank:3d} loses {100 * self.losses[rank]:.2g} %" for rank in sorted(shown, reverse=True))


@dataclass(frozen=True)
class _Factors:
    """ΔW = left · diag(values) · right, values falling, the scale alpha ÷ rank among them."""

    left: Tensor
    values: Tensor
    right: Tensor


def rank_curve(lora: LoraWeights) -> RankCurve:
    """What each rank would lose; layers of a lower rank lose nothing there.

    Raises:
        ModelError: DoRA layers, whose change depends on the base.
    """
    import torch

    _check(lora)
    rank = max(module.rank for module in lora.modules.values())
    squares = torch.zeros(rank, dtype=torch.float64)
    for module in lora.modules.values():
        values = _factors(module).values
        squares[: len(values)] += values.square()
    total = float(squares.sum())
    kept = squares.cumsum(0)
    losses = {
        number: 0.0 if number == rank else _root(1 - float(kept[number - 1]) / total if total else 0.0)
        for number in range(1, rank + 1)
    }
    return RankCurve(rank, losses)


def reduced(lora: LoraWeights, rank: int | None = None, *, loss: float = NOTHING) -> LoraWeights:
    """The LoRA of a lower rank that is nearest to it (Eckart and Young, 1936); each layer's alpha stays, since readers
    pass over alphas that differ (see `blocks.weighted`).

    Args:
        rank: of every layer that has more; None: each layer has the rank at which it loses no more than `loss` of its
            own change.

    Raises:
        ModelError: DoRA layers.
    """
    _check(lora)
    return replace(lora, modules={site: _reduced(module, rank, loss) for site, module in lora.modules.items()})


def _reduced(module: LoraModule, rank: int | None, loss: float) -> LoraModule:
    factors = _factors(module)
    wanted = _own_rank(factors.values, loss) if rank is None else rank
    if wanted >= module.rank:
        return module
    scale = module.alpha / wanted
    roots = (factors.values[:wanted] / abs(scale)).sqrt()
    sign = 1.0 if scale > 0 else -1.0
    up = (factors.left[:, :wanted] * roots * sign).to(module.up.dtype)
    down = (factors.right[:wanted] * roots[:, None]).to(module.down.dtype)
    return replace(
        module,
        up=up.reshape(module.up.shape[0], wanted, *module.up.shape[2:]).contiguous(),
        down=down.reshape(wanted, *module.down.shape[1:]).contiguous(),
    )


def _own_rank(values: Tensor, loss: float) -> int:
    total = float(values.square().sum())
    kept = values.square().cumsum(0)
    for number in range(1, len(values)):
        if not total or _root(1 - float(kept[number - 1]) / total) <= loss:
            return number
    return len(values)


def _factors(module: LoraModule) -> _Factors:
    import torch

    up, down = module.up.flatten(1).double(), module.down.flatten(1).double()
    left, upper = torch.linalg.qr(up)
    right, lower = torch.linalg.qr(down.T)
    inner, values, outer = torch.linalg.svd(upper @ lower.T * (module.alpha / module.rank))
    count = len(values)
    return _Factors(left @ inner[:, :count], values, outer[:count] @ right.T)


def _check(lora: LoraWeights) -> None:
    dora = [site for site, module in lora.modules.items() if module.magnitude is not None]
    if dora:
        raise ModelError(
            f"--rank: expected LoRA or LoCon, got DoRA in {len(dora)} of {len(lora.modules)} layers "
            f"({_named(dora[0])}): what its rank loses depends on the base"
        )


def _named(site: Site) -> str:
    return ".".join(site)


def _root(share: float) -> float:
    return max(share, 0.0) ** 0.5
