"""The blocks of a U-Net that WebUIs weight apart (`<lora:name:1:lbw=1,0,0.5,…>`), and a LoRA with such weights.

Names, lists and which layer belongs to which block: sd-webui-lora-block-weight (hako-mikan, commit b403cb7 of
2025-06-19), `BLOCKID17`, `BLOCKID12`, `BLOCKID26`, `BLOCKID20`, `ratiodealer` and `to26`. BASE is the text encoder.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from trainer.errors import ModelError, Plain, mistake

if TYPE_CHECKING:
    from trainer.lora.lora import LoraWeights, Site

BASE = "BASE"


def _numbered(side: str, numbers: Iterable[int]) -> tuple[str, ...]:
    return tuple(f"{side}{number:02d}" for number in numbers)


SD15 = (BASE, *_numbered("IN", (1, 2, 4, 5, 7, 8)), "M00", *_numbered("OUT", range(3, 12)))
"""17 weights: the blocks of SD 1.x and 2.x that have attention."""
SDXL = (BASE, *_numbered("IN", (4, 5, 7, 8)), "M00", *_numbered("OUT", range(6)))
"""12 weights: the blocks of SDXL that have attention."""
EVERY = (BASE, *_numbered("IN", range(12)), "M00", *_numbered("OUT", range(12)))
"""26 weights: all blocks, for a LoCon of SD 1.x."""
SDXL_EVERY = (BASE, *_numbered("IN", range(9)), "M00", *_numbered("OUT", range(9)))
"""20 weights: all blocks of SDXL, for a LoCon."""
_LISTS = {"sd15": (SD15, EVERY), "sdxl": (SDXL, SDXL_EVERY, EVERY)}
_PER_LEVEL = 3  # of SD's input or output blocks: two residual ones and a sampler, or three
MOST = 4.0
"""No weight lies further from 0: what is stronger is no LoRA any more."""


def block_of(site: Site) -> str | None:
    """The block that a module belongs to; None for one that block weights leave alone (time embedding, last layer).

    >>> block_of(("denoiser", "down_blocks.1.attentions.0.proj_in")), block_of(("text_encoder_0", "encoder.layers.0"))
    ('IN04', 'BASE')
    """
    component, path = site
    if component != "denoiser":
        return BASE if "encoder.layers." in path else None
    if path.startswith("mid_block."):
        return "M00"
    if path == "conv_in":
        return "IN00"
    if found := re.match(r"(down|up)_blocks\.(\d+)\.(attentions|resnets|downsamplers|upsamplers)\.(\d+)\.", path):
        side, level, kind, layer = found[1], int(found[2]), found[3], int(found[4])
        within = {"downsamplers": 2, "upsamplers": 2}.get(kind, layer)
        number = level * _PER_LEVEL + within
        return f"IN{number + 1:02d}" if side == "down" else f"OUT{number:02d}"
    return None


def blocks_in(lora: LoraWeights) -> tuple[str, ...]:
    """The blocks in which a LoRA has modules, in the order of the U-Net."""
    there = {block_of(site) for site in lora.modules}
    return tuple(block for block in EVERY if block in there)


def block_list(lora: LoraWeights) -> tuple[str, ...]:
    """The shortest list of its family that has all blocks of a LoRA: what a WebUI has to be told.

    Raises:
        ModelError: a family whose blocks no WebUI weights (SD3).
    """
    lists = _LISTS.get(lora.family)
    if lists is None:
        raise ModelError(f"expected a LoRA of SD 1.x or SDXL, whose blocks WebUIs weight, got one of {lora.family}")
    return next(known for known in (*lists, EVERY) if set(blocks_in(lora)) <= set(known))


def read_weights(text: str, lora: LoraWeights, key: str = "--blocks") -> dict[str, float]:
    """Block to weight, from a WebUI's list such as `1,1,0.5,…`; what a list does not name has weight 0, as there.

    Raises:
        ModelError: another number of weights than the lists of the LoRA's family have, or one that is no number.
    """
    lists = (*_LISTS.get(lora.family, ()), EVERY)
    counts = list(dict.fromkeys(len(known) for known in lists))
    parts = [part.strip() for part in text.split(",")]
    if len(parts) not in counts:
        expected = f"{' or '.join(map(str, counts))} weights for {lora.family}, BASE first"
        raise ModelError(mistake(None, key, Plain(f"{len(parts)} ({_short(text)})"), expected))
    names = next(known for known in lists if len(known) == len(parts))
    weights = dict.fromkeys(EVERY, 0.0)
    for name, part in zip(names, parts, strict=True):
        weights[name] = _weight(part, f"{key}: {name}")
    return weights


def _weight(text: str, key: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not -MOST <= value <= MOST:
        raise ModelError(mistake(None, key, Plain(_short(text) or "nothing"), f"a number from {-MOST:g} to {MOST:g}"))
    return value


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}…"


def lbw(weights: Mapping[str, float], lora: LoraWeights) -> str:
    """What stands after `lbw=` in a WebUI's prompt; blocks without a weight have 1.

    >>> from trainer.lora.lora import LoraWeights
    >>> lbw({"IN04": 0.5}, LoraWeights({}, "sdxl"))
    '1,0.5,1,1,1,1,1,1,1,1,1,1'
    """
    return ",".join(f"{weights.get(block, 1.0):.4g}" for block in block_list(lora))


def weighted(
    lora: LoraWeights, weights: Mapping[str, float], *, unet: float = 1.0, text_encoder: float = 1.0
) -> LoraWeights:
    """The LoRA that acts at strength 1 as the given one does under these weights.

    `up` is multiplied, as the extension does it: of alphas that differ between layers diffusers (0.42) passes over
    those of SDXL's attention. Modules of weight 0 are left out.

    Args:
        weights: by block; blocks without one have 1.
        unet, text_encoder: strengths of all modules there.

    Raises:
        ModelError: a DoRA layer with another weight than 0 or 1 (what it does then depends on the base), or nothing
            would be left.
    """
    modules = {}
    for site, module in lora.modules.items():
        strength = (unet if site[0] == "denoiser" else text_encoder) * weights.get(block_of(site) or "", 1.0)
        if strength == 0:
            continue
        if module.magnitude is not None and strength != 1:
            where = block_of(site) or site[0]
            raise ModelError(
                f"{where}: expected weights of 0 or 1 for DoRA, whose layers cannot be weakened in a file, "
                f"got {strength:.4g}; give the strength in the prompt instead"
            )
        modules[site] = module if strength == 1 else replace(module, up=module.up * strength)
    if not modules:
        raise ModelError("expected a block with a weight other than 0, got none: nothing would be left of the LoRA")
    return replace(lora, modules=modules)


def changed(weights: Mapping[str, float], blocks: Sequence[str]) -> tuple[str, ...]:
    """Those of the blocks whose weight is not 1, in order."""
    return tuple(block for block in blocks if weights.get(block, 1.0) != 1)
