"""Photos among samples, as features and pixels tell them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from metrics.channels.copying import clear_copies
from metrics.checkpoint.encoders import load_encoder
from metrics.comparison.compare import score_folders
from metrics.comparison.copies import Pair, pairs_of
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


def at(*degrees: float) -> np.ndarray:
    return np.stack([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))], axis=1)


PHOTOS = at(0, 10, 30, 60, 100)  # their nearest others: 10, 10, 20, 30 and 40 degrees away
NAMES = [f"p{degrees}" for degrees in (0, 10, 30, 60, 100)]


def pair_of(plain: float, mirrored: float = 200, *, kept: str = "11111", laid: str = "00000") -> Pair:
    rows, masks = (at(plain), at(mirrored)), [np.array(list(mask)) == "1" for mask in (kept, laid)]
    (found,) = pairs_of(["s"], NAMES, rows, PHOTOS, masks[0], masks[1][None])
    return found


@pytest.mark.parametrize(
    ("degrees", "photo", "near", "beyond"),
    [(120, "p100", 20, 0.4), (65, "p60", 5, 1.0), (145, "p100", 45, 0.0), (-10, "p0", 10, 0.6), (22, "p30", 8, 1.0)],
)
def test_a_pair_says_how_many_photos_have_none_as_near(degrees: float, photo: str, near: float, beyond: float) -> None:
    found = pair_of(degrees)
    assert (found.photo, found.copied, found.mirrored, found.same_picture) == (photo, False, False, False)
    assert found.similarity == pytest.approx(np.cos(np.radians(near)))
    assert found.beyond == pytest.approx(beyond), "one that is as near is none that is farther"


def test_copies_are_told_plain_mirrored_by_pixels_and_of_repeats() -> None:
    plain, mirrored, pixels = pair_of(60.001), pair_of(140, 30.001), pair_of(65, laid="00001")
    repeat = pair_of(10.001, kept="10111")
    assert [(found.photo, found.copied, found.mirrored, found.same_picture) for found in (plain, mirrored, pixels)] == [
        ("p60", True, False, False), ("p30", True, True, False), ("p100", True, False, True),
    ]  # fmt: skip
    assert pixels.similarity == pytest.approx(np.cos(np.radians(35)))
    assert (repeat.photo, repeat.copied, repeat.beyond) == ("p10", True, 1.0)
    both = pair_of(60.001, 30.001)
    assert (both.photo, both.mirrored) == ("p60", False), "the image itself goes first"


def test_copies_come_first_then_the_nearest() -> None:
    rows = at(140, 66, 0.001, 63)
    found = pairs_of([*"abcd"], NAMES, (rows, at(*[200] * 4)), PHOTOS, np.ones(5, bool), np.zeros((4, 5), bool))
    assert [pair.sample for pair in found] == [*"cdba"]


@pytest.mark.parametrize("look", [0, 1])
def test_each_of_the_two_looks_is_at_half_the_level(look: int) -> None:
    generator = np.random.default_rng(0)
    rows = generator.normal(size=(22, 8)) + 6 * generator.normal(size=8)
    known = rows[:20] / np.linalg.norm(rows[:20], axis=1, keepdims=True)

    def moved(by: float) -> np.ndarray:
        row = known[:1] + by * rows[20:21]
        return row / np.linalg.norm(row)

    near, far = 1e-6, 1.0
    for _ in range(60):  # where the call changes
        middle = (near * far) ** 0.5
        near, far = (middle, far) if clear_copies(moved(middle), known, level=0.005)[0] else (near, middle)
    other = -known[:1]
    for by, copied in ((near / 1.001, True), (far * 1.001, False)):
        seen = (moved(by), other) if look == 0 else (other, moved(by))
        (found,) = pairs_of(["s"], [*map(str, range(20))], seen, known, np.ones(20, bool), np.zeros((1, 20), bool))
        assert found.copied is copied
