"""Exposure: slips are found, kinds of photos are not."""

import numpy as np

from metrics.photo_set.exposure import light, overexposed, underexposed


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
