"""The pooled fits against scipy, scikit-learn's algorithm by brute force, and their own definitions."""

import itertools

import numpy as np
import pytest
from scipy.optimize import isotonic_regression

from metrics.onset.valley import fit_valley, isotonic


@pytest.fixture
def curves() -> np.ndarray:
    generator = np.random.default_rng(3)
    return generator.normal(size=(50, 23)) + 2 * np.abs(np.linspace(-1, 1, 23))


def test_isotonic_is_scipys(curves):
    for row, curve in zip(isotonic(curves), curves, strict=True):
        np.testing.assert_allclose(row, isotonic_regression(curve).x, atol=1e-10)


def test_valley_is_the_best_of_all_splits(curves):
    valley = fit_valley(curves)
    for fit, bottom, error, curve in zip(valley.fit, valley.bottom, valley.error, curves, strict=True):
        errors = []
        for split in range(len(curve)):
            left = isotonic_regression(curve[: split + 1], increasing=False).x
            right = isotonic_regression(curve[split + 1 :]).x if split + 1 < len(curve) else np.empty(0)
            errors.append(float(((np.concatenate([left, right]) - curve) ** 2).sum()))
        assert error == pytest.approx(min(errors))
        assert errors[bottom] == pytest.approx(min(errors))
        assert ((fit - curve) ** 2).sum() == pytest.approx(error)
        assert (np.diff(fit[: bottom + 1]) <= 1e-12).all()
        assert (np.diff(fit[bottom + 1 :]) >= -1e-12).all()


def test_valley_beats_every_grid_valley():
    """Brute force on a coarse grid of values: no valley of the grid is closer than the fit."""
    curve = np.array([2.0, 0.0, 1.0, 0.0, 2.0])
    grid = np.array([0.0, 0.5, 1.0, 1.5, 2.0])
    best = np.inf
    for values in itertools.product(grid, repeat=5):
        steps = np.sign(np.diff(values))
        rose = np.maximum.accumulate(steps > 0)
        if not (rose & (steps < 0)).any():
            best = min(best, ((np.array(values) - curve) ** 2).sum())
    assert fit_valley(curve).error[0] <= best + 1e-12


def test_a_falling_curve_has_its_bottom_at_the_end_and_a_rising_one_at_the_start():
    falling = np.linspace(0, -1, 9)
    assert fit_valley(falling).bottom[0] == 8
    assert fit_valley(-falling).bottom[0] == 0
    np.testing.assert_allclose(fit_valley(falling).fit[0], falling)
    assert fit_valley(np.zeros(9)).bottom[0] == 8


def test_a_curve_by_itself_is_fitted_as_among_many_to_the_bit():
    """A few curves and many of them go two ways through the same sums."""
    many = np.random.default_rng(5).normal(size=(200, 31)).round(1).cumsum(axis=1)
    (fit, bottom, error), rising = fit_valley(many), isotonic(many)
    for row, curve in enumerate(many):
        alone = fit_valley(curve)
        assert (alone.fit[0].tobytes(), alone.bottom[0], alone.error[0]) == (
            fit[row].tobytes(),
            bottom[row],
            error[row],
        )
        assert isotonic(curve).tobytes() == rising[row].tobytes()
