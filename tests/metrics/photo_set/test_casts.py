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


@pytest.mark.parametrize(
    ("shift", "least", "beyond", "found"),
    [(28.1, 5.1, 8.1, True), (28.0, 5.1, 8.1, False), (28.1, 5.0, 8.1, False), (28.1, 5.1, 8.0, False)],
)
def test_a_cast_is_far_everywhere_and_farther_than_any_other(
    shift: float, least: float, beyond: float, found: bool
) -> None:
    assert Cast(*(np.array([each]) for each in (shift, least, beyond))).found.tolist() == [found]


def test_how_far_a_cast_moves_is_the_way_between_mean_colours() -> None:
    from skimage.color import rgb2lab

    levels = [(120, 120, 120), (130, 130, 130), (110, 110, 110), (125, 125, 125), (200, 120, 100)]
    found = casts([np.full((32, 32, 3), level, np.uint8) for level in levels])
    lab = rgb2lab(np.array([[level] for level in levels], np.uint8))[:, 0, 1:]
    assert found.shift[4] == pytest.approx(np.linalg.norm(lab[4] - np.median(lab[:4], axis=0)), rel=0.02)
    assert found.least[4] == pytest.approx(found.shift[4], rel=0.02)
    assert found.beyond[4] == pytest.approx(found.least[4], rel=0.05)
    assert found.shift[:4].max() < 1
    assert found.found.tolist() == [False] * 4 + [True]


def test_black_and_white_show_no_cast_unless_there_is_nothing_else() -> None:
    from metrics.photo_set.casts import _chroma

    lab = np.array([[10, 50, 50]] * 40 + [[99, 50, 50]] * 40 + [[60, 1, 2]] * 51, float)
    assert (_chroma(lab) == (1, 2)).all()
    assert len(_chroma(lab)) == 51
    assert len(_chroma(lab[:-1])) == 130, "fifty are few"


def test_a_neutral_set_turns_a_tinted_grey_back_to_grey() -> None:
    others = [np.full((8, 8, 3), level, np.uint8) for level in (90, 120, 150)]
    found = without_cast(np.full((8, 8, 3), (160, 120, 80), np.uint8), others)
    assert np.ptp(found[0, 0].astype(int)) <= 1
    linear = (np.array([160, 120, 80]) / 255) ** 2.2
    assert found[0, 0, 0] == pytest.approx(255 * linear.mean() ** (1 / 2.2), abs=1.5), "as light as it was"
