"""What other programs make of a DoRA file, by the formulas of their own code, written here anew.

- A1111: `NetworkModule.apply_weight_decompose`, extensions-builtin/Lora/network.py (stable-diffusion-webui 1.10).
- ComfyUI: `weight_decompose`, comfy/weight_adapter/base.py (0.3.64).
- sd-scripts: `networks/lora.py` has no magnitudes (0.10.1); diffusers leaves keys with `dora_scale` out (0.42).
"""

from collections.abc import Callable

import torch
from torch import Tensor

Reader = Callable[[dict[str, Tensor], Tensor], Tensor]
"""A layer's tensors, by the ends of their keys, and the base's weight → the weight it draws with."""


def in_a1111(layer: dict[str, Tensor], weight: Tensor) -> Tensor:
    """dora_scale ÷ the norm of each input's column of W + ΔW."""
    full = weight + _change(layer, weight)
    if "dora_scale" not in layer:
        return full
    norm = full.transpose(0, 1).reshape(full.shape[1], -1).norm(dim=1)
    return full * (layer["dora_scale"] / norm.reshape(1, -1, *[1] * (weight.ndim - 2)))


def in_comfyui(layer: dict[str, Tensor], weight: Tensor) -> Tensor:
    """dora_scale ÷ the norm of each output's row of W, without ΔW; by input as A1111."""
    full = weight + _change(layer, weight)
    if "dora_scale" not in layer:
        return full
    if layer["dora_scale"].shape[0] != full.shape[0]:
        return in_a1111(layer, weight)
    norm = weight.reshape(len(weight), -1).norm(dim=1).reshape(-1, *[1] * (weight.ndim - 1))
    return full * (layer["dora_scale"] / norm)


def without_magnitudes(layer: dict[str, Tensor], weight: Tensor) -> Tensor:
    """sd-scripts and diffusers."""
    return weight + _change(layer, weight)


READERS: dict[str, Reader] = {
    "A1111": in_a1111,
    "ComfyUI": in_comfyui,
    "sd-scripts, diffusers": without_magnitudes,
}


def as_trained_by_input(layer: dict[str, Tensor], weight: Tensor) -> Tensor:
    """m · (W + ΔW) ÷ ‖W + ΔW‖ by input, as OneTrainer (23df383, DoRAModule) and LyCORIS without wd_on_output train it:
    a matrix of one column for each input."""
    full = weight + _change(layer, weight)
    columns = torch.stack([column.flatten() for column in full.unbind(1)])
    gains = layer["dora_scale"].flatten() / torch.sqrt((columns * columns).sum(1))
    return torch.stack([column * gain for column, gain in zip(full.unbind(1), gains, strict=True)], dim=1)


def as_trained(layer: dict[str, Tensor], weight: Tensor) -> Tensor:
    """m · (W + ΔW) ÷ ‖W + ΔW‖ by output: Liu et al., 2024, as peft and LyCORIS (wd_on_output) train it."""
    full = weight + _change(layer, weight)
    norm = torch.linalg.vector_norm(full.flatten(1), dim=1).reshape(-1, *[1] * (weight.ndim - 1))
    return full * layer["dora_scale"].reshape(norm.shape) / norm


def _change(layer: dict[str, Tensor], weight: Tensor) -> Tensor:
    up, down = layer["lora_up.weight"], layer["lora_down.weight"]
    product = torch.mm(up.flatten(1), down.flatten(1)).reshape(weight.shape)
    return product * (layer["alpha"] / len(down))
