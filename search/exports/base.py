"""What sd-scripts and the kohya_ss GUI can do with a base."""

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trainer.families.prediction import BaseTraits

_UNET_WIDTHS = {"sd15": [320, 640, 1280, 1280], "sdxl": [320, 640, 1280]}


def about_base(source: str, traits: "BaseTraits") -> list[str]:
    """Why the other tools may not take the base, one line each."""
    from trainer.families.layout import locate

    if traits.family == "sd3":
        said = [
            "sd3: sd-scripts needs the text encoders as files, too: add --clip_l, --clip_g and --t5xxl to the command"
        ]
        if not traits.single_file:
            said.append(f"sd3: {source}: sd-scripts reads one .safetensors file, not a diffusers folder")
        return said
    if traits.prediction_type not in ("epsilon", "v_prediction"):
        return [f"{source}: sd-scripts cannot train this base, because it predicts {traits.prediction_type}"]
    if traits.single_file:
        return []
    config = json.loads((locate(source, weights=False) / "unet" / "config.json").read_text(encoding="utf-8"))
    found, usual = config.get("block_out_channels"), _UNET_WIDTHS[traits.family]
    if found == usual:
        return []
    name = {"sd15": "Stable Diffusion", "sdxl": "SDXL"}[traits.family]
    return [f"no other tool can load this base: its U-Net has the widths {found}, that of {name} has {usual}"]
