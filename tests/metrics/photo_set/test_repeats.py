"""Photos that are one photo again, and the number that a set comes to."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import studies.demo
from metrics.channels.diversity import vendi_score
from metrics.photo_set.repeats import effective_number, repeated


def photo(seed: int) -> np.ndarray:
    """Smooth shapes, with light and shade of a photo."""
    coarse = np.random.default_rng(seed).integers(20, 236, (7, 7, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((128, 128), Image.Resampling.BICUBIC))


def saved_anew(image):
    out = io.BytesIO()
    Image.fromarray(image).save(out, format="JPEG", quality=60)
    return np.asarray(Image.open(out).convert("RGB"))


def brighter(image):
    return np.clip(image * 1.25 + 8.0, 0, 255).astype(np.uint8)


CHANGES = {
    "saved anew": saved_anew,
    "mirrored": lambda image: np.ascontiguousarray(image[:, ::-1]),
    "cropped off the middle": lambda image: np.asarray(
        Image.fromarray(image[16:118, 7:109]).resize((128, 128), Image.Resampling.LANCZOS)
    ),
    "brightened until lights are lost": brighter,
    "brightened, mirrored and saved anew": lambda image: saved_anew(np.ascontiguousarray(brighter(image)[:, ::-1])),
    "darkened": lambda image: (image * 0.7).astype(np.uint8),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_photo_that_was_changed_is_the_same_photo(change):
    images = [photo(seed) for seed in range(5)]
    assert repeated([*images, change(images[2])]) == [[2, 5]]


def test_photos_of_one_scene_are_not_one_photo():
    scene = photo(1)
    moved = []
    for left in (20, 50, 80):
        image = scene.copy()
        image[40:80, left : left + 30] = (220, 30, 30)
        moved.append(image)
    assert repeated(moved) == []


def test_renders_of_one_place_are_not_one_photo():
    """The demo's own set, monotonous on purpose: the same toy from many sides in three places."""
    files = sorted((Path(studies.demo.__file__).parent / "photos").glob("*/*.png"))
    images = [np.asarray(Image.open(file).convert("RGB")) for file in files]
    assert len(images) == 30
    assert repeated(images) == []
    assert repeated([*images, brighter(images[4])]) == [[4, 30]]


def test_a_set_comes_to_as_many_photos_as_are_different():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(10, 64))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    alone = effective_number(rows)
    assert 8.0 < alone <= 10.0
    assert effective_number(np.concatenate([rows, rows])) == pytest.approx(alone, rel=0.02)


def test_what_is_known_to_be_one_photo_counts_once_however_the_encoder_sees_it():
    rows = np.eye(6)
    assert effective_number(rows, [[0, 1, 2]]) == pytest.approx(vendi_score(np.eye(4)[[0, 0, 0, 1, 2, 3]]), rel=0.1)
