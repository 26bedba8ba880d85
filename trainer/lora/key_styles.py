"""The names that other tools give to a LoRA's tensors, brought to kohya's.

kohya: `lora_unet_down_blocks_0_….lora_down.weight`, `.lora_up.weight`, `.alpha`, `.dora_scale`, `.lora_mid.weight`.
diffusers: `unet.down_blocks.0.….lora_A.weight` or `.lora.down.weight` or `.processor.to_q_lora.down.weight`.
PEFT: `base_model.model.….lora_A.weight`, with `adapter_config.json` beside the file. ComfyUI: `diffusion_model.…` and
`text_encoders.clip_l.transformer.…`; OneTrainer's "original": those of the U-Net without anything before them.
ai-toolkit's DoRA: `….magnitude`, and no alpha.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from trainer.errors import ModelError
from trainer.families.names import UNET_STARTS

_PARTS = (
    (r"(?:\.lora_A(?:\.default)?|[._]lora\.down|\.lora_down|\.lora_linear_layer\.down)\.weight", "lora_down.weight"),
    (r"(?:\.lora_B(?:\.default)?|[._]lora\.up|\.lora_up|\.lora_linear_layer\.up)\.weight", "lora_up.weight"),
    (r"(?:\.lora_magnitude_vector(?:\.default)?(?:\.weight)?|\.dora_scale|\.magnitude)", "dora_scale"),
    (r"\.lora_mid\.weight", "lora_mid.weight"),
    (r"\.alpha", "alpha"),
)
_PART_OF = tuple((re.compile(pattern + "$"), part) for pattern, part in _PARTS)
_COMPONENTS = (
    ("unet.", "lora_unet_"),
    ("transformer.", "lora_transformer_"),
    ("diffusion_model.transformer_blocks.", "lora_transformer_transformer_blocks_"),  # SimpleTuner's SD3
    ("diffusion_model.", "lora_unet_"),
    ("text_encoder.", "lora_te1_"),
    ("text_encoder_2.", "lora_te2_"),
    ("text_encoder_3.", "lora_te3_"),
    ("text_encoders.clip_l.transformer.", "lora_te1_"),
    ("text_encoders.clip_h.transformer.", "lora_te1_"),
    ("text_encoders.clip_g.transformer.", "lora_te2_"),
)
_UNET = (
    *UNET_STARTS,
    *("input_blocks", "middle_block", "output_blocks", "time_embed", "label_emb", "out"),  # the original's
)
_DENOISERS = (
    (tuple(f"{start}." for start in _UNET), "lora_unet_"),
    (("transformer_blocks.",), "lora_transformer_"),
)
_OTHER_KINDS = {"hada_": "LoHa", "lokr_": "LoKr", "oft_": "OFT", "glora": "GLoRA", ".on_input": "IA3"}
_OF_MODELS = (
    *("model.diffusion_model.", "first_stage_model.", "cond_stage_model.", "conditioner.embedders."),
    *("double_blocks.", "joint_blocks.", "transformer_blocks.", "down_blocks.", "input_blocks.", "text_encoders."),
    *("blocks.", "layers.", "noise_refiner.", "joint_transformer_blocks."),  # Wan, Lumina and Z-Image, AuraFlow
)
"""How keys of whole checkpoints begin, and of denoisers alone."""
_ATTENTION = {"to_q_lora": "to_q", "to_k_lora": "to_k", "to_v_lora": "to_v", "to_out_lora": "to_out.0"}


def kohya_key(key: str) -> str | None:
    """kohya's key for a tensor's; None for one that is not a LoRA's.

    >>> kohya_key("unet.mid_block.attentions.0.proj_in.lora_A.weight")
    'lora_unet_mid_block_attentions_0_proj_in.lora_down.weight'
    """
    for pattern, part in _PART_OF:
        if match := pattern.search(key):
            end = "_lora" if match.group().startswith("_lora.") else ""  # an old attention processor's to_q_lora
            name = _kohya_name(key[: match.start()] + end)
            return None if name is None else f"{name}.{part}"
    return None


def _kohya_name(module: str) -> str | None:
    if "." not in module:
        return f"lora_unet_{module}" if module in ("conv_in", "conv_out") else module  # kohya's own
    while module.startswith("base_model.model."):
        module = module.removeprefix("base_model.model.")
    module = module.replace(".processor.", ".")
    stem, _, last = module.rpartition(".")
    module = f"{stem}.{_ATTENTION.get(last, last)}"
    for start, prefix in _COMPONENTS:
        if module.startswith(start):
            path = module.removeprefix(start)
            beside = path.startswith("text_model.") or path == "text_projection"
            within = "text_model_" if prefix.startswith("lora_te") and not beside else ""
            return prefix + within + path.replace(".", "_")
    for starts, prefix in _DENOISERS:
        if module.startswith(starts):
            return prefix + module.replace(".", "_")
    return None


def is_lora(keys: Iterable[str]) -> bool:
    """Whether tensors of these names make a LoRA, LoCon or DoRA."""
    return any((kohya_key(key) or "").endswith(".lora_down.weight") for key in keys)


def other_kind(keys: Iterable[str]) -> str | None:
    """An adapter of another kind, by its name and one of its keys; None where it is none."""
    return next((f"{kind} ({key})" for mark, kind in _OTHER_KINDS.items() for key in keys if mark in key), None)


def check_kind(path: str | Path, keys: Iterable[str]) -> None:
    """Raises ModelError for a file of adapters of another kind than LoRA, LoCon and DoRA, and for one of none."""
    keys = list(keys)
    if (kind := other_kind(keys)) is not None:
        raise ModelError(f"{path}: expected a LoRA, LoCon or DoRA, got a {kind}")
    if not is_lora(keys):
        some = f"{len(keys)} tensors of other names ({', '.join(keys[:2])})" if keys else "no tensor"
        some = next((f"a whole model ({key}, for one)" for key in keys if key.startswith(_OF_MODELS)), some)
        raise ModelError(f"{path}: expected a LoRA (keys that end with lora_down.weight or lora_A.weight), got {some}")


def alphas(path: str | Path, metadata: Mapping[str, str], ranks: Mapping[str, int]) -> dict[str, float]:
    """Alphas that stand beside the tensors: in diffusers' metadata or PEFT's `adapter_config.json`.

    Args:
        ranks: of each tensor key that is a module's lower half, as it stands in the file.

    Returns:
        key → alpha, √rank taken in where the scale is alpha ÷ √rank; empty where nothing says.

    Raises:
        ModelError: what stands there cannot be read.
    """
    settings = _beside(Path(path)) or _in_metadata(path, metadata)
    found: dict[str, float] = {}
    for key, rank in ranks.items():
        start, values = next(((start, one) for start, one in settings.items() if key.startswith(start)), ("", None))
        if not isinstance(values, Mapping):
            continue
        alpha = _matching(values.get("alpha_pattern"), key.removeprefix(start), values.get("lora_alpha"))
        if isinstance(alpha, int | float) and alpha > 0:
            found[key] = float(alpha) * (math.sqrt(rank) if values.get("use_rslora") else 1.0)
    return found


def _matching(patterns: Any, key: str, otherwise: Any) -> Any:
    """PEFT's rule: the pattern that a module's path ends with."""
    module = re.sub(r"\.lora_A(\.default)?\.weight$", "", key)
    for pattern, value in patterns.items() if isinstance(patterns, dict) else ():
        if re.match(rf"(.*\.)?({pattern})$", module):
            return value
    return otherwise


def _beside(path: Path) -> dict[str, Any]:
    file = path.parent / "adapter_config.json"
    if not file.is_file():
        return {}
    return {"": _json(file, file.read_text(encoding="utf-8"))}


def _in_metadata(path: str | Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    """diffusers' flat JSON: `unet.lora_alpha`, `text_encoder.lora_alpha`, …"""
    text = metadata.get("lora_adapter_metadata")
    if text is None:
        return {}
    nested: dict[str, dict[str, Any]] = {}
    for key, value in _json(path, text).items():
        component, _, name = str(key).partition(".")
        nested.setdefault(f"{component}.", {})[name] = value
    return dict(nested)


def _json(place: str | Path, text: str) -> dict[str, Any]:
    try:
        read = json.loads(text)
    except ValueError as error:
        raise ModelError(f"{place}: expected the settings of an adapter as JSON, got {error}") from None
    if not isinstance(read, dict):
        raise ModelError(f"{place}: expected the settings of an adapter as a JSON mapping, got {type(read).__name__}")
    return read
