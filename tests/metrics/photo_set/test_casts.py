"""A filter over a whole photo is a cast; a coloured wall, or a set that is all of one light, is none."""

from collections.abc import Sequence

import numpy as np
import pytest

from metrics.photo_set.casts import Cast, without_cast
from metrics.photo_set.casts import casts as casts_of

SIDE = 64
WALLS = ((120, 130, 125), (90, 110, 140), (150, 140, 120), (110, 120, 100), (135, 125, 140))


def shoot(walls: Sequence[tuple[int, int, int]] = WALLS) -> list[np.ndarray]:
    """A beige toy with a white and a black part before walls."""
    photos = []
    for seed, wall in enumerate(walls):
        image = np.full((SIDE, SIDE, 3), wall, np.float64)
        image[16:52, 14:50] = (190, 165, 130)
        image[20:30, 18:46] = (235, 235, 232)
        image[40:48, 18:46] = (25, 24, 26)
        photos.append((image + np.random.default_rng(seed).normal(0, 4, image.shape)).clip(0, 255).astype(np.uint8))
    return photos


def casts(photos: Sequence[np.ndarray], says: np.ndarray | None = None) -> Cast:
    return casts_of(photos, np.zeros((len(photos), 0), bool) if says is None else says)


def filtered(photo: np.ndarray, gains: Sequence[float]) -> np.ndarray:
    return np.clip(photo.astype(np.float64) * gains, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("gains", [(1.35, 0.6, 1.2), (1.2, 1.0, 0.55), (0.45, 0.9, 1.4), (0.6, 1.3, 0.6)])
@pytest.mark.parametrize("row", [0, 3])
def test_a_filter_over_one_photo_is_a_cast(gains: tuple[float, float, float], row: int) -> None:
    photos = shoot()
    photos[row] = filtered(photos[row], gains)
    assert np.flatnonzero(casts(photos).found).tolist() == [row]


def test_a_light_that_captions_name_is_none() -> None:
    photos = [*shoot(), *shoot(), *shoot()]
    says = np.zeros((15, 1), bool)
    says[[0, 1, 5, 6, 10], 0] = True
    for row in (0, 1, 6, 10):
        photos[row] = filtered(photos[row], (1.35, 0.85, 0.45))
    photos[5] = filtered(photos[5], (1.45, 0.8, 0.3))
    assert casts(photos).found[5]
    assert not casts(photos, says).found.any()


def test_a_wall_of_another_colour_is_none() -> None:
    assert not casts(shoot((*WALLS[:4], (225, 90, 30)))).found.any()
    assert not casts(shoot()).found.any()


def test_a_light_that_two_photos_share_is_the_set_s_own() -> None:
    photos = shoot((WALLS[0], WALLS[1], WALLS[0], *WALLS[3:]))
    photos[0], photos[2] = (filtered(photo, (1.3, 0.9, 0.6)) for photo in photos[:3:2])
    assert not casts(photos).found.any()


def test_a_cast_is_taken_off_by_what_the_others_look_like() -> None:
    photos = shoot()
    clean = photos[3].astype(np.float64)
    tinted = filtered(photos[3], (1.2, 0.7, 1.1))
    restored = without_cast(tinted, [photo for row, photo in enumerate(photos) if row != 3]).astype(np.float64)
    hue = [
        np.abs((image - image.mean(axis=2, keepdims=True)) - (clean - clean.mean(axis=2, keepdims=True))).mean()
        for image in (tinted.astype(np.float64), restored)
    ]
    assert hue[1] < 0.4 * hue[0]


def test_three_photos_are_too_few() -> None:
    photos = shoot()[:3]
    assert not casts([photos[0], photos[1], filtered(photos[2], (1.35, 0.6, 1.2))]).found.any()
