"""LoRAs that the tests make: with an effect that can be seen, in diffusers' names, or of a single module."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file

from trainer.families.family import Base
from trainer.lora.lora import LoraModule, LoraWeights

_SITE = "lora_unet_mid_block_attentions_0_proj_in"


def with_magnitudes_by_input(base: Base, lora: LoraWeights) -> LoraWeights:
    """The same layers as a DoRA by input, whose magnitudes are a tenth off the base's norms."""
    modules, generator = {}, torch.Generator().manual_seed(3)
    for (component, path), module in lora.modules.items():
        weight = base.component(component).get_submodule(path).weight.detach()
        norms = torch.stack([column.norm() for column in weight.unbind(1)])
        factor = 1 + 0.1 * torch.randn(norms.shape, generator=generator)
        modules[component, path] = replace(module, magnitude=norms * factor, by_input=True)
    return replace(lora, modules=modules)


def random_lora(
    base: Base, *, rank: int = 4, alpha: float = 2.0, text: bool = True, conv: bool = False, scale: float = 0.2
) -> LoraWeights:
    """A LoRA on every kohya module of `base` with an effect that can be seen, drawn from a seed."""
    generator = torch.Generator().manual_seed(5)
    modules = {}
    for component in ("denoiser", *(base.text_components if text else ())):
        for path in base.family.lora_targets(base, component, "kohya", conv):
            layer = base.component(component).get_submodule(path)
            down_shape = (rank, *layer.weight.shape[1:])
            up_shape = (layer.weight.shape[0], rank, *[1] * (layer.weight.ndim - 2))
            modules[component, path] = LoraModule(
                down=torch.randn(down_shape, generator=generator) / down_shape[1] ** 0.5,
                up=torch.randn(up_shape, generator=generator) * scale,
                alpha=alpha,
            )
    return LoraWeights(modules, base.family.name)


def in_diffusers(lora: LoraWeights, component: Callable[[str], str], down: str, up: str) -> dict[str, torch.Tensor]:
    """Its tensors; `component` gives what stands before a module's path, `down` and `up` what stands behind it."""
    tensors = {}
    for (where, path), module in lora.modules.items():
        if where != "denoiser" and not path.startswith("text_model."):
            path = f"text_model.{path}"
        name = f"{component(where)}{path}"
        tensors |= {f"{name}{down}": module.down.contiguous(), f"{name}{up}": module.up.contiguous()}
        tensors[f"{name}.alpha"] = torch.tensor(module.alpha)
        if module.magnitude is not None:
            tensors[f"{name}.lora_magnitude_vector"] = module.magnitude.contiguous()
    return tensors


def diffusers_name(where: str) -> str:
    """What diffusers writes before the paths of a component."""
    number = where.removeprefix("text_encoder_")
    return "unet." if where == "denoiser" else "text_encoder." if number == "0" else f"text_encoder_{int(number) + 1}."


def write_lora(path: Path, rank: int = 4, fill: float = 0.0, **metadata: str) -> None:
    """A file of one module, with kohya's key and this metadata."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {f"{_SITE}.lora_down.weight": np.full((rank, 8), fill), f"{_SITE}.lora_up.weight": np.zeros((8, rank))}
    save_file(tensors, path, metadata=metadata)
