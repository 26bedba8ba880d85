"""Restarting schedules: where they restart, and a planted swing that is taken out again."""

import numpy as np
import pytest

from metrics.onset.replicates import Curves, checkpoint_jitter
from metrics.onset.restarts import SWING, restart_epochs, restarts, without_phase

EPOCHS = np.arange(0, 33)


def effort(rates: np.ndarray) -> np.ndarray:
    """Of checkpoints at each epoch from 0 on, with these rates before them."""
    return np.concatenate([[0.0], np.cumsum(rates)])


def cycles(length: int, count: int = 32) -> np.ndarray:
    """Rates of a cosine that restarts after each `length` epochs."""
    return 0.5 * (1 + np.cos(np.pi * (np.arange(count) % length + 0.5) / length))


def test_a_rate_has_to_fall_and_rise_again_by_so_much_of_the_largest() -> None:
    for top in (1.0, 1e-4):
        for rates, found in (
            ([1, 1, 1], False),
            ([0.1, 0.5, 1], False),
            ([1, 0.5, 0.1], False),
            ([0.1, 1, 0.1], False),
            ([1, 1 - SWING - 0.01, 1], True),
            ([1, 1 - SWING + 0.01, 1], False),
            ([1, 0.2, 0.2 + SWING + 0.01], True),
            ([1, 0.2, 0.2 + SWING - 0.01], False),
            ([1, 0.5, 0.2, 0.4, 0.6], True),
        ):
            assert restarts(top * np.array(rates)) == found, rates


@pytest.mark.parametrize("length", [4, 8, 16])
def test_each_restart_is_where_a_cycle_ends(length: int) -> None:
    rates = cycles(length)
    assert restart_epochs(EPOCHS, effort(rates)) == [float(at) for at in range(length, 32, length)]
    every_second = slice(None, None, 2)
    assert restart_epochs(EPOCHS[every_second], effort(rates)[every_second]) == [
        float(at) for at in range(length, 32, length)
    ]


def test_schedules_without_restarts_have_none() -> None:
    for rates in (np.ones(32), np.linspace(1, 0, 32), np.minimum(np.arange(1, 33) / 8, 1), cycles(32)):
        assert restart_epochs(EPOCHS, effort(rates)) == []
    unknown = effort(cycles(8))
    unknown[3] = np.nan
    assert restart_epochs(EPOCHS, unknown) == []
    assert restart_epochs(EPOCHS[:2], effort(cycles(8))[:2]) == []
    assert restart_epochs(np.arange(3), effort(np.array([1.0, 0.1]))) == []


def curves_of(mean: np.ndarray, epochs: np.ndarray) -> Curves:
    replicates = mean + 0.01 * np.random.default_rng(0).normal(size=(5, len(mean)))
    return Curves(np.arange(len(mean)), epochs, mean, replicates, 0.5, np.zeros(len(mean)))


@pytest.mark.parametrize("first", [0, 1])
def test_a_planted_swing_is_taken_out_and_the_valley_stays(first: int) -> None:
    """`first`: whether the table has the base."""
    rates = cycles(8)
    shares = rates / rates.max()
    valley = -0.4 * EPOCHS / (3 + EPOCHS) + 0.01 * np.maximum(EPOCHS - 16, 0)
    swing = 0.2 * np.concatenate([[0.0], shares])
    mean = (valley + swing)[first:]
    mean = mean - mean[0] if first else mean
    told = curves_of(mean, EPOCHS[first:])
    found = without_phase(told, effort(rates)[first:])
    truth = valley[first:] - valley[first] if first else valley
    assert found.mean[0] == 0.0
    assert np.abs(found.mean - truth).max() < 0.03
    assert np.abs(told.mean - truth).max() > 0.15
    np.testing.assert_allclose(found.replicates - found.mean, told.replicates - told.mean, atol=1e-12)
    assert found.jitter == checkpoint_jitter(found.mean, found.epochs)


def test_without_restarts_the_curves_are_left_alone() -> None:
    valley = -0.4 * EPOCHS / (3 + EPOCHS)
    told = curves_of(valley, EPOCHS)
    unknown = effort(cycles(8))
    unknown[-1] = np.nan
    for course in (effort(np.ones(32)), effort(cycles(32)), np.zeros(33), unknown):
        assert without_phase(told, course) is told
    few = curves_of(valley[:5], EPOCHS[:5])
    assert without_phase(few, effort(cycles(2))[:5]) is few
