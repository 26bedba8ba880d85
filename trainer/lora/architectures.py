"""Which kind of base a LoRA file is for, told by its keys alone: no weight is read and torch is not loaded."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from trainer.errors import ModelError
from trainer.families import FAMILIES
from trainer.families.layout import read_header
from trainer.lora.key_styles import check_kind, kohya_key

_OTHERS = tuple(
    (re.compile(pattern), name)
    for pattern, name in (  # of a key with underscores for dots, or, where it has dots, of a key as it is
        (r"joint_blocks_\d", "SD3 in its original layout, not that of diffusers"),
        (r"(?<!transformer_)(?:double|single)_blocks_\d|single_transformer_blocks_\d", "FLUX or one of its relatives"),
        (r"transformer_blocks_\d+_(?:img|txt)_(?:mlp|mod)", "Qwen-Image"),
        (r"(?:^|_)blocks_\d+_(?:(?:self|cross)_attn_(?:[qkv]|output)_proj|mlp_layer\d)", "Anima"),
        (r"(?:^|_)core_transformer_blocks_\d", "Anima"),
        (r"(?:^|(?<!transformer)_)blocks_\d+_(?:self_attn|cross_attn)", "Wan"),
        (r"(?:^|\.)blocks\.\d+\.(?:attn[12]|self_attn|cross_attn)\.", "Wan"),
        (
            r"(?:^|_)(?:layers|noise_refiner|context_refiner)_\d+_(?:attn|attention|feed_forward|adaLN)_",
            "Lumina or Z-Image",
        ),
        (r"(?:^|_)context_embedder_token_refiner_", "HunyuanVideo"),
        (r"(?:^|_)text_fusion_", "Krea 2"),
        (r"(?<!\d_)transformer_blocks_\d+_(?:attn1|cross_attn)_", "PixArt, Sana, LTX-Video, Cosmos or ACE-Step"),
        (
            r"(?<!\d_)transformer_blocks_(?:3[89]|[4-9]\d|\d{3,})_attn_to_",
            "Qwen-Image, or another base of more blocks than SD3",
        ),
    )
)
_OF_SD15 = re.compile(r"lora_te_|lora_unet_(?:input_blocks_[12]_1|output_blocks_(?:[678]_1|9|1\d)|down_blocks_0_atten)")
"""Names of layers that SD 1.x has and SDXL has not."""


def check_lora(path: str | Path, keys: Iterable[str]) -> None:
    """Whether a file of these keys is a LoRA, LoCon or DoRA for a base of a family known here.

    Raises:
        ModelError: it is not.
    """
    keys = list(keys)
    check_kind(path, keys)
    found = next(((name, key) for key in keys if (name := _other(key)) is not None), None)
    if found is None and not any(_is_placed(key) for key in keys):
        found = f"another kind of base, of which none has any of its {len(keys)} tensors", keys[0]
    if found is not None:
        expected = "a LoRA for SD 1.x, SDXL or SD3"
        raise ModelError(f"{path}: expected {expected}, got one for {found[0]} ({found[1]}, for one)")


def check_lora_file(path: str | Path) -> None:
    """`check_lora` for a file; its header alone is read.

    Raises:
        ModelError: also where it is no safetensors file, or a damaged one.
    """
    check_lora(path, read_header(path).shapes)


def families_of_file(path: str | Path) -> frozenset[str]:
    """`families_of` for a file; its header alone is read."""
    return families_of(key.partition(".")[0] for name in read_header(path).shapes if (key := kohya_key(name)))


def _other(key: str) -> str | None:
    flat = key.replace(".", "_")
    return next((name for mark, name in _OTHERS if mark.search(flat) or mark.search(key)), None)


def _is_placed(key: str) -> bool:
    name = (kohya_key(key) or "").partition(".")[0]
    return any(family.module_path(name) is not None for family in FAMILIES.values())


def family_of(names: Sequence[str]) -> str:
    """Family of a LoRA by its modules' names."""
    if any(name.startswith("lora_transformer_") for name in names):
        return "sd3"
    possible = families_of(names)
    if "sdxl" not in possible:
        return "sd15"
    # original block names, which both can have, are SDXL's where nothing speaks against it
    blocks = ("lora_unet_input_blocks_", "lora_unet_middle_block_", "lora_unet_output_blocks_")
    return "sdxl" if "sd15" not in possible or any(name.startswith(blocks) for name in names) else "sd15"


def families_of(names: Iterable[str]) -> frozenset[str]:
    """The families that have all the layers that these names mean; one of SD 1.x or SDXL is left out for sure only.

    SDXL has a second text encoder and transformers of up to ten blocks, and no attention at its full resolution.
    """
    names = list(names)
    if any(name.startswith("lora_transformer_") for name in names):
        return frozenset({"sd3"})
    possible = {"sd15", "sdxl"}
    if any(name.startswith("lora_te2_") or re.search(r"_transformer_blocks_[1-9]", name) for name in names):
        possible.remove("sd15")
    elif any(_OF_SD15.match(name) for name in names):
        possible.remove("sdxl")
    return frozenset(possible)
