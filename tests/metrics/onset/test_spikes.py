"""Single checkpoints far off their neighbours: neither the onset nor the epoch to ship follows them."""

import numpy as np
import pytest

from metrics.onset.curves import onset_curves
from metrics.onset.onset import find_onset
from metrics.onset.spikes import without_spikes
from metrics.trajectory.readings import Reading, Readings
from metrics.trajectory.trajectory import Trajectory

EPOCHS = np.arange(5, 105, 5)


def log_of(losses: np.ndarray) -> Trajectory:
    """A table of one held-out loss, ln ratios to the base, which is its first row."""
    rows = zip([0, *EPOCHS.tolist()], [0.0, *losses.tolist()], strict=True)
    return Trajectory(tuple(Readings(at, float(at), {"heldout_loss": Reading(v, v, v)}) for at, v in rows))


def valley(seed: int) -> np.ndarray:
    luck = 0.0008 * np.random.default_rng(seed).normal(size=len(EPOCHS))
    return -0.03 * EPOCHS / (4 + EPOCHS) + 0.01 * (EPOCHS / 40) ** 1.6 + luck


@pytest.mark.parametrize("at", [(3, 0.03), (8, -0.03), (12, 0.05), (13, 0.05, 0.04), (5, 0.06, 0.0, -0.04)])
def test_spikes_do_not_move_the_onset_and_are_not_shipped(at: tuple[int, *tuple[float, ...]]) -> None:
    for seed in range(3):
        losses = valley(seed)
        plain = find_onset(log_of(losses))
        start, *sizes = at
        struck = np.array([start + k for k, size in enumerate(sizes) if size])
        losses[start : start + len(sizes)] += sizes
        onset = find_onset(log_of(losses))
        assert abs(np.log2(onset.memory.epoch / plain.memory.epoch)) < 0.15
        up = EPOCHS[struck[np.array([size for size in sizes if size]) > 0]]
        assert onset.best not in up
        assert abs(np.log2(onset.best / plain.best)) < 0.8


def test_what_a_valley_can_be_is_no_spike() -> None:
    """A steep fall, a sharp bottom on a coarse grid, and a steep rise, all without any noise."""
    for losses in (
        -0.5 * EPOCHS / (3 + EPOCHS) + 0.3 * (EPOCHS / 60) ** 3,
        np.abs(EPOCHS - 45) / 50,
        np.where(EPOCHS < 50, -0.3, 0.4),
        -0.02 * np.log(EPOCHS),
    ):
        curves = onset_curves(log_of(losses.astype(float)))["memory"].measured
        assert without_spikes(curves) is curves
        assert not curves.spikes.any()


def test_the_curve_keeps_how_far_a_spike_lay_off() -> None:
    losses = valley(0)
    losses[10] += 0.04
    curves = onset_curves(log_of(losses))["memory"].measured
    assert curves.spikes[11] == pytest.approx(0.04, abs=0.004)
    assert np.count_nonzero(curves.spikes) == 1
    around = curves.mean[[10, 12]]
    assert around.min() <= curves.mean[11] <= around.max()
    assert np.ptp(curves.replicates[:, 11]) < 0.03
    plain = onset_curves(log_of(valley(0)))["memory"].measured
    assert curves.jitter == pytest.approx(plain.jitter, rel=0.3), "the luck of the other checkpoints"
