"""Photos among samples, as features and pixels tell them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from metrics.channels.copying import clear_copies
from metrics.checkpoint.encoders import load_encoder
from metrics.comparison.compare import score_folders
from metrics.comparison.picture import headline
from metrics.comparison.twins import laid_on
from tests.metrics.photo_sets import OTHERS, crops, in_memory


@pytest.mark.parametrize(("photos", "samples"), [(4, 4), (6, 3), (10, 10), (30, 6)])
def test_small_sets_of_copies_are_told(tiny_clip: Path, photos: int, samples: int):
    images = crops(photos, 1)
    scores = score_folders(in_memory(images), in_memory(images[:samples]), None, load_encoder(str(tiny_clip)))
    assert sum(map(len, scores.copied.values())) == samples
    assert f"{samples} of {samples} samples copy a photo" in headline(scores)
    assert not any("chance can look like a copy" in note for note in scores.notes), "their pixels are the same"


@pytest.mark.parametrize("photos", [5, 12])
def test_a_cropped_and_brightened_photo_is_found_among_few_and_many(tiny_clip: Path, photos: int):
    known, samples = crops(20, 1, side=128)[:photos], [*crops(8, 2, OTHERS, side=128)]
    samples[3] = np.asarray(Image.fromarray(known[4]).resize((128, 128), box=(10, 4, 122, 116)))
    samples[5] = np.clip(known[2] * 1.2 + 8, 0, 255).astype(np.uint8)
    scores = score_folders(in_memory(known), in_memory(np.stack(samples)), None, load_encoder(str(tiny_clip)))
    assert scores.copied == {"04.png": ("03.png",), "02.png": ("05.png",)}
    assert {pair.sample for pair in scores.pairs[:2]} == {"03.png", "05.png"}, "shown first"


def test_with_few_photos_a_copy_that_only_features_see_is_to_be_looked_at(tiny_clip: Path):
    known = crops(5, 1)
    drawn = np.stack([np.asarray(Image.fromarray(photo).rotate(1, fillcolor=(128, 128, 128))) for photo in known[:4]])
    scores = score_folders(in_memory(known), in_memory(drawn), None, load_encoder(str(tiny_clip)))
    assert scores.copied
    assert any("chance can look like a copy" in note for note in scores.notes)


@pytest.mark.parametrize("dimension", [4, 8, 64])
@pytest.mark.parametrize("photos", [8, 12, 24])
def test_honest_images_are_hardly_ever_called_copies_and_near_copies_are(dimension: int, photos: int):
    called, told = [], []
    for seed in range(100):
        generator = np.random.default_rng(seed)
        rows = 6 * generator.normal(size=dimension) + generator.normal(size=(photos + 12, dimension))
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        known, fresh = rows[:photos], rows[photos:]
        called.append(clear_copies(fresh, known).any())
        apart = np.linalg.norm(known[0] - known[1])
        copies = known[:4] + 0.001 * apart * generator.normal(size=(4, dimension))
        told.append(clear_copies(copies / np.linalg.norm(copies, axis=1, keepdims=True), known).mean())
    assert np.mean(called) <= 0.05
    assert np.mean(told) >= 0.85


def test_many_near_copies_are_told_where_no_single_one_is_beyond_doubt():
    photos = crops(24, 1)
    near = np.array([np.roll(photo, (1, 1), axis=(0, 1)) for photo in photos[:14]])
    near = near[~laid_on(near, photos).any(axis=1)]
    scores = score_folders(in_memory(photos), in_memory(near), None, None)
    assert not scores.copied
    assert headline(scores).startswith("Clearly off: layout copying (nearer than photos are)")


def test_a_copy_of_a_photo_that_was_left_out_as_a_repeat_is_a_copy(tiny_clip: Path):
    photos = crops(14, 1)
    noise = np.random.default_rng(0).normal(0, 3, photos[0].shape)
    repeat = np.clip(photos[0] + noise, 0, 255).astype(np.uint8)
    samples = crops(8, 5).copy()
    samples[0] = repeat
    scores = score_folders(
        in_memory(np.stack([*photos, repeat])), in_memory(samples), None, load_encoder(str(tiny_clip))
    )
    assert scores.duplicates == ("14.png",)
    assert scores.copied == {"14.png": ("00.png",)}
    assert not scores.pairs[0].mirrored
