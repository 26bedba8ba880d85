"""What sd-scripts and the kohya_ss GUI can do with a base."""

import json
from pathlib import Path
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
        what = "sd-scripts 0.10 does not know these names and would train with a random text encoder"
        return about_encoders(Path(source), what) if Path(source).is_dir() else []
    name = {"sd15": "Stable Diffusion", "sdxl": "SDXL"}[traits.family]
    return [f"sd-scripts cannot load this base: its U-Net has the widths {found}, that of {name} has {usual}"]


def about_encoders(folder: Path, what: str) -> list[str]:
    """A line for each text encoder of a diffusers folder that a tool reads wrong or not at all.

    Args:
        what: the tool makes of one.
    """
    return [
        f"{name}: its weights have the names of transformers 5. {what}: put text_model. before each name in its "
        ".safetensors file"
        for name in encoders_of_transformers_5(folder)
    ]


def encoders_of_transformers_5(folder: Path) -> list[str]:
    """The text encoders of a diffusers folder whose weights have names without the prefix `text_model.`

    transformers 5 writes them so and reads both. The versions that sd-scripts and OneTrainer take read only those with
    it: sd-scripts draws all others at random with no more than a warning, OneTrainer cannot load the base.
    """
    from trainer.families.layout import read_header, read_parts, weight_files

    found = []
    for name, part in read_parts(folder).items():
        if not name.startswith("text_encoder"):
            continue
        files, _ = weight_files(part)
        names = [key for file in files if file.suffix == ".safetensors" for key in read_header(file).shapes]
        if names and not any(key.startswith("text_model.") for key in names):
            found.append(name)
    return found
