"""What losses alone say: few checkpoints, losses that only get worse, and rises that are small beside a huge dip."""

import numpy as np
import pytest

from metrics.onset.onset import confirmed_onset, find_onset
from metrics.trajectory.readings import Reading, Readings
from metrics.trajectory.trajectory import Trajectory


def log_of(epochs, losses, **others: float) -> Trajectory:
    """A table of one held-out loss, ln ratios; other channels stay as they are after the base."""
    readings = []
    for at, loss in zip(epochs, losses, strict=True):
        channels = {"heldout_loss": Reading(loss, loss, loss)}
        channels |= {name: Reading(level * (at > 0), -0.1, 0.1) for name, level in others.items()}
        readings.append(Readings(int(at), float(at), channels))
    return Trajectory(tuple(readings))


@pytest.mark.parametrize("count", [4, 5])
@pytest.mark.parametrize("base", [True, False])
def test_few_checkpoints_ship_the_lowest_or_one_as_good(count: int, base: bool) -> None:
    given, lowest = [], []
    for seed in range(40):
        generator = np.random.default_rng([seed, count])
        dip, half, rises = generator.uniform(0.02, 0.6), generator.uniform(0.5, 6), generator.uniform(12, 40)
        epochs = np.linspace(40 / count, 40, count)
        true = -dip * epochs / (half + epochs) + dip * generator.uniform(0.1, 1) * (epochs / rises) ** 2
        seen = true + 0.02 * dip * generator.normal(size=count)
        rows = (np.append(0, epochs), np.append(0.0, seen)) if base else (epochs, seen - seen[0])
        best = find_onset(log_of(*rows)).best
        row = int(np.flatnonzero(epochs.astype(int) == best)[0])
        span = true.max() - true.min()
        assert row != true.argmax() or span < 0.1 * dip, f"seed {seed} ships the highest of {seen}"
        given.append((true[row] - true.min()) / dip)
        lowest.append((true[seen.argmin()] - true.min()) / dip)
    assert np.mean(given) <= np.mean(lowest) + 0.02


@pytest.mark.parametrize("count", [4, 8, 20])
def test_a_loss_that_only_gets_worse_is_told_as_such(count: int) -> None:
    epochs = np.append(0, np.linspace(40 / count, 40, count))
    for seed in range(5):
        luck = 0.0005 * np.random.default_rng(seed).normal(size=count + 1) * (epochs > 0)
        onset = find_onset(log_of(epochs, 0.03 * (epochs / 40) ** 1.2 + luck))
        assert onset.status in ("at_start", "found")
        assert onset.memory.epoch is not None
        assert onset.best == epochs[1].astype(int)
        assert "not learned" not in onset.sentence
        assert "no checkpoint is better than the base" in onset.sentence
        if onset.memory.status == "at_start":
            assert "only gets worse" in onset.sentence


def test_a_loss_that_is_worse_throughout_need_not_rise_further() -> None:
    epochs = np.arange(0, 42, 2)
    onset = find_onset(log_of(epochs, 0.05 * (epochs > 0) * np.exp(-epochs / 200)))
    assert (onset.status, onset.memory.epoch) == ("at_start", 2)


def test_images_that_show_nothing_decide_what_is_learned_and_the_loss_is_told_beside_them() -> None:
    epochs = np.arange(0, 42, 2)
    onset = find_onset(log_of(epochs, 0.002 * epochs, fidelity=0.0))
    assert onset.status == "never_learned"
    assert "the subject was not learned" in onset.sentence
    assert "held-out photos only gets worse" in onset.sentence
    flat = find_onset(log_of(epochs, 0.0 * epochs, fidelity=0.0))
    assert "nothing to overfit" in flat.sentence


def test_flat_losses_say_neither() -> None:
    epochs = np.arange(0, 42, 2)
    found = 0
    for seed in range(20):
        luck = 0.002 * np.random.default_rng(seed).normal(size=len(epochs)) * (epochs > 0)
        found += find_onset(log_of(epochs, luck)).status != "never_learned"
    assert found <= 2


@pytest.mark.parametrize(("rise", "found"), [(0.09, True), (0.06, True), (0.02, False)])
def test_a_steady_rise_counts_however_deep_the_dip_was(rise: float, found: bool) -> None:
    epochs = np.arange(0, 84, 4)
    fallen = np.maximum(-0.8 * epochs / (2 + epochs), -0.74)
    luck = 0.001 * np.random.default_rng(0).normal(size=len(epochs)) * (epochs > 0)
    trajectory = log_of(epochs, fallen + luck + rise * np.clip((epochs - 30) / 50, 0, None))
    onset = find_onset(trajectory)
    assert (onset.memory.epoch is not None) == found
    if found:
        assert 30 < onset.memory.epoch < 80
    assert confirmed_onset(trajectory) is None, "15 % of the dip stops a trial, and nothing less"


@pytest.mark.parametrize("count", [4, 8, 30])
def test_a_table_without_a_trend_names_no_checkpoint_to_ship(count: int) -> None:
    epochs, said = np.arange(1, count + 1), 0
    for seed in range(40):
        luck = 0.002 * np.random.default_rng([seed, count]).normal(size=count)
        onset = find_onset(log_of(epochs, luck - luck[0]))
        if onset.shipped is not None:
            continue
        said += 1
        assert (onset.learned, onset.learned_by, onset.safe, onset.alike) == (None, "", None, None)
        assert "neither falls nor rises" in onset.sentence
        assert "Ship" not in onset.sentence
    assert said >= 36, "noise seldom looks like a trend"


def test_a_table_that_surely_falls_or_rises_does() -> None:
    epochs = np.arange(1, 31)
    luck = 0.0002 * np.random.default_rng(0).normal(size=30)
    falls = find_onset(log_of(epochs, -0.001 * (epochs - 1) + luck))
    rises = find_onset(log_of(epochs, 0.001 * (epochs - 1) + luck))
    assert (falls.shipped, falls.learned_by) == (30, "losses")
    assert (rises.shipped, rises.memory.status) == (1, "found")
    assert all("Ship epoch" in onset.sentence for onset in (falls, rises))
