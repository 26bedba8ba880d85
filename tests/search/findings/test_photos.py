"""The photos of a study as the data check looks at them."""

from pathlib import Path

import numpy as np
from PIL import Image

from search.findings.photos import photos_of
from search.study.study import load_study
from tests import tiny


def test_they_are_the_photos_as_they_are_trained_on_without_regularisation_images(write_study, tmp_path: Path) -> None:
    tiny.make_photos(tmp_path / "reg", count=3)
    file = write_study(reg_data="reg", data_check={}, drop=["search", "budget"])
    large = tmp_path / "photos" / "2_sks toy" / "00.png"
    Image.new("RGB", (128, 128), (200, 10, 10)).save(large)
    found = photos_of(load_study(file))
    assert found.files == tuple(f"2_sks toy/{row:02d}.png" for row in range(8))
    assert found.sizes == ((128, 128), *[(64, 64)] * 7)
    assert (found.buckets, found.trigger, found.class_word) == (((64, 64),) * 8, "sks", "toy")
    assert {image.shape for image in found.images} == {(64, 64, 3)}
    assert np.abs(found.images[0].astype(int) - (200, 10, 10)).max() <= 1
    assert found.captions[:2] == ("a photo of sks toy, beach", "a photo of sks toy, forest")
