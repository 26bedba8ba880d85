"""Load a base model once, wherever it lies: hub id, diffusers folder, or a single .safetensors checkpoint."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.base_model.quantize import quantize_linears
from trainer.errors import ConfigError, ModelError, mistake
from trainer.families import FAMILIES, Base, Family
from trainer.families.layout import check_files, is_single_file, locate, read_header, read_index, read_parts
from trainer.families.outputs import check_outputs
from trainer.families.prediction import BaseTraits, check_channels, read_traits

if TYPE_CHECKING:
    import torch

_LORA = (".lora_down.", ".lora_A.", ".lora.down.", ".hada_w1_a", ".lokr_w", "lora_unet_", "lora_te")
_LORA_FILES = ("adapter_config.json", "pytorch_lora_weights.safetensors", "adapter_model.safetensors")
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
        if any(mark in key for key in keys for mark in _LORA):
            raise ModelError(f"{source}: this is a LoRA, not a base model")
        if any(key.startswith("cond_stage_model.model.") for key in keys):
            raise ModelError(
                f"{source}: a single file of Stable Diffusion 2.x does not say what it predicts: take its folder"
            )
        raise ModelError(f"{source}: not a whole checkpoint of a known family ({', '.join(FAMILIES)})")
    if not (path / "model_index.json").exists() and any((path / name).exists() for name in _LORA_FILES):
        raise ModelError(f"{source}: this folder holds a LoRA, not a base model")
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
        raise ModelError(mistake(None, "precision", precision, " or ".join(PRECISIONS)))
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    place = torch.device(device)
    with _parts_that_fit(source):
        base = chosen.load(locate(source), torch.device("cpu") if quantize else place, dtype)
    base.source = str(source)
    for module in (base.denoiser, base.vae, *base.text_encoders):
        module.requires_grad_(False)
        module.eval()
    if quantize:
        quantize_linears(base.denoiser, quantize, dtype, place)
        base.quantized = quantize
        base.device = place
        for module in (base.denoiser, base.vae, *base.text_encoders):
            module.to(place)
    if place.type == "cpu":  # oneDNN's convolutions are faster so, by a fifth of drawing and of losses (docs/log.md)
        for module in (base.denoiser, base.vae):
            module.to(memory_format=torch.channels_last)
    with _parts_that_fit(source):
        check_outputs(base)
    return base


def check_family(source: str | Path, family: str = "auto") -> Family:
    """The family of a base, after a look at all its files that reads no weights and needs no torch.

    Raises:
        ModelError: it is not the family asked for, is of a kind that cannot be trained, or a file of it is missing,
            cut short or not what it should be.
    """
    found = detect_family(source)
    if family not in ("auto", found):
        raise ModelError(mistake(source, "family", family, f"{found}, which this base is, or auto"))
    path = locate(source, weights=False)
    read_traits(path, found)
    check_channels(path, found)
    parts = {} if is_single_file(path) else read_parts(path, FAMILIES[found].parts)
    if Path(source).exists():  # a hub id's weights may still be on the hub
        check_files(path, parts)
    return FAMILIES[found]


def check_base(file: str | Path | None, base: str, family: str = "auto") -> Family:
    """`check_family` of the `base` that a file names.

    Raises:
        ConfigError: what `check_family` has against it, as a mistake in that file.
    """
    try:
        return check_family(base, family)
    except ModelError as error:
        expected = "a base that LoRAs can be trained on" if family == "auto" else f"a base of the family {family}"
        raise ConfigError(file, "base", base, expected, str(error).removeprefix(f"{base}: ")) from error


@contextlib.contextmanager
def _parts_that_fit(source: str | Path) -> Iterator[None]:
    """One line for what libraries raise when configurations say what cannot be, or parts are of different bases."""
    import torch

    try:
        yield
    except (ModelError, OSError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # anything from TypeError to RuntimeError
        text = " ".join(str(error).split())
        if "CUDA error" in text:  # the machine's fault
            raise
        raise ModelError(
            f"{source}: its parts do not fit each other, or their configurations: {text[:200] or type(error).__name__}"
        ) from error
