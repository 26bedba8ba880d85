"""Replicates of a loss curve against closed forms: weights, spreads, noise levels, and one checkpoint's luck."""

import numpy as np
import pytest

from metrics.onset.replicates import USUAL_JITTER, checkpoint_jitter, loss_curves, off_neighbours, reweighted
from metrics.trajectory.readings import Reading, Readings
from metrics.trajectory.trajectory import Trajectory

EPOCHS = np.array([0, 2, 4, 8, 16, 32, 64])


def log_of(items: dict[str, np.ndarray], half: float = 0.0) -> Trajectory:
    """Readings with `items` [T, n, …], or, where they have but one axis, only their means, `half` wide on each side."""
    readings = []
    for row, epoch in enumerate(EPOCHS.tolist()):
        channels = {name: values[row] for name, values in items.items()}
        means = {name: Reading(v.mean(), v.mean() - half * (epoch > 0), v.mean() + half * (epoch > 0))
                 for name, v in channels.items()}  # fmt: skip
        readings.append(Readings(epoch, float(epoch), means, {n: v for n, v in channels.items() if v.ndim}))
    return Trajectory(tuple(readings))


def test_a_line_over_log_epochs_has_no_luck_and_a_bump_has_its_closed_form() -> None:
    line = np.concatenate([[5.0], np.log2(EPOCHS[1:])])
    np.testing.assert_allclose(off_neighbours(line, EPOCHS), np.zeros(4), atol=1e-12)
    bump = line.copy()
    bump[3] += 0.6  # at equal distances: off by all of it, its neighbours by half of it, each over √1.5
    np.testing.assert_allclose(off_neighbours(bump, EPOCHS), np.array([-0.3, 0.6, -0.3, 0.0]) / np.sqrt(1.5))
    uneven = np.array([0.0, 0.0, 1.0, 0.0])  # epochs 1, 2, 16: the middle lies a quarter of the way
    share = 0.25
    expected = 1.0 / np.sqrt(1 + share**2 + (1 - share) ** 2)
    assert off_neighbours(uneven, np.array([0, 1, 2, 16])) == pytest.approx([expected])


def test_jitter_is_measured_from_six_trained_checkpoints_on() -> None:
    wild = np.random.default_rng(0).normal(size=7)
    assert checkpoint_jitter(wild[:6], EPOCHS[:6]) == USUAL_JITTER
    expected = float(np.median(np.abs(off_neighbours(wild, EPOCHS))) / 0.6745)
    assert checkpoint_jitter(wild, EPOCHS) == pytest.approx(expected)
    assert checkpoint_jitter(wild[1:], EPOCHS[1:]) == pytest.approx(expected)
    many = np.arange(1, 2001)
    assert checkpoint_jitter(0.02 * np.random.default_rng(1).normal(size=2000), many) == pytest.approx(0.02, rel=0.1)


def test_the_mean_of_a_sum_is_the_weighted_sum_of_means() -> None:
    random = np.random.default_rng(2)
    one, other = random.normal(size=(7, 5)), random.normal(size=(7, 3, 4, 2))
    curves = loss_curves(log_of({"a": one, "b": other}), {"a": 0.25, "b": 2.0}, num_replicates=3, seed=0)
    assert curves is not None
    np.testing.assert_allclose(curves.mean, 0.25 * one.mean(axis=1) + 2 * other.reshape(7, -1).mean(axis=1))
    assert curves.rows.tolist() == list(range(7))
    assert curves.stacked.shape == (4, 7)
    np.testing.assert_array_equal(curves.stacked[0], curves.mean)
    assert not curves.spikes.any()
    again = loss_curves(log_of({"a": one, "b": other}), {"a": 0.25, "b": 2.0}, num_replicates=3, seed=0)
    np.testing.assert_array_equal(again.replicates, curves.replicates)
    assert loss_curves(log_of({"a": one}), {"a": 1.0, "b": 1.0}, num_replicates=3, seed=0) is None


def test_only_checkpoints_with_all_channels_count_and_three_are_needed() -> None:
    values = np.arange(7.0)
    values[[1, 3, 5]] = np.nan
    curves = loss_curves(log_of({"a": values, "b": np.arange(7.0)}), {"a": 1.0, "b": 1.0}, num_replicates=2, seed=0)
    assert curves.rows.tolist() == [0, 2, 4, 6]
    assert curves.epochs.tolist() == [0, 4, 16, 64]
    for lost, there in (([6], 3), ([4, 6], None)):
        less = values.copy()
        less[lost] = np.nan
        found = loss_curves(log_of({"a": less}), {"a": 1.0}, num_replicates=2, seed=0)
        assert there == (None if found is None else len(found.rows))


def test_only_noise_levels_whose_middles_lie_between_are_read() -> None:
    cube = np.random.default_rng(3).normal(size=(7, 5, 4, 2))  # middles at 1/8, 3/8, 5/8, 7/8

    def mean(low: float, high: float) -> np.ndarray:
        return loss_curves(log_of({"a": cube}), {"a": 1.0}, num_replicates=2, seed=0, levels=(low, high)).mean

    read = {
        (0.0, 1.0): [0, 1, 2, 3], (0.25, 0.75): [1, 2], (0.2, 0.38): [1], (0.375, 1.0): [2, 3], (0.0, 0.625): [0, 1],
        (0.4, 0.5): [0, 1, 2, 3],  # none lies there: all of them
    }  # fmt: skip
    for (low, high), levels in read.items():
        np.testing.assert_allclose(mean(low, high), cube[:, :, levels].mean(axis=(1, 2, 3)))


def test_a_table_of_means_believes_its_intervals() -> None:
    curves = loss_curves(log_of({"a": np.zeros(7)}, half=1.645), {"a": 0.5}, num_replicates=4000, seed=0)
    spread = curves.replicates.std(axis=0)
    assert spread[0] == 0.0, "the base is 0 by definition"
    np.testing.assert_allclose(spread[1:], 0.5, rtol=0.05)


def test_an_uncertain_weight_spreads_a_curve_by_its_own_height() -> None:
    heights = np.array([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0])  # a line over log epochs: no jitter
    heights[1:] = np.log2(EPOCHS[1:])
    for items in (heights, np.repeat(heights[:, None], 4, axis=1)):
        curves = loss_curves(log_of({"a": items}), {"a": 1.0}, num_replicates=4000, seed=0, spreads={"a": 0.2})
        shares = (curves.replicates[:, 1:] - curves.mean[1:]) / curves.mean[1:]
        np.testing.assert_allclose(shares, np.repeat(shares[:, :1], 6, axis=1), atol=1e-9)
        assert np.log1p(shares[:, 0]).std() == pytest.approx(0.2, rel=0.05)


@pytest.mark.parametrize("number", [2, 5, 20])
def test_random_weights_spread_as_the_mean_does(number: int) -> None:
    parts = np.random.default_rng(4).normal(size=(3, number)) * np.array([[1.0], [2.0], [0.0]])
    found = reweighted(parts, 20_000, np.random.default_rng(5), student=False)
    assert found.shape == (20_000, 3)
    np.testing.assert_allclose(found.std(axis=0), parts.std(axis=1, ddof=1) / np.sqrt(number), rtol=0.03, atol=1e-12)
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=0.03)
    assert not reweighted(parts[:, :1], 4, np.random.default_rng(5), student=True).any()


def test_noise_draws_that_differ_alike_in_all_photos_spread_a_curve_as_their_mean_does() -> None:
    """Four draws of two noise levels; photos agree, so that they say nothing."""
    draws = np.array([0.0, 0.1, 0.2, 0.3])
    readings = []
    for epoch in range(0, 10, 2):
        each = np.broadcast_to(draws * (epoch > 0), (3, 2, 4)) + 0.0
        mean = float(each.mean())
        readings.append(
            Readings(epoch, float(epoch), {"heldout_loss": Reading(mean, mean, mean)}, {"heldout_loss": each})
        )
    found = loss_curves(Trajectory(tuple(readings)), {"heldout_loss": 1.0}, num_replicates=4000, seed=0)
    assert found is not None
    expected = np.hypot(draws.std(ddof=1) / np.sqrt(4), found.jitter)
    np.testing.assert_allclose(found.replicates[:, 1:].std(axis=0), expected, rtol=0.05)
    assert not found.replicates[:, 0].any(), "the base is what all is compared with"
