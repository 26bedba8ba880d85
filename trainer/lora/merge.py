"""A LoRA at any strength inside the resident fp32 weights, and out again without a trace."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from trainer.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor

    from trainer.families.family import Base
    from trainer.lora.lora import LoraModule, LoraWeights


@contextmanager
def merged(base: Base, lora: LoraWeights | None, strength: float = 1.0) -> Iterator[None]:
    """Within the block the base's weights are W + strength · ΔW; afterwards they are the very bits they were.

    Each weight is copied before it is changed and the copy is written back, so nothing drifts however often this is
    done. Weights must be fp32 or fp64: in bf16 an early LoRA's small change would be rounded away (see
    `packed.applied`).

    Raises:
        ModelError: a LoRA of another family, with a module that the base lacks or of another shape, or a base whose
            weights are not fp32 or fp64.
    """
    import torch

    if lora is None or strength == 0:
        yield
        return
    check_fits(base, lora)
    pristine: list[tuple[Tensor, Tensor]] = []
    try:
        with torch.no_grad():
            for (component, path), module in lora.modules.items():
                weight = base.component(component).get_submodule(path).weight
                if not isinstance(weight, torch.Tensor) or weight.dtype not in (torch.float32, torch.float64):
                    raise ModelError(
                        "a LoRA can be merged into fp32 weights only; this base is bf16, fp16 or quantised"
                    )
                changed = merged_weight(weight, module, strength)
                pristine.append((weight, weight.clone()))
                weight.copy_(changed)
        yield
    finally:
        with torch.no_grad():
            for weight, copy in pristine:
                weight.copy_(copy)


def check_fits(base: Base, lora: LoraWeights) -> None:
    """ModelError in one line when a LoRA is of another family or names modules that the base does not have."""
    if lora.family != base.family.name:
        raise ModelError(f"this is an {base.family.name} base, the LoRA is for {lora.family}")
    for (component, path), module in lora.modules.items():
        if component != "denoiser" and component not in base.text_components:
            raise ModelError(f"the LoRA has modules for {component}, which {base.source} does not have")
        try:
            layer: Any = base.component(component).get_submodule(path)
        except AttributeError as error:
            raise ModelError(f"the LoRA's module {component}.{path} is not in {base.source}") from error
        rows = getattr(layer, "out_features", None) or getattr(layer, "out_channels", None)
        columns = getattr(layer, "in_features", None) or getattr(layer, "in_channels", None)
        if (rows, columns) != (module.up.shape[0], module.down.shape[1]):
            raise ModelError(
                f"the LoRA's module {component}.{path} is for {module.down.shape[1]} → {module.up.shape[0]} features, "
                f"the base has {columns} → {rows}"
            )


def delta(module: LoraModule, shape: tuple[int, ...]) -> Tensor:
    """ΔW = alpha ÷ rank · up @ down, in the shape of the weight that it belongs to."""
    product = module.up.flatten(1) @ module.down.flatten(1)
    return (product * (module.alpha / module.rank)).reshape(shape)


def merged_weight(weight: Tensor, module: LoraModule, strength: float) -> Tensor:
    change = delta(_on(module, weight), tuple(weight.shape))
    if module.magnitude is None:
        return weight + strength * change
    # DoRA: m · (W + ΔW) / ‖W + ΔW‖ (Liu et al., 2024); strengths between go along the straight line
    full = weight + change
    gain = module.magnitude.flatten().to(weight) / norms(full, by_input=module.by_input)
    return weight + strength * (full * gain.reshape(module.magnitude_shape(weight.ndim)) - weight)


def norms(weight: Tensor, *, by_input: bool) -> Tensor:
    """Euclidean norms [out] of a weight's outputs, or [in] of its inputs."""
    rows = weight.transpose(0, 1) if by_input else weight
    return rows.flatten(1).norm(dim=1)


def _on(module: LoraModule, weight: Tensor) -> LoraModule:
    from dataclasses import replace

    return replace(module, down=module.down.to(weight), up=module.up.to(weight))
