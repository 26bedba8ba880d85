"""Exposure: slips are found, kinds of photos are not."""

import numpy as np
import pytest

from metrics.photo_set.exposure import Light, light, overexposed, underexposed


def photo(level: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.clip(rng.normal(level, 40, (48, 48, 3)), 0, 255).astype(np.uint8)


def test_one_photo_with_lost_lights_and_one_in_the_dark_are_found():
    images = [photo(120, seed) for seed in range(6)] + [photo(260, 7), (photo(120, 8) * 0.1).astype(np.uint8)]
    found = light(images)
    assert np.flatnonzero(overexposed(found)).tolist() == [6]
    assert np.flatnonzero(underexposed(found)).tolist() == [7]


def test_three_photos_of_a_night_are_a_kind_of_photo():
    images = [photo(120, seed) for seed in range(6)] + [(photo(120, s) * 0.1).astype(np.uint8) for s in (7, 8, 9)]
    assert not underexposed(light(images)).any()


def test_white_backgrounds_of_a_whole_set_are_no_fault():
    images = []
    for seed in range(5):
        image = np.full((48, 48, 3), 255, np.uint8)
        image[12:36, 12:36] = photo(120, seed)[12:36, 12:36]
        images.append(image)
    assert not overexposed(light(images)).any()


def test_a_bright_place_that_loses_one_colour_is_no_fault():
    snow = photo(150, 7)
    snow[:30, :, 2] = 255  # blue alone is at its end, and all of it is light
    snow[:30, :, :2] = np.maximum(snow[:30, :, :2], 215)
    found = light([photo(120, seed) for seed in range(6)] + [snow])
    assert found.lost[6] > 0.5
    assert not overexposed(found).any()


def test_light_is_read_in_shares_and_lightness():
    image = np.zeros((10, 10, 3), np.uint8)
    image[:3] = 255
    image[3, :, 0] = 252
    image[4, :5, 1] = 251
    found = light([image, np.full((10, 10, 3), 119, np.uint8)])
    assert found.lost.tolist() == [0.4, 0]
    assert found.white.tolist() == [0.3, 0]
    assert found.highlights == pytest.approx([100, 50], abs=0.5)
    assert found.median == pytest.approx([0, 50], abs=0.5)


def lights(lost=0.0, white=0.0, highlights=90.0, median=50.0, others=7, alike=0):
    """Plain photos, then one of these numbers and others like it."""
    return Light(
        *(
            np.array([usual] * others + [value] * (1 + alike))
            for usual, value in ((0.0, lost), (0.0, white), (90.0, highlights), (50.0, median))
        )
    )


@pytest.mark.parametrize(
    ("numbers", "found"),
    [
        ({"lost": 0.26, "white": 0.03, "median": 54.1}, True),
        ({"lost": 0.25, "white": 0.03, "median": 54.1}, False),
        ({"lost": 0.26, "white": 0.02, "median": 54.1}, False),
        ({"lost": 0.26, "white": 0.03, "median": 54.0}, False),
        ({"lost": 0.26, "white": 0.03, "median": 54.1, "alike": 1}, True),
        ({"lost": 0.26, "white": 0.03, "median": 54.1, "alike": 2}, False),
    ],
)
def test_overexposed_is_what_lost_more_than_the_set_and_is_no_kind_of_photo(numbers, found):
    assert overexposed(lights(**numbers))[7:].all() == found
    assert not overexposed(lights(**numbers))[:7].any()


@pytest.mark.parametrize(
    ("numbers", "found"),
    [({"highlights": 30.9}, True), ({"highlights": 31.0}, False), ({"highlights": 20, "alike": 1}, True),
     ({"highlights": 20, "alike": 2}, False)],
)  # fmt: skip
def test_underexposed_is_what_has_no_lights_and_is_no_kind_of_photo(numbers, found):
    assert underexposed(lights(**numbers))[7:].all() == found
    near = Light(*[np.array([20.0, 23.9, 24.0, 90, 90])] * 4)
    assert underexposed(near).tolist() == [True, False, True, False, False], "four units apart is another kind"
