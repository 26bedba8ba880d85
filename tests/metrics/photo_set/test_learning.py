"""Photos that are learned first or never, and photos that pull drawings."""

import numpy as np

from metrics.photo_set.learning import farthest, learning, pulls

RNG = np.random.default_rng(2)


def course(*epochs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Losses at checkpoints where they are so many times the base's, and the base's."""
    base = RNG.uniform(0.5, 1.0, (len(epochs[0]), 4, 3))
    noise = [np.exp(RNG.normal(0, 0.01, base.shape)) for _ in epochs]
    return np.array([base * each[:, None, None] * more for each, more in zip(epochs, noise, strict=True)]), base


def alike(level: float, **others: float) -> np.ndarray:
    ratios = np.full(16, level) * np.exp(RNG.normal(0, 0.02, 16))
    for name, ratio in others.items():
        ratios[int(name[1:])] = ratio
    return ratios


def test_the_first_and_the_last_are_found_among_photos_that_are_learned_alike():
    found = learning(*course(alike(0.9, p4=0.5, p9=1.01), alike(0.8, p4=0.4, p9=1.02)))
    assert np.flatnonzero(found.memorised_first).tolist() == [4]
    assert np.flatnonzero(found.never_fitted).tolist() == [9]
    assert (found.low <= found.ratio).all()


def test_a_photo_that_was_first_is_found_although_the_others_have_caught_up():
    late = np.full(16, 0.3) * np.exp(RNG.normal(0, 0.4, 16))
    late[4] = 0.25
    found = learning(*course(alike(0.9, p4=0.5), alike(0.85, p4=0.35), late))
    assert abs(found.beyond[-1, 4]) < 2, "at the end it is one of them"
    assert np.flatnonzero(found.memorised_first).tolist() == [4]
    assert found.reached[4] <= 2


def test_standing_out_at_one_checkpoint_alone_is_no_sign():
    found = learning(*course(alike(0.9, p4=0.5), alike(0.8), alike(0.7, p6=0.4)))
    assert not found.memorised_first.any()


def test_a_photo_that_was_fitted_for_a_while_is_not_called_never_fitted():
    found = learning(*course(alike(0.9, p9=0.7), alike(0.6, p9=1.02)))
    assert not found.never_fitted.any()


def test_before_anything_is_learned_no_photo_stands_out():
    found = learning(*course(alike(1.0, p4=0.8), alike(1.0, p4=0.8)))
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
