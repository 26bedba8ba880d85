"""Photos that are learned first or never, and photos that pull drawings."""

import numpy as np
import pytest

from metrics.photo_set.learning import Learning, farthest, learning, pulls

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


def test_ratios_and_their_intervals_are_those_of_the_draws():
    base, losses = RNG.uniform(0.5, 1, (5, 2, 3)), RNG.uniform(0.2, 0.9, (2, 5, 2, 3))
    found = learning(losses, base)
    each = np.log(losses / base).mean(axis=2)  # over noise levels
    np.testing.assert_allclose(found.ratio, each.mean(axis=2))
    np.testing.assert_allclose(found.high - found.ratio, 2 * each.std(axis=2, ddof=1) / np.sqrt(3))
    np.testing.assert_allclose(found.ratio - found.low, found.high - found.ratio)
    middle = np.median(found.ratio, axis=1)
    for row in range(2):
        spread = max(1.4826 * np.median(np.abs(found.ratio[row] - middle[row])), 0.02)
        np.testing.assert_allclose(found.beyond[row], (found.ratio[row] - middle[row]) / spread)
    once = learning(losses[..., :1], base[..., :1])
    np.testing.assert_array_equal(once.low, once.high)


def test_of_one_checkpoint_the_first_is_found_at_that_one():
    found = learning(*course(alike(0.8, p4=0.3)))
    assert np.flatnonzero(found.memorised_first).tolist() == [4]
    assert found.reached.shape == (16,)


def plain(*rows: list[float]) -> Learning:
    """Ratios of checkpoints without any spread of their draws; the sixth is judged against five alike."""
    ratio = np.array([[-0.1] * 5 + [value] if isinstance(value, float) else value for value in rows], float)
    middle = np.median(ratio, axis=1, keepdims=True)
    return Learning(ratio, ratio - 0.01, ratio + 0.01, (ratio - middle) / 0.02)


@pytest.mark.parametrize(("last", "first"), [(-0.19, True), (-0.18, False), (-0.17, False)])
def test_first_is_more_than_four_spreads_below(last: float, first: bool):
    assert plain(last, last).memorised_first.tolist() == [False] * 5 + [first]


@pytest.mark.parametrize(
    ("rows", "never"),
    [([0.0, 0.0], True), ([-0.02, 0.0], False), ([0.0, -0.01], False), ([0.0, -0.02], False)],
)
def test_never_fitted_is_what_has_surely_fallen_nowhere(rows: list[float], never: bool):
    assert plain(*rows).never_fitted.tolist() == [False] * 5 + [never]


def test_while_the_others_have_not_fallen_nobody_is_behind():
    flat = np.array([[-0.02] * 5 + [0.2]] * 2)
    assert not Learning(flat, flat, flat, (flat + 0.02) / 0.02).never_fitted.any()


def test_three_drawings_are_the_fewest_that_pull():
    photos = np.eye(40)
    even = photos[np.arange(40)]
    assert not pulls(photos[[3, 3]], even, photos).any()
    assert np.flatnonzero(pulls(photos[[3, 3, 3]], even, photos)).tolist() == [3]


@pytest.mark.parametrize(("times", "rows"), [(3.0, [5]), (0.5, [5, 4]), (6.1, [])])
def test_who_makes_so_many_shares_of_the_spread(times: float, rows: list[int]):
    apart = np.array([[0.0], [0.0], [0.0], [0.0], [1.0], [3.0]])  # shares 0, 0, 0, 0, 0.1, 0.9
    assert farthest(apart, times=times).tolist() == rows
    assert farthest(np.zeros((4, 1))).tolist() == []
