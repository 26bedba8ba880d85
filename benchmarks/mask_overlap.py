"""How well subjects are cut out of real photos without a library: overlap with IS-Net's masks.

    python -m benchmarks.mask_overlap --masks FOLDER [--choosing] [--json FILE] [--subjects DIR]

Saliency alone, and with hints of where EfficientNet-lite0 (see `benchmarks.data_check`) sees the same in all photos of
a subject. FOLDER keeps IS-Net's masks; those that it lacks are made by rembg (`pip install -e '.[masks]'`), which
downloads its model. `--choosing` takes the subjects on which weights were chosen, otherwise all others.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks import data_faults as faults
from benchmarks.data_check import real_encoder
from metrics.subjects.background_removers import remover_masks
from metrics.subjects.common_places import common_places
from metrics.subjects.masks import subject_masks


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--masks", type=Path, required=True, help="where IS-Net's masks are kept")
    parser.add_argument("--choosing", action="store_true", help="the subjects that weights were chosen on")
    parser.add_argument("--json", type=Path, help="write all figures here")
    parser.add_argument("--subjects", type=Path, default=faults.SUBJECTS, help="photos of real subjects")
    options = parser.parse_args(arguments)
    names = sorted(path.name for path in options.subjects.iterdir() if path.is_dir())[not options.choosing :: 2]
    encoder, figures = real_encoder(), dict[str, dict[str, float]]()
    for name in names:
        files = sorted((options.subjects / name).glob("*.jpg"))
        photos = [np.asarray(Image.open(file).convert("RGB")) for file in files]
        truth = network_masks(photos, [options.masks / name / f"{file.stem}.png" for file in files])
        places = encoder.places(photos)
        assert places is not None
        found = {
            "saliency": subject_masks(photos, source="saliency"),
            "with the encoder": subject_masks(photos, source="saliency", hints=common_places(places)),
        }
        figures[name] = {
            way: float(np.mean([overlap(mask, other) for mask, other in zip(masks.masks, truth, strict=True)]))
            for way, masks in found.items()
        }
        print(f"{name:>16}  " + "  ".join(f"{way} {value:.2f}" for way, value in figures[name].items()), flush=True)
    for way in ("saliency", "with the encoder"):
        values = [each[way] for each in figures.values()]
        print(f"{way}: mean {np.mean(values):.3f}, median {np.median(values):.3f}, least {min(values):.2f}")
    if options.json is not None:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    return 0


def network_masks(photos: list[np.ndarray], kept: list[Path]) -> list[np.ndarray]:
    """IS-Net's masks, boolean `[H, W]`, from the files where they are there."""
    if not all(file.is_file() for file in kept):
        for mask, file in zip(remover_masks(photos, "rembg:isnet-general-use"), kept, strict=True):
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray((255 * mask).astype(np.uint8)).save(file)
    return [np.asarray(Image.open(file)) > 127 for file in kept]


def overlap(mask: np.ndarray, other: np.ndarray) -> float:
    """Intersection over union of a soft mask and a boolean one."""
    return float(((mask > 0.5) & other).sum() / max(((mask > 0.5) | other).sum(), 1))


if __name__ == "__main__":
    sys.exit(main())
