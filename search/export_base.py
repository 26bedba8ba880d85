"""What sd-scripts and the kohya_ss GUI can do with a base."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trainer.config import TrainConfig

_SIZES = {
    "sd15": ("unet", "block_out_channels", [320, 640, 1280, 1280]),
    "sdxl": ("unet", "block_out_channels", [320, 640, 1280]),
}


def about_base(config: "TrainConfig", family: str) -> list[str]:
    """Why the other tools may not take the base, one line each."""
    base = Path(config.base)
    if family == "sd3":
        said = ["sd3: sd-scripts also wants the text encoders' files: add --clip_l, --clip_g, --t5xxl to it"]
        if base.is_dir():
            said.append(f"sd3: {base.name}: sd-scripts reads one .safetensors file, not a diffusers folder")
        return said
    part, key, size = _SIZES[family]
    file = base / part / "config.json"
    if not file.is_file():
        return []
    found = json.loads(file.read_text(encoding="utf-8")).get(key)
    if found == size:
        return []
    return [f"{base.name}: no other tool can load this base: its {part} is {found} wide, a {family} has {size}"]
