"""Loss statistics: ratios before means, bands by noise, intervals that honour whose composite it is."""

import numpy as np
import pytest
from scipy import stats

from metrics.channels.bootstrap import half_splits, pseudo_values, reading_of_items
from metrics.channels.losses import log_ratios, noise_bands
from metrics.errors import MetricsError


def test_the_base_reads_zero_and_a_tenth_less_reads_its_logarithm():
    base = np.random.default_rng(0).uniform(0.01, 1, (5, 8, 4))
    assert not log_ratios(base, base).any()
    np.testing.assert_allclose(log_ratios(0.9 * base, base), np.log(0.9))


def test_a_loud_noise_level_does_not_drown_a_quiet_one():
    base = np.ones((4, 6, 2)) * np.array([0.001, 0.01, 0.1, 1, 10, 100])[:, None]
    changed = base.copy()
    changed[:, 0] *= np.exp(0.6)
    assert log_ratios(changed, base).mean() == pytest.approx(0.1)


def test_bands_split_the_levels_from_low_noise_to_high():
    ratios = np.zeros((3, 8, 2))
    ratios[:, -2:] = 1
    bands = noise_bands(ratios)
    assert bands["high"].mean() == 1
    assert bands["low"].mean() == bands["mid"].mean() == 0
    assert set(noise_bands(np.zeros((2, 1, 1)))) == {"low"}


def test_shapes_that_differ_are_named():
    with pytest.raises(MetricsError, match=r"\(2, 8, 4\) against \(3, 8, 4\)"):
        log_ratios(np.ones((2, 8, 4)), np.ones((3, 8, 4)))


def test_the_interval_equals_scipys_bootstrap():
    items = np.random.default_rng(0).normal(0.3, 1, 40)
    found = reading_of_items(items)
    expected = stats.bootstrap((items,), np.mean, confidence_level=0.9, method="percentile", rng=0).confidence_interval
    assert (found.low, found.high) == (pytest.approx(expected.low, abs=0.03), pytest.approx(expected.high, abs=0.03))


def test_composites_of_one_photo_do_not_count_as_independent():
    generator = np.random.default_rng(0)
    photo = np.repeat(np.arange(4), 16)
    items = generator.normal(size=4)[photo] + 0.01 * generator.normal(size=64)
    loose, honest = reading_of_items(items), reading_of_items(items, groups=photo)
    assert honest.value == loose.value
    assert honest.high - honest.low > 2 * (loose.high - loose.low)


def test_half_splits_are_halves_and_pseudo_values_average_to_the_statistic():
    assert (half_splits(9).sum(axis=1) == 4).all()
    items = np.random.default_rng(1).normal(size=12)
    left_out = (items.sum() - items) / 11
    np.testing.assert_allclose(pseudo_values(items.mean(), left_out), items)
