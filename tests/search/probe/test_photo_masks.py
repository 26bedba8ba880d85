"""Masks from a folder, one for each photo, cut as it is; what is white all over counts as none, and is said."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from search.probe.photo_masks import _cut, photo_masks
from search.study.study import load_study
from trainer.data.dataset import load_pixels, scan_dataset

NO_BASE: Any = SimpleNamespace(device="cpu")
"""Where each photo has a mask, the base is not asked."""


def test_a_mask_keeps_its_shades_and_loses_what_is_cut_off(tmp_path: Path) -> None:
    shades = np.tile(np.array([0, 51, 128, 255], np.uint8).repeat(16), (64, 1))
    Image.fromarray(shades).save(tmp_path / "whole.png")
    found = _cut(tmp_path / "whole.png", (64, 64))
    assert found.dtype == np.float32
    assert found == pytest.approx(shades / 255)
    wide = np.pad(shades, ((0, 0), (32, 32)), constant_values=255)
    Image.fromarray(wide).save(tmp_path / "wide.png")
    assert _cut(tmp_path / "wide.png", (64, 64)) == pytest.approx(shades / 255)


@pytest.mark.parametrize(("white", "notes"), [(0, 0), (1, 1), (2, 1)])
def test_masks_that_are_white_all_over_are_counted(write_study, white: int, notes: int) -> None:
    file = write_study(score={"encoder": "clip", "holdout": 2, "shifted": {"masks": "masks"}})
    masks = file.parent / "masks"
    masks.mkdir()
    photos = list(scan_dataset(file.parent / "photos").photos)
    part = np.zeros((64, 64), np.uint8)
    part[20:44, 20:44] = 255
    for number, photo in enumerate(photos):
        mask = np.full((64, 64), 255, np.uint8) if number < white else part
        Image.fromarray(mask).resize((photo.width, photo.height)).save(masks / photo.path.name)
    study = load_study(file)
    config = study.config(next(study.space.combinations()))
    pixels = [load_pixels(photo, config.size) for photo in photos]
    found = photo_masks(study, photos, pixels, config, NO_BASE)
    said = [note for note in found.notes if "white all over" in note]
    assert said == [f"{white} of {len(photos)} masks are white all over: they count as no mask"] * notes
    assert [source == "given" for source in found.sources] == [number >= white for number in range(len(photos))]
    assert np.array_equal(found.masks[-1] > 0.5, part > 127)
