"""Copies of a photo are known whatever was done to the file, and two photos of one shoot are two photos."""

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from metrics.comparison.twins import (
    CROPPED,
    SAVED_ANEW,
    _left_over,
    _levels,
    _near,
    _prepared,
    _worst,
    brightened,
    laid_on,
    twins,
)

SIDE = 160


def shot(seed: int, *, place: tuple[float, float] = (0.5, 0.5), scene: int = 0) -> Image.Image:
    """A striped disc before a cloudy scene; `scene` decides the scene, `place` where the disc stands."""
    clouds = np.random.default_rng(scene).uniform(40, 215, (9, 9, 3)).astype(np.uint8)
    ground = np.asarray(Image.fromarray(clouds).resize((SIDE, SIDE), Image.Resampling.BICUBIC), float)
    rows, columns = np.mgrid[0:SIDE, 0:SIDE] / SIDE
    disc = (rows - place[0]) ** 2 + (columns - place[1]) ** 2 < 0.05
    pixels = np.where(disc[..., None], np.where(np.sin(columns * 25) > 0, 230, 20)[..., None], ground)
    pixels = pixels + np.random.default_rng(seed).normal(0, 3, pixels.shape)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def saved(image: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


def cropped(image: Image.Image, left: float, top: float, side: float) -> Image.Image:
    box = (left * SIDE, top * SIDE, (left + side) * SIDE, (top + side) * SIDE)
    return image.resize((SIDE, SIDE), Image.Resampling.LANCZOS, box=box)


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "as it is": lambda image: image,
    "saved as JPEG": lambda image: saved(image, 50),
    "made smaller": lambda image: image.resize((70, 70), Image.Resampling.LANCZOS).resize((SIDE, SIDE)),
    "mirrored": ImageOps.mirror,
    "mirrored and saved": lambda image: saved(ImageOps.mirror(image), 70),
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.1),
    "less contrast": lambda image: ImageEnhance.Contrast(image).enhance(0.8),
    "grey": lambda image: image.convert("L").convert("RGB"),
    "cropped": lambda image: cropped(image, 0.03, 0.06, 0.9),
    "cropped at a corner, mirrored, brighter": lambda image: ImageEnhance.Brightness(
        ImageOps.mirror(cropped(image, 0.0, 0.13, 0.87))
    ).enhance(1.05),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_copy_is_known_by_its_pixels(change: str) -> None:
    images = [shot(seed, scene=seed, place=(0.4 + 0.05 * seed, 0.5)) for seed in range(3)]
    copy = CHANGES[change](images[1])
    expected = np.zeros((4, 4), bool)
    expected[1, 3] = expected[3, 1] = True
    np.testing.assert_array_equal(twins([np.asarray(image) for image in (*images, copy)]), expected)


@pytest.mark.parametrize(("left", "top"), [(0.06, 0.12), (0.13, 0.02), (0.07, 0.07)])
def test_a_crop_of_fine_stripes_is_found_between_the_places_where_the_search_starts(left: float, top: float) -> None:
    rows, columns = np.mgrid[0:SIDE, 0:SIDE] / SIDE
    stripes = np.sin(50 * columns + 8 * rows) + np.sin(48 * rows - 9 * columns**2)
    fine = [
        Image.fromarray(
            (np.asarray(shot(seed, scene=seed)) * 0.5 + 40 + 30 * stripes[..., None]).clip(0, 255).astype(np.uint8)
        )
        for seed in range(4)
    ]
    images = [np.asarray(image) for image in (*fine, cropped(fine[2], left, top, 0.8))]
    expected = np.zeros((5, 5), bool)
    expected[2, 4] = expected[4, 2] = True
    np.testing.assert_array_equal(twins(images, CROPPED), expected)


def test_photos_of_one_shoot_are_different_photos() -> None:
    places = [(0.5, 0.3), (0.5, 0.4), (0.42, 0.5), (0.5, 0.62), (0.6, 0.5)]
    shoot = [np.asarray(shot(seed, place=place)) for seed, place in enumerate(places)]
    assert not twins(shoot).any()


def test_nothing_to_see_is_the_same_nothing() -> None:
    assert not twins([np.full((SIDE, SIDE, 3), level, np.uint8) for level in (0, 200)]).any()
    assert twins([]).shape == (0, 0)
    assert not twins([np.asarray(shot(0))]).any()


@pytest.mark.parametrize("change", CHANGES)
def test_a_sample_of_another_shape_is_the_photo_that_it_was_cut_from(change: str) -> None:
    def wide(seed: int) -> np.ndarray:
        return np.asarray(shot(seed, scene=seed, place=(0.4 + 0.05 * seed, 0.5)).resize((240, SIDE)))

    photos = [wide(seed) for seed in range(4)]
    middle = Image.fromarray(photos[2][:, 40:200])  # as a bucket of squares cuts it
    samples = [np.asarray(CHANGES[change](middle)), np.asarray(shot(9, scene=9)), wide(8), photos[3][::2, ::2]]
    expected = np.zeros((4, 4), bool)
    expected[0, 2] = expected[3, 3] = True
    np.testing.assert_array_equal(laid_on(samples, photos), expected)


def test_a_crop_starts_at_corners_edges_and_the_middle() -> None:
    assert SAVED_ANEW.crops[0] == (0, 0, 1, 1)
    assert len(SAVED_ANEW.crops) == 1 + 4 * 9
    assert len(set(SAVED_ANEW.crops)) == 37
    for left, top, right, bottom in SAVED_ANEW.crops[1:]:
        assert right - left == pytest.approx(bottom - top)
        assert 0 <= left < right <= 1 + 1e-9
        assert 0 <= top < bottom <= 1 + 1e-9
    assert SAVED_ANEW.crops[1 + 4] == pytest.approx((0.025, 0.025, 0.975, 0.975))


def test_grey_levels_have_no_mean_and_unit_norm() -> None:
    levels = _levels(_prepared(np.asarray(shot(0))), (0.1, 0.2, 0.9, 1.0))
    assert levels.shape == (32 * 32,)
    assert levels.mean() == pytest.approx(0, abs=1e-12)
    assert np.linalg.norm(levels) == pytest.approx(1)
    assert not _levels(_prepared(np.full((64, 64, 3), 9, np.uint8)), (0, 0, 1, 1)).any()


def test_the_worst_place_is_an_eighth_of_the_sides() -> None:
    apart = np.zeros((32, 32))
    apart[8:12, 20:24] = 0.5
    assert _worst(apart) == pytest.approx(0.5)
    apart[9, 21] = 2.0
    assert _worst(apart) == pytest.approx(np.sqrt((15 * 0.25 + 4) / 16))
    assert _worst(np.pad(np.full((4, 4), 1.0), ((2, 26), (2, 26)))) == pytest.approx(0.5), "over four places"


@pytest.mark.parametrize(
    ("box", "step"), [((0.1, 0.1, 0.9, 0.9), 0.02), ((0.0, 0.0, 1.0, 1.0), 0.02), ((0.2, 0.3, 0.9, 1.0), 0.1)]
)
def test_a_box_is_moved_and_scaled_within_the_image(box: tuple[float, float, float, float], step: float) -> None:
    moves = [(1, 0, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1)]
    found = list(_near(box, step, moves))
    side = box[2] - box[0]
    sides = [side, side, min(1, side + step), max(0.7, side - step)]
    for tried, wanted in zip(found, sides, strict=True):
        assert tried[2] - tried[0] == pytest.approx(wanted)
        assert tried[3] - tried[1] == pytest.approx(wanted)
        assert min(tried) >= 0
        assert max(tried) <= 1 + 1e-9
    assert found[0][0] == pytest.approx(min(box[0] + step, 1 - side))
    assert found[1][1] == pytest.approx(max(box[1] - step, 0))


def test_what_is_left_of_a_brightened_photo_is_nothing_and_of_another_place_its_difference() -> None:
    generator = np.random.default_rng(0)
    photo = generator.uniform(30, 120, (64, 64, 3)).repeat(2, 0).repeat(2, 1)
    other = np.stack([1.5 * photo[..., 0] + 20, 1.2 * photo[..., 1] + 5, 0.8 * photo[..., 2] + 40], axis=-1)
    assert _left_over(photo, other) == pytest.approx(0, abs=1e-5)
    moved = other.copy()
    moved[16:32, 16:32] += 12  # grey levels in one of 64 places
    grey = moved @ np.array([0.299, 0.587, 0.114])
    spread = grey.reshape(32, 4, 32, 4).mean(axis=(1, 3)).std()
    assert _left_over(photo, moved) == pytest.approx(12 * 63 / 64 / spread, rel=0.05)
    flat = np.full_like(photo, 100.0)
    assert _left_over(flat, other) > 0.9, "a flat one explains nothing"
    assert _left_over(photo, np.full_like(photo, 255.0)) == 0, "clipped everywhere: nothing speaks against it"


def test_brightened_photos_are_told_from_photos_of_one_shoot() -> None:
    photo = np.asarray(shot(0))
    darker = (photo * 0.6 + 10).astype(np.uint8)
    tinted = (photo * np.array([0.9, 0.7, 0.5])).astype(np.uint8)
    elsewhere = np.asarray(shot(1, place=(0.5, 0.56)))
    found = brightened([photo, darker, np.ascontiguousarray(tinted[:, ::-1]), elsewhere])
    expected = np.zeros((4, 4), bool)
    expected[:3, :3] = ~np.eye(3, dtype=bool)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("level", "clipped"), [(248, True), (247, False), (6, True), (7, False)])
def test_what_may_have_been_clipped_has_no_say_in_how_much_brighter_a_photo_is(level: int, clipped: bool) -> None:
    photo = np.random.default_rng(0).uniform(90, 150, (64, 64, 3)).repeat(2, 0).repeat(2, 1)
    slope, start = (1.5, -10.0) if level > 100 else (1.5, -70.0)
    other = slope * photo + start
    part = (slice(0, 96), slice(None))
    photo[part] = (level - start) / slope  # three quarters fit by themselves
    other[part] = level
    photo[:96, :64] += 40 if level > 100 else -40  # but half of these are explained by clipping alone
    found = _left_over(photo, other)
    assert (found < 0.3) is clipped


def test_only_pairs_that_are_asked_for_are_looked_at() -> None:
    images = [np.asarray(shot(0))] * 3
    asked = np.zeros((3, 3), bool)
    assert not twins(images, asked=asked).any()
    asked[0, 2] = asked[2, 0] = True
    assert np.argwhere(twins(images, asked=asked)).tolist() == [[0, 2], [2, 0]]
    assert twins(images).sum() == 6
