"""How much nearer images come to the photos whose captions they were drawn from."""

import numpy as np
import pytest

from metrics.channels.own_photo import GRID, nearness_gained, small_pixels


def noise(count: int, seed: int, side: int = 64) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def test_small_pixels_are_the_means_of_fields_whatever_the_size():
    images = noise(2, 0)
    means = images.reshape(2, GRID, 4, GRID, 4, 3).mean(axis=(2, 4)).reshape(2, -1)
    assert np.abs(small_pixels(images) - means).max() <= 1.0  # rounded once across and once down
    wide = np.repeat(images[0], 3, axis=1)
    assert np.allclose(small_pixels([wide, images[0]])[0], small_pixels(images)[0], atol=1.01)


def test_what_is_gained_is_the_log_of_the_distances_ratio_mean_over_a_photos_images():
    photos, base, now = (small_pixels(noise(count, seed)) for count, seed in ((5, 1), (6, 2), (6, 3)))
    photo, trained = np.array([3, 0, 3, -1, 4, 0]), np.array([True, False, False, True, False])
    own, held_out = nearness_gained(now, base, photos, photo, trained)

    def gained(image: int) -> float:
        apart = [float(np.sqrt(((each[image] - photos[photo[image]]) ** 2).mean())) for each in (base, now)]
        return float(np.log(apart[0] / apart[1]))

    assert own == pytest.approx([(gained(1) + gained(5)) / 2, (gained(0) + gained(2)) / 2])
    assert held_out == pytest.approx([gained(4)])


def test_the_photo_itself_is_near_but_not_infinitely_so():
    photos = small_pixels(noise(2, 4))
    own, held_out = nearness_gained(photos, photos[::-1], photos, np.arange(2), np.array([True, False]))
    assert np.isfinite([*own, *held_out]).all()
    assert own[0] > 3
