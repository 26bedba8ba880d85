"""Photos that are learned first or never, and photos that pull drawings."""

import numpy as np

from metrics.photo_set.learning import farthest, learning, pulls

RNG = np.random.default_rng(2)


def losses(ratios: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    base = RNG.uniform(0.5, 1.0, (len(ratios), 4, 3))
    return base * ratios[:, None, None] * np.exp(RNG.normal(0, 0.01, base.shape)), base


def test_the_first_and_the_last_are_found_among_photos_that_are_learned_alike():
    ratios = np.full(16, 0.8) * np.exp(RNG.normal(0, 0.02, 16))
    ratios[4], ratios[9] = 0.4, 1.02
    found = learning(*losses(ratios))
    assert np.flatnonzero(found.memorised_first).tolist() == [4]
    assert np.flatnonzero(found.never_fitted).tolist() == [9]
    assert (found.low <= found.ratio).all()


def test_before_anything_is_learned_no_photo_stands_out():
    ratios = np.ones(16)
    ratios[4] = 0.8
    found = learning(*losses(ratios))
    assert not found.memorised_first.any()
    assert not found.never_fitted.any()


def test_a_photo_that_pulls_drawings_is_found_and_one_that_is_near_to_everything_is_not():
    photos = np.eye(8)
    even = photos[np.arange(24) % 8]
    drawn = np.concatenate([photos[[3] * 16], photos[:8]])
    assert np.flatnonzero(pulls(drawn, even, photos)).tolist() == [3]
    assert not pulls(drawn, drawn, photos).any()
    assert not pulls(even, even, photos).any()


def test_the_photos_that_make_the_spread_are_told_the_largest_first():
    rows = RNG.normal(0, 0.1, (12, 3))
    rows[2], rows[7] = 4.0, 6.0
    assert farthest(rows).tolist() == [7, 2]
