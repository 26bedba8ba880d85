"""LoRA weights that another trainer's own code is given to save, so that every number in its files is known."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from zlib import crc32

import numpy as np
import torch
from safetensors.torch import save_file

from trainer.families.family import Base
from trainer.lora.lora import LoraModule, LoraWeights, Site

RANK, ALPHA = 2, 1.0


def known_module(site: Site, shape: Iterable[int], epoch: int, *, by_input: bool = False) -> LoraModule:
    """The weights of one layer at one epoch: multiples of 1/256 that fp16 and bf16 hold exactly, with magnitudes.

    Args:
        shape: of the layer's weight, [out, in] or [out, in, kh, kw].
        by_input: whether the magnitudes are.
    """
    out, into, *kernel = shape
    draw = np.random.Generator(np.random.PCG64(crc32(f"{site[0]}/{site[1]}/{epoch}".encode())))
    down = draw.integers(-64, 65, (RANK, into, *kernel)) / 256
    up = draw.integers(-64, 65, (out, RANK, *(1 for _ in kernel))) / 256
    magnitudes = draw.integers(32, 97, out) / 64, draw.integers(32, 97, into) / 64
    parts = [torch.tensor(part, dtype=torch.float32) for part in (down, up, magnitudes[by_input])]
    return LoraModule(parts[0], parts[1], ALPHA, parts[2], by_input)


def all_layers(base: Base) -> dict[Site, tuple[int, ...]]:
    """Every linear layer and convolution of the denoiser and the text encoders, with the shape of its weight."""
    found = {}
    for component in ("denoiser", *base.text_components):
        for path, layer in base.component(component).named_modules():
            if isinstance(layer, torch.nn.Linear | torch.nn.Conv2d):
                found[component, path] = tuple(layer.weight.shape)
    return found


def named_alike(site: Site) -> Site:
    """A site as all versions of transformers name it: without `text_model`."""
    component, path = site
    return component, path if component == "denoiser" else path.removeprefix("text_model.")


def write_known(path: Path, layers: Mapping[Site, tuple[int, ...]], epoch: int) -> None:
    """All of these layers' weights at one epoch, for the other trainer's process: "component/path/down" and so on."""
    tensors: dict[str, torch.Tensor] = {}
    for site, shape in layers.items():
        own = named_alike(site)
        module, other = known_module(own, shape, epoch), known_module(own, shape, epoch, by_input=True)
        parts = {"down": module.down, "up": module.up}
        parts |= {"magnitude": module.magnitude, "magnitude_by_input": other.magnitude}
        tensors |= {"/".join((*own, name)): part.contiguous() for name, part in parts.items() if part is not None}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path)


def differing(read: LoraWeights, epoch: int, layers: Mapping[Site, tuple[int, ...]], *, scale: float) -> list[str]:
    """The layers whose halves, magnitudes or strength are not the known ones.

    Args:
        scale: alpha ÷ rank that the trainer trained with. It may stand in the file as an alpha, or be part of `up`.
    """
    wrong = []
    for site, module in read.modules.items():
        known = known_module(named_alike(site), layers[site], epoch, by_input=module.by_input)
        assert known.magnitude is not None
        up = module.up * (module.alpha / module.rank)
        same = torch.equal(module.down, known.down) and torch.equal(up, known.up * scale)
        if not same or (module.magnitude is not None and not torch.equal(module.magnitude, known.magnitude)):
            wrong.append(".".join(site))
    return wrong
