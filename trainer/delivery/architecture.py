"""The layers that a base has, with their shapes, from its configuration alone: no weight is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.errors import ModelError
from trainer.families import FAMILIES
from trainer.families.layout import CONFIGS, is_single_file, locate, read_parts

if TYPE_CHECKING:
    from torch import nn

    from trainer.lora.lora import Site

_DENOISERS = ("unet", "transformer")


@dataclass(frozen=True)
class Architecture:
    """What a LoRA can act on.

    Attributes:
        name: of the base, or of the family's own layout.
        family: "sd15", "sdxl", "sd3".
        layers: (component, module path) to the shape of its weight, [out, in] or [out, in, kh, kw].
    """

    name: str
    family: str
    layers: Mapping[Site, tuple[int, ...]]


def architecture_of(base: str | Path) -> Architecture:
    """The layers of a base: hub id, diffusers folder or .safetensors file.

    Raises:
        ModelError: the base cannot be read, or is of no family known here.
    """
    from trainer.base_model.load import check_family

    family = check_family(base).name
    path = locate(base, weights=False)
    return Architecture(str(base), family, _layers(CONFIGS / family if is_single_file(path) else path, family))


def usual_architecture(family: str) -> Architecture | None:
    """SD 1.5's or SDXL's own layers; None for a family without one layout."""
    folder = CONFIGS / family
    return Architecture(f"a usual {family} base", family, _layers(folder, family)) if folder.is_dir() else None


def _layers(folder: Path, family: str) -> dict[Site, tuple[int, ...]]:
    import torch

    found: dict[Site, tuple[int, ...]] = {}
    encoders = 0
    parts = read_parts(folder, FAMILIES[family].parts, complete=folder.parent != CONFIGS)
    for name in sorted(parts):
        part = parts[name]
        if name in _DENOISERS:
            component = "denoiser"
        elif name.startswith("text_encoder"):
            component, encoders = f"text_encoder_{encoders}", encoders + 1
        else:
            continue
        with torch.device("meta"):
            model = _model(part.library, part.class_name, part.folder)
        for path, layer in model.named_modules():
            if isinstance(layer, torch.nn.Linear | torch.nn.Conv2d):
                found[component, path] = tuple(layer.weight.shape)
    return found


def _model(library: str, class_name: str, folder: Path) -> nn.Module:
    import diffusers
    import transformers

    kind: Any = getattr(diffusers if library == "diffusers" else transformers, class_name, None)
    if kind is None:
        raise ModelError(f"{folder}: expected a class of diffusers or transformers, got {library}.{class_name}")
    if library == "diffusers":
        return kind.from_config(kind.load_config(str(folder)))
    return kind(kind.config_class.from_pretrained(str(folder)))
