"""The average of a run's checkpoints: the mean of what they change, not of their factors.

Averages of weights along a training are often better than any of them (Izmailov et al. 2018, "Averaging Weights Leads
to Wider Optima"; Karras et al. 2024, "Analyzing and Improving the Training Dynamics of Diffusion Models", makes them
afterwards from kept checkpoints, as here). The factors of a LoRA must not be averaged: up and down may turn together
without any change of their product, and mean(up) @ mean(down) is not mean(up @ down).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from trainer.delivery.rank_reduction import rank_curve, reduced
from trainer.errors import ModelError

if TYPE_CHECKING:
    from trainer.lora.lora import LoraModule, LoraWeights, Site


def averaged(loras: Sequence[LoraWeights]) -> tuple[LoraWeights, float]:
    """(the LoRA of the first one's ranks that is nearest to the mean of their ΔW, what is lost by that rank).

    The mean of n LoRAs of rank r has a rank up to n · r. What is lost: ‖mean − result‖ ÷ ‖mean‖ over all layers.

    Raises:
        ModelError: they have different layers or different ranks, or DoRA layers, whose change depends on the base.
    """
    first = loras[0]
    if any(lora.modules.keys() != first.modules.keys() for lora in loras):
        raise ModelError("expected checkpoints of one run to average, got different layers")
    ranks = {module.rank for module in first.modules.values()}
    if any(
        {m.rank for m in (lora.modules[site] for lora in loras)} != {module.rank}
        for site, module in first.modules.items()
    ):
        raise ModelError("expected checkpoints of one run to average, got different ranks")
    modules: dict[Site, LoraModule] = {}
    lost = size = 0.0
    for rank in sorted(ranks):  # convolutions may have another one
        sites = [site for site, module in first.modules.items() if module.rank == rank]
        whole = replace(first, modules={site: _side_by_side([lora.modules[site] for lora in loras]) for site in sites})
        modules |= reduced(whole, rank).modules
        square = sum(_norm(module) for module in whole.modules.values())
        lost += rank_curve(whole).losses[rank] ** 2 * square
        size += square
    return replace(first, modules={site: modules[site] for site in first.modules}), (
        lost / size
    ) ** 0.5 if size else 0.0


def _side_by_side(parts: Sequence[LoraModule]) -> LoraModule:
    """One module of the ranks of all together, whose ΔW is the mean of theirs, exactly."""
    import torch

    alpha, rank = parts[0].alpha, sum(part.rank for part in parts)
    shares = [part.alpha / part.rank / len(parts) * rank / alpha for part in parts]
    return replace(
        parts[0],
        down=torch.cat([part.down for part in parts]),
        up=torch.cat([part.up * share for part, share in zip(parts, shares, strict=True)], dim=1),
    )


def _norm(module: LoraModule) -> float:
    """‖ΔW‖², from the factors' Gram matrices."""
    up, down = module.up.flatten(1).double(), module.down.flatten(1).double()
    return float(((up.T @ up) * (down @ down.T)).sum()) * (module.alpha / module.rank) ** 2
