"""The curves that onsets are read from: their replicates, jitter, noise levels, restarts, and where a plateau ends."""

from dataclasses import replace

import numpy as np
import pytest

from metrics.onset.curves import _with_fidelity, onset_curves
from metrics.onset.onset import find_onset
from metrics.onset.plateau import plateau_end
from metrics.onset.replicates import checkpoint_jitter, loss_curves
from metrics.onset.restarts import restarts, without_phase
from metrics.onset.turns import Onset
from metrics.trajectory.readings import Reading, Readings
from metrics.trajectory.trajectory import Trajectory
from tests.metrics.planted_onsets import plant


def with_restarts(trajectory: Trajectory, swing: float) -> Trajectory:
    """The same run under a cosine with restarts every 24 epochs: the loss swings with the rate."""
    readings, effort = [], 0.0
    for reading in trajectory.readings:
        rate = 0.5 * (1 + np.cos(np.pi * (((reading.epoch - 1.5) % 24) / 24)))
        effort += 3 * rate
        shift = swing * rate if reading.epoch else 0.0
        items = {name: values + shift * name.endswith("_loss") for name, values in reading.items.items()}
        channels = {
            name: Reading(*(np.array([r.value, r.low, r.high]) + shift * name.endswith("_loss")))
            for name, r in reading.channels.items()
        }
        readings.append(replace(reading, effort=effort if reading.epoch else 0.0, items=items, channels=channels))
    return Trajectory(tuple(readings))


@pytest.mark.parametrize(
    "share", [0.2, pytest.param(1.0, marks=pytest.mark.slow)]
)  # of the dip; demo runs: median 0.06, at most 0.8
def test_restarts_do_not_move_the_onset(share):
    shifts, untreated = [], []
    for seed in range(8):
        trajectory = plant("valley", seed).trajectory
        dip = -trajectory.values("heldout_loss")[:, 0].min()
        swung = with_restarts(trajectory, share * dip)
        even = Trajectory(tuple(replace(reading, effort=float(reading.epoch)) for reading in swung.readings))
        plain, other = find_onset(trajectory).context, find_onset(swung).context
        assert other.status == plain.status == "found"
        shifts.append(abs(np.log2(other.epoch / plain.epoch)))
        untreated.append(abs(np.log2(find_onset(even).context.epoch / plain.epoch)))  # nothing says that it restarts
    assert max(shifts) <= 0.15
    assert np.median(shifts) <= 0.03
    assert np.median(untreated) > 5 * np.median(shifts)


@pytest.mark.parametrize("cycles", [3, 6])
def test_restarts_do_not_move_the_onset_of_a_table_without_the_base(cycles):
    """There the first checkpoint, to which all are compared, swings itself."""
    epochs = np.arange(4, 161, 4)
    learned = -0.03 * (1 - np.exp(-epochs / 12)) / (1 - np.exp(-40 / 12))
    valley = np.where(epochs < 40, learned, -0.03 + 0.012 * np.log2(epochs / 40))
    each = 0.5 * (1 + np.cos(np.pi * (np.arange(160) * cycles / 160 % 1)))
    rates = each.reshape(-1, 4).mean(axis=1)
    effort, found = np.cumsum(4 * rates), {}
    for swing in (0.0, 0.03):
        losses = valley + swing * rates
        readings = [
            Readings(epoch, used, {"heldout_loss": Reading(loss, loss, loss)})
            for epoch, used, loss in zip(epochs.tolist(), effort.tolist(), losses - losses[0], strict=True)
        ]
        found[swing] = find_onset(Trajectory(tuple(readings))).memory.epoch
    assert abs(np.log2(found[0.03] / found[0.0])) < 0.1


def test_only_a_rate_that_falls_and_rises_again_is_a_restart():
    cosine = 0.5 * (1 + np.cos(np.linspace(0, np.pi, 20)))
    assert not restarts(cosine)
    assert not restarts(np.minimum(np.linspace(0.1, 3, 20), 1) * cosine)
    assert not restarts(np.ones(20))
    assert restarts(np.concatenate([cosine, cosine]))
    trajectory = plant("valley", 1).trajectory
    curves = loss_curves(trajectory, {"shifted_loss": 1.0}, num_replicates=5, seed=0)
    assert without_phase(curves, trajectory.effort) is curves


def test_replicates_spread_as_the_mean_of_photos_does():
    """Against theory: the standard deviation over replicates is s/√n (Student's tails add a little with few photos)."""
    generator = np.random.default_rng(0)
    photos = generator.normal(size=200)
    levels = np.concatenate([[0.0], -0.3 * np.log(3 * np.arange(1, 12)) / np.log(33)])  # straight, so without jitter
    readings = tuple(
        Readings(
            3 * row,
            3.0 * row,
            {"heldout_loss": Reading(level, level, level)},
            {"heldout_loss": level * (1 + 0.2 * photos)},
        )
        for row, level in enumerate(levels)
    )
    curves = loss_curves(Trajectory(readings), {"heldout_loss": 1.0}, num_replicates=4000, seed=0)
    theory = 0.3 * 0.2 * photos.std(ddof=1) / np.sqrt(200)
    assert curves.replicates[:, -1].std() == pytest.approx(theory, rel=0.08)
    assert (curves.replicates[:, 0] == 0).all()


@pytest.mark.parametrize(("count", "freedom"), [(4, 3), (3, 3), (12, 11)])
def test_few_photos_have_students_tails(count, freedom):
    """Against theory: quantiles of Student's law with n - 1 degrees of freedom (three at least) times s/√n."""
    from scipy.stats import t as student

    photos = np.random.default_rng(1).normal(size=count)
    levels = np.concatenate([[0.0], -0.3 * np.log(3 * np.arange(1, 12)) / np.log(33)])  # straight, so without jitter
    readings = tuple(
        Readings(3 * row, 3.0 * row, {"heldout_loss": Reading(level, level, level)}, {"heldout_loss": level * photos})
        for row, level in enumerate(levels)
    )
    curves = loss_curves(Trajectory(readings), {"heldout_loss": 1.0}, num_replicates=20_000, seed=0)
    off = np.abs(curves.replicates[:, -1] - curves.mean[-1]) / (0.3 * photos.std(ddof=1) / np.sqrt(count))
    for level in (0.5, 0.9, 0.99):
        assert np.quantile(off, level) == pytest.approx(student.ppf((1 + level) / 2, freedom), rel=0.08)


def test_one_kind_that_is_known_too_seldom_leaves_the_other() -> None:
    readings = []
    for epoch in range(0, 20, 2):
        names = ("heldout_loss", "context_loss") if epoch < 4 else ("heldout_loss",)
        readings.append(Readings(epoch, float(epoch), {name: Reading(-epoch / 50, 0.0, 0.0) for name in names}))
    assert onset_curves(Trajectory(tuple(readings))).keys() == {"memory"}
    readings[2] = replace(readings[2], channels=readings[2].channels | {"context_loss": Reading(-0.1, 0.0, 0.0)})
    assert onset_curves(Trajectory(tuple(readings))).keys() == {"context", "memory"}


def test_memory_is_read_from_the_middle_of_the_noise_levels():
    epochs = np.array([0, 1, 2, 4, 6, 8, 11, 16, 23, 32, 45, 64])
    valley = -0.2 * np.log1p(epochs / 4) + 0.3 * (epochs / 64) ** 2
    other = np.where(epochs < 8, 0.0, 0.4 * np.log2(np.maximum(epochs, 1) / 8))  # grain and luck rise from epoch 8 on
    curves = np.stack([other, *[valley] * 4, other, other, other])  # [levels, T]
    photos = 0.01 * np.random.default_rng(0).normal(size=(6, 1, len(epochs))) * (epochs > 0)

    def onset(levels: np.ndarray) -> Onset:
        cubes = (levels + photos).transpose(2, 0, 1)  # [T, photos, levels]
        readings = []
        for epoch, cube in zip(epochs.tolist(), cubes, strict=True):
            mean = float(cube.mean())
            readings.append(
                Readings(epoch, float(epoch), {"heldout_loss": Reading(mean, mean, mean)}, {"heldout_loss": cube})
            )
        return find_onset(Trajectory(tuple(readings)))

    found = onset(curves).memory.epoch
    assert found is not None
    assert found == pytest.approx(onset(np.stack([valley] * 8)).memory.epoch, rel=0.1)
    assert onset(np.repeat(curves, 2, axis=0)).memory.epoch == pytest.approx(found, rel=0.1)  # shares, not numbers


def test_composites_of_one_photo_are_one_piece_of_evidence():
    trajectory = plant("valley", 5).trajectory
    copied = []
    for reading in trajectory.readings:
        photos = reading.items["shifted_loss"]
        items = {"shifted_loss": np.repeat(photos, 8), "shifted_loss_photo": np.repeat(np.arange(len(photos)), 8)}
        copied.append(replace(reading, items=items))
    once = loss_curves(trajectory, {"shifted_loss": 1.0}, num_replicates=50, seed=0)
    often = loss_curves(Trajectory(tuple(copied)), {"shifted_loss": 1.0}, num_replicates=50, seed=0)
    np.testing.assert_allclose(once.replicates, often.replicates, atol=1e-12)


def test_jitter_is_measured_through_a_curve():
    generator = np.random.default_rng(1)
    epochs = np.arange(0, 121, 1)
    curve = -0.3 * epochs / (epochs + 8) + 0.1 * (epochs / 90) ** 2
    found = checkpoint_jitter(curve + 0.004 * generator.normal(size=len(epochs)), epochs)
    assert found == pytest.approx(0.004, rel=0.25)


def test_the_plateau_ends_where_an_exact_curve_crosses_its_threshold():
    epochs = np.unique(np.round(np.geomspace(1, 200, 120)).astype(int))
    octaves = np.log2(epochs / 20)
    curve = -0.4 + 0.05 * octaves**2
    rise = 0.15 * (curve[0] - curve.min())
    end = plateau_end(curve[None], epochs)
    assert end.log_epoch[0] == pytest.approx(np.log2(20) + np.sqrt(rise / 0.05), abs=0.04)
    assert end.depth[0] == pytest.approx(curve[0] - curve.min(), rel=0.02)


@pytest.mark.parametrize("checkpoints", [10, 40, 80])
def test_a_moved_loss_that_never_falls_places_no_onset_with_fidelity(checkpoints: int):
    joined = 0
    for seed in range(10):
        generator = np.random.default_rng(seed)
        readings = []
        for epoch in range(checkpoints + 1):
            value = 0.1 * epoch / checkpoints + 0.002 * generator.normal() * (epoch > 0)
            fidelity = min(epoch / 10, 1.0)
            channels = {"shifted_loss": Reading(value, value, value), "fidelity": Reading(fidelity, fidelity, fidelity)}
            readings.append(Readings(epoch, float(epoch), channels))
        joined += onset_curves(Trajectory(tuple(readings)))["context"].channels != ("shifted_loss",)
    assert joined <= 1


@pytest.mark.parametrize("photos", [1, 3, 6])
def test_memory_is_read_at_the_same_noise_levels_however_few_photos_and_few_are_trusted_less(photos: int):
    generator, readings = np.random.default_rng(0), []
    for epoch in range(0, 61, 3):
        dip = 0.3 * (np.log2(max(epoch, 1) / 16) ** 2 / 16 - 1) * (epoch > 0)
        cube = np.zeros((photos, 8, 2)) + 0.002 * generator.normal(size=(photos, 8, 2)) * (epoch > 0)
        cube[:, 1:5] += dip
        readings.append(
            Readings(epoch, float(epoch), {"heldout_loss": Reading(0.5 * dip, 0, 0)}, {"heldout_loss": cube})
        )
    trajectory = Trajectory(tuple(readings))
    read, turn = onset_curves(trajectory)["memory"], find_onset(trajectory).memory
    assert read.curves.mean.min() < -0.29
    assert turn.status == "found"
    half = np.log2(turn.epoch / turn.low)
    assert half >= read.own_error == {1: 2.27, 3: 0.97, 6: 0.42}[photos]


def test_fidelity_stands_in_for_held_out_photos_at_five_dips_of_the_moved_loss():
    """Known at the base and at epochs 4 and 16, half and whole: a quarter at 2 and three quarters at 8, in octaves."""
    epochs, moved, known = (0, 2, 4, 8, 16), (0.0, -0.2, -0.4, -0.3, -0.1), {0: -0.1, 4: 0.5, 16: 1.4}
    readings = []
    for epoch, loss in zip(epochs, moved, strict=True):
        channels = {"shifted_loss": Reading(loss, loss, loss)}
        channels |= {"fidelity": Reading(known[epoch], 0, 1)} if epoch in known else {}
        readings.append(Readings(epoch, float(epoch), channels))
    trajectory = Trajectory(tuple(readings))
    curves = loss_curves(trajectory, {"shifted_loss": 1.0}, num_replicates=400, seed=0)
    assert curves is not None
    found = _with_fidelity(trajectory, curves, 0)
    assert found is not None
    learned = np.array([0, 0.25, 0.5, 0.75, 1.0])
    np.testing.assert_allclose(found.mean, np.array(moved) - 5 * 0.4 * learned)
    gained = (curves.replicates - found.replicates)[:, 1:] / learned[1:]
    assert np.ptp(gained, axis=1).max() < 1e-9
    weights = np.log(gained[:, 0] / (5 * -curves.replicates.min(axis=1)))
    assert weights.std() == pytest.approx(0.3, rel=0.15)
    assert abs(weights.mean()) < 0.05
    np.testing.assert_array_equal(found.replicates[:, 0], curves.replicates[:, 0])
    for left in ((0,), ()):
        few = tuple(
            r if r.epoch in left else replace(r, channels={"shifted_loss": r.channels["shifted_loss"]})
            for r in readings
        )
        assert _with_fidelity(Trajectory(few), curves, 0) is None, "known once at most"
    rises = curves._replace(mean=-curves.mean, replicates=-curves.replicates)
    assert _with_fidelity(trajectory, rises, 0) is None
