"""Load a base model once, wherever it lies: hub id, diffusers folder, or a single .safetensors checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from trainer.errors import ModelError
from trainer.families import FAMILIES, Base, Family
from trainer.families.sources import is_single_file, locate, read_header, read_index
from trainer.families.traits import BaseTraits, read_traits
from trainer.quantize import quantize_linears

if TYPE_CHECKING:
    import torch

PRECISIONS = ("fp32", "bf16", "fp16")


def detect_family(source: str | Path) -> str:
    """Name of the family that a base is of, from its index or its keys; no weights are read.

    Raises:
        ModelError: the base cannot be read, is no full base (a LoRA, say), or is of no family known here.
    """
    path = locate(source, weights=False)
    if is_single_file(path):
        keys = frozenset(read_header(path).shapes)
        for name, family in FAMILIES.items():
            if family.recognises(keys):
                return name
        if any(".lora_down." in key or ".lora_A." in key for key in keys):
            raise ModelError(f"{source}: this is a LoRA, not a base model")
        if any(key.startswith("cond_stage_model.model.") for key in keys):
            raise ModelError(
                f"{source}: a single file of Stable Diffusion 2.x does not say what it predicts: take its folder"
            )
        raise ModelError(f"{source}: not a whole checkpoint of a known family ({', '.join(FAMILIES)})")
    pipeline = read_index(path).get("_class_name")
    for name, family in FAMILIES.items():
        if pipeline in family.pipelines:
            return name
    raise ModelError(f"{source}: a {pipeline} is of no known family ({', '.join(FAMILIES)})")


def describe_base(source: str | Path) -> BaseTraits:
    """What a base was trained to predict, as the trainer takes it; reads configurations and headers only, no torch.

    Raises:
        ModelError: the base cannot be read, or is of no kind trained here.
    """
    return read_traits(locate(source, weights=False), detect_family(source))


def load_base(
    source: str | Path,
    *,
    family: str = "auto",
    device: str | torch.device = "cpu",
    precision: str = "fp32",
    quantize: str | None = None,
) -> Base:
    """Load a base, frozen and in evaluation mode.

    Args:
        source: hub id (owner/name), diffusers folder, or a single .safetensors file (read offline).
        family: "auto" or the family that the base must be of.
        device: where it shall live.
        precision: "fp32", "bf16" or "fp16": the denoiser and text encoders; the VAE stays in fp32.
        quantize: None, "nf4" or "int8": the denoiser's linear layers through bitsandbytes.

    Raises:
        ModelError: it cannot be loaded, is of another family than asked for, or of a kind that cannot be trained.
    """
    import torch

    chosen = check_family(source, family)
    if precision not in PRECISIONS:
        raise ModelError(f"precision: {precision!r} is not allowed: {', '.join(PRECISIONS)}")
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    place = torch.device(device)
    base = chosen.load(locate(source), torch.device("cpu") if quantize else place, dtype)
    base.source = str(source)
    read, drawn = base.denoiser.config.in_channels, base.vae.config.latent_channels
    if read != drawn:
        raise ModelError(f"{source}: an inpainting or edit base ({read} channels in, {drawn} drawn) cannot be trained")
    for module in (base.denoiser, base.vae, *base.text_encoders):
        module.requires_grad_(False)
        module.eval()
    if quantize:
        quantize_linears(base.denoiser, quantize, dtype, place)
        base.quantized = quantize
        base.device = place
        for module in (base.denoiser, base.vae, *base.text_encoders):
            module.to(place)
    return base


def check_family(source: str | Path, family: str = "auto") -> Family:
    """The family of a base; ModelError says so in one line when it is not the one asked for."""
    found = detect_family(source)
    if family not in ("auto", found):
        raise ModelError(f"{source}: this is an {found} base, but family says {family}")
    return FAMILIES[found]
