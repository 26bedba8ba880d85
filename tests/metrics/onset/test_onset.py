"""The onset on planted trajectories: right status, small error, honest intervals, few false alarms, stable answers."""

import gc
import re
import subprocess
import sys
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from metrics.onset.curves import REPLICATES, SUMS, onset_curves
from metrics.onset.onset import confirmed_onset, find_onset
from metrics.onset.plateau import log_axis, smoother
from metrics.onset.sentences import epoch_text, interval_text
from metrics.onset.turns import Onset
from metrics.trajectory.readings import Reading, Readings
from metrics.trajectory.trajectory import Trajectory
from tests.metrics.planted_onsets import DEMO, PHOTOS, Planted, plant, with_contexts


def exam(kind: str, world, count: int, **settings) -> list[tuple[Planted, Onset]]:
    return [sat(kind, seed, world, **settings) for seed in range(count)]


@cache  # several tests look at the same runs
def sat(kind: str, seed: int, world, **settings) -> tuple[Planted, Onset]:
    one = plant(kind, seed, world, **settings)
    return one, find_onset(one.trajectory)


WORLDS = [pytest.param(DEMO, id="demo"), pytest.param(PHOTOS, id="photos", marks=pytest.mark.slow)]


def few_or(many: int, few: int) -> pytest.MarkDecorator:
    """So many runs in the tests marked slow, a few in the others."""
    return pytest.mark.parametrize("runs", [few, pytest.param(many, marks=pytest.mark.slow)])


@pytest.fixture(scope="module", params=WORLDS)
def valleys(request) -> list[tuple[Planted, Onset]]:
    return exam("valley", request.param, 60)


def pairs(valleys, kind: str) -> list[tuple[float, object]]:
    """(true epoch, turn) of the runs that truly turn, not just at the end of the horizon."""
    return [
        (getattr(p, kind), getattr(o, kind)) for p, o in valleys if getattr(p, kind) < 0.9 * p.trajectory.epochs[-1]
    ]


@pytest.mark.parametrize("kind", ["context", "memory"])
def test_onsets_are_found_near_the_truth(valleys, kind):
    found = pairs(valleys, kind)
    assert len(found) >= 25
    missed = [turn for _, turn in found if turn.epoch is None]
    assert len(missed) <= 0.15 * len(found)
    errors = np.array([np.log2(turn.epoch / true) for true, turn in found if turn.epoch is not None])
    assert np.median(np.abs(errors)) <= 0.2
    assert np.quantile(np.abs(errors), 0.9) <= 0.55
    assert abs(np.median(errors)) <= 0.13


@pytest.mark.parametrize("kind", ["context", "memory"])
def test_intervals_cover_the_truth_about_as_often_as_they_say(valleys, kind):
    found = [(true, turn) for true, turn in pairs(valleys, kind) if turn.status == "found"]
    covered = [turn.low <= true <= (turn.high or np.inf) for true, turn in found]
    assert np.mean(covered) >= 0.8
    widths = [np.log2((turn.high or 120) / turn.low) for _, turn in found]
    least = 2 * onset_curves(valleys[0][0].trajectory)[kind].own_error  # no planted run errs so, real subjects do
    assert least < np.median(widths) <= least + 0.6


def test_an_interval_that_reaches_beyond_the_last_checkpoint_is_open(valleys):
    kinds = set()
    for planted, onset in valleys:
        epochs = planted.trajectory.epochs
        for turn in (onset.context, onset.memory):
            if turn.status == "found" and turn.low > epochs[1] / 2:  # not cut off at the base's place
                kinds.add(turn.high is None)
                assert (turn.high is None) == (turn.epoch**2 / turn.low > epochs[-1])
    assert kinds == {True, False}


def test_a_turn_at_the_first_checkpoint_lies_in_its_interval():
    readings = [
        Readings(
            epoch, float(epoch), {"heldout_loss": Reading(loss, loss, loss), "fidelity": Reading(seen, seen, seen)}
        )
        for epoch, loss, seen in zip(range(0, 40, 4), np.linspace(0, 2.7, 10), [0.0] + [1.0] * 9, strict=True)
    ]
    turn = find_onset(Trajectory(tuple(readings))).memory
    assert (turn.status, turn.epoch) == ("at_start", 4)
    assert turn.low <= turn.epoch <= turn.high


def test_intervals_are_as_wide_as_subjects_differ_even_where_photos_agree():
    """Losses without any spread, as in a table of somebody's means."""
    epochs = np.array([0, 1, 2, 3, 4, 6, 8, 11, 16, 23, 32, 45, 64, 90, 128])
    course = -0.3 * epochs / (epochs + 4) + 0.1 * (epochs / 40) ** 2
    readings = [
        Readings(epoch, float(epoch), {"heldout_loss": Reading(level, level, level)})
        for epoch, level in zip(epochs.tolist(), course, strict=True)
    ]
    turn = find_onset(Trajectory(tuple(readings))).memory
    (alone,) = SUMS["memory"]
    assert np.log2(turn.epoch / turn.low) == pytest.approx(np.log2(turn.high / turn.epoch))
    few = alone.of_few[1]  # of how many photos the means are is not known
    assert few <= np.log2(turn.high / turn.epoch) <= few + 0.15


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize(
    ("kind", "status"),
    [("falling", "beyond"), ("plateau", "beyond"), ("relapse", "beyond"), ("unlearned", "never_learned")],
)
def test_runs_that_never_overfit_raise_no_alarm(world, kind, status):
    wrong = [onset.status for _, onset in exam(kind, world, 16) if onset.status != status]
    assert len(wrong) <= 1


def test_a_run_that_only_gets_worse_has_learned_nothing():
    assert {onset.status for _, onset in exam("rising", DEMO, 10)} == {"never_learned"}


@few_or(24, 8)
def test_a_late_memory_onset_is_not_invented(runs):
    found = exam("late", DEMO, runs)
    assert sum(onset.memory.status == "found" for _, onset in found) <= runs // 12


@pytest.mark.parametrize("checkpoints", [8, pytest.param(12, marks=pytest.mark.slow)])
def test_coarse_grids_still_place_the_onset(checkpoints):
    found = pairs(exam("valley", DEMO, 40, checkpoints=checkpoints), "context")
    errors = [abs(np.log2(turn.epoch / true)) for true, turn in found if turn.epoch is not None]
    assert len(errors) >= 0.85 * len(found)
    assert np.median(errors) <= 0.3


def test_few_checkpoints_are_compared_in_pairs():
    trajectory = plant("valley", 4, checkpoints=40).trajectory
    few = Trajectory(tuple(trajectory.readings[row] for row in (0, 4, 10, 20, 40)))
    onset, full = find_onset(few), find_onset(trajectory)
    assert onset.context.status == "found"
    assert onset.context.low <= full.context.epoch <= (onset.context.high or np.inf)
    assert np.log2(onset.context.epoch / onset.context.low) >= onset_curves(trajectory)["context"].own_error - 1e-9


@pytest.mark.parametrize("checkpoints", [4, 5])
def test_few_losses_of_unknown_noise_hardly_ever_turn_in_vain(checkpoints: int):
    def share(curve: np.ndarray) -> float:
        found = 0
        for seed in range(100):
            values = curve[:checkpoints] + 0.002 * np.random.default_rng(seed).normal(size=checkpoints)
            readings = [Readings(4 * k + 4, k, {"heldout_loss": Reading(v, v, v)}) for k, v in enumerate(values)]
            found += find_onset(Trajectory(tuple(readings))).memory.epoch is not None
        return found / 100

    assert (
        share(np.array([-0.0126, -0.0173, -0.0190, -0.0196, -0.0199])) <= 0.12
    )  # noise at the upper end of what is usual
    assert share(np.array([-0.0126, -0.0173, -0.0129, -0.0091, -0.0060])) >= 0.85


@few_or(20, 5)
def test_growing_trajectories_are_stopped_late_and_hardly_ever_in_vain(runs):
    stopped, early, false = 0, 0, 0
    for seed in range(runs):
        one = plant("valley", 100 + seed, DEMO, checkpoints=16)
        at = first_stop(one.trajectory)
        stopped += at is not None
        early += at is not None and at < min(one.context, one.memory)
        false += first_stop(plant("plateau", 100 + seed, PHOTOS, checkpoints=16).trajectory) is not None
    assert stopped >= 0.8 * runs
    assert early <= runs // 20
    assert false <= runs // 20


def test_a_run_that_turns_at_its_first_checkpoint_is_stopped_too():
    generator, readings = np.random.default_rng(0), []
    for epoch in range(0, 101, 10):
        trained = epoch > 0
        means = {"heldout_loss": 0.0005 * epoch - 0.05 * trained, "shifted_loss": 0.004 * epoch, "fidelity": trained}
        items = {name: mean + 0.001 * trained * generator.normal(size=6) for name, mean in means.items()}
        channels = {name: Reading(mean, mean - 0.001, mean + 0.001) for name, mean in means.items()}
        readings.append(Readings(epoch, float(epoch), channels, items))
    assert find_onset(Trajectory(tuple(readings))).status == "at_start"
    assert first_stop(Trajectory(tuple(readings))) is not None


def test_a_handful_of_noisy_checkpoints_stops_nothing():
    heavy = replace(DEMO, jitter=(0.04, 0.10))
    for seed in range(40):
        whole = plant("plateau", 1000 + seed, heavy, checkpoints=5).trajectory
        assert all(confirmed_onset(Trajectory(whole.readings[:count])) is None for count in (4, 5, 6))


def first_stop(trajectory: Trajectory) -> int | None:
    for count in range(5, len(trajectory) + 1):
        if confirmed_onset(Trajectory(trajectory.readings[:count])) is not None:
            return int(trajectory.epochs[count - 1])
    return None


def test_the_same_seed_gives_the_same_onset():
    trajectory = plant("valley", 7).trajectory
    assert find_onset(trajectory, seed=3) == find_onset(trajectory, seed=3)
    assert find_onset(trajectory, seed=3).low != find_onset(trajectory, seed=4).low


def test_replicates_are_read_together_and_not_one_by_one(monkeypatch):
    trajectory = plant("valley", 7).trajectory
    few = calls(trajectory)
    monkeypatch.setattr("metrics.onset.curves.REPLICATES", 2 * REPLICATES)
    assert abs(calls(trajectory) - few) < 100 < REPLICATES, "a pass over replicates costs as many calls"


def calls(trajectory: Trajectory) -> int:
    """How many functions are called to find the onset: what it costs, whatever else the machine does."""
    count = 0

    def called(frame, event, argument):
        nonlocal count
        count += event in ("call", "c_call")

    gc.collect()  # what others have left would call its finalizers meanwhile
    gc.disable()
    sys.setprofile(called)
    try:
        find_onset(trajectory)
    finally:
        sys.setprofile(None)
        gc.enable()
    return count


def test_importing_the_onset_loads_nothing_heavy():
    heavy = "torch", "pandas", "scipy", "matplotlib"
    code = f"import sys, metrics.onset, metrics.trajectory; print([m for m in {heavy!r} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def scored(trajectory: Trajectory, score) -> Trajectory:
    return Trajectory(tuple(replace(reading, score=score(reading.epoch)) for reading in trajectory.readings))


def test_the_epoch_to_ship_is_the_bottom_of_the_curve_learned_and_before_the_onset():
    late = [p for p in map(plant, ["valley"] * 20, range(20)) if p.context > 50][:5]
    assert len(late) == 5
    for planted in late:
        onset = find_onset(planted.trajectory)
        assert onset.learned <= onset.best < onset.epoch
        curve = onset_curves(planted.trajectory)["context"].curves
        smooth = smoother(log_axis(curve.epochs), 0.3, True) @ curve.mean
        allowed = (curve.epochs >= onset.learned) & (curve.epochs < onset.epoch)
        depth = -smooth[allowed].min()
        assert smooth[curve.epochs == onset.best][0] < smooth[allowed].min() + 0.1 * depth
        score = find_onset(scored(planted.trajectory, lambda epoch: epoch / 200))
        assert (score.best, score.context) == (onset.best, onset.context)


def without_losses(trajectory: Trajectory) -> Trajectory:
    readings = trajectory.readings
    return Trajectory(tuple(replace(r, channels={"fidelity": r.channels["fidelity"]}, items={}) for r in readings))


def test_without_losses_the_best_score_among_the_learned_ships():
    trajectory = without_losses(plant("valley", 3).trajectory)
    rising = find_onset(scored(trajectory, lambda epoch: epoch / 200))
    assert rising.best == trajectory.epochs[-1]
    falling = find_onset(scored(trajectory, lambda epoch: 1 - epoch / 200))
    assert falling.learned <= falling.best <= falling.learned + 3


def test_when_the_onset_comes_before_learning_the_last_checkpoint_before_it_ships():
    def late_fidelity(reading: Readings) -> Readings:
        value = min(1.0, reading.epoch / 100)
        return replace(reading, channels=dict(reading.channels) | {"fidelity": Reading(value, value, value)})

    planted = next(
        p for p, o in exam("valley", DEMO, 20) if o.context.epoch and not o.memory.epoch and o.context.epoch < 70
    )
    onset = find_onset(Trajectory(tuple(map(late_fidelity, planted.trajectory.readings))))
    assert onset.learned > onset.epoch
    assert onset.best < onset.epoch
    assert f"Ship epoch {onset.best}: it is the last checkpoint before the onset" in onset.sentence


def test_one_lucky_checkpoint_does_not_ship():
    trajectory = without_losses(plant("falling", 1).trajectory)
    lucky = find_onset(scored(trajectory, lambda epoch: 0.9 if epoch == 60 else 0.5 + epoch / 400))
    assert lucky.best != 60


def test_without_held_out_photos_fidelity_says_what_is_still_being_gained():
    """Moved subjects that get worse from epoch 6 on: an onset, unless the subject is still being learned."""

    def shown(reading: Readings, learned_at: float) -> Readings:
        forgotten = 0.002 * reading.epoch - 0.072 if reading.epoch > 6 else -0.01 * reading.epoch
        fidelity = min(1.0, reading.epoch / learned_at)
        channels = {
            "shifted_loss": Reading(forgotten, forgotten, forgotten),
            "fidelity": Reading(fidelity, fidelity, fidelity),
        }
        return Readings(reading.epoch, reading.effort, channels)

    readings = plant("valley", 1).trajectory.readings
    early, late = (find_onset(Trajectory(tuple(shown(r, at) for r in readings))) for at in (3, 60))
    assert early.context.channels == late.context.channels == ("shifted_loss", "fidelity")
    assert early.context.epoch
    assert late.context.epoch
    assert late.context.epoch > 60 > early.context.epoch > 6


@few_or(12, 4)
def test_photos_in_contexts_of_their_own_take_the_place_of_those_of_the_same_shoot(runs):
    epochs = []
    for seed in range(runs):
        plain = plant("valley", seed).trajectory
        found = [find_onset(with_contexts(plain, later=later)).context for later in (1.0, 2.0)]
        assert all(turn.channels == ("shifted_loss", "context_loss", "heldout_loss") for turn in found)
        if all(turn.epoch for turn in found):
            epochs.append([turn.epoch for turn in found])
    first, second = np.array(epochs).T
    assert len(first) >= runs / 2
    assert np.mean(second > first) >= 0.9


def test_a_style_has_a_context_onset_from_held_out_contexts_alone():
    turn = find_onset(with_contexts(plant("valley", 1).trajectory, moved=False)).context
    assert (turn.status, turn.channels) == ("found", ("context_loss",))


@few_or(16, 4)
def test_contexts_alone_do_not_turn_where_nothing_does(runs):
    for kind in ("falling", "plateau"):
        flat = [with_contexts(plant(kind, seed).trajectory) for seed in range(runs)]
        assert sum(find_onset(run).context.epoch is not None for run in flat) <= runs // 16
        stopped = [confirmed_onset(run) for run in flat]
        assert sum(onset is not None for onset in stopped) <= runs // 16


def test_contexts_read_at_a_few_checkpoints_do_not_take_the_others_place():
    plain = plant("valley", 1).trajectory
    seldom = tuple(
        reading if row % 10 == 0 else before
        for row, (reading, before) in enumerate(zip(with_contexts(plain).readings, plain.readings, strict=True))
    )
    assert find_onset(Trajectory(seldom)).context == find_onset(plain).context


def test_the_sentence_says_both_onsets_and_what_to_ship():
    onset = next(o for _, o in exam("valley", DEMO, 12) if o.memory.high and o.context.high)
    assert onset.sentence.startswith(f"Ship epoch {onset.best}")
    for name, turn in (("Context", onset.context), ("Memory", onset.memory)):
        between = interval_text(turn.low, turn.high)
        assert re.search(rf"{name} onset: epoch {epoch_text(turn.epoch)} \([^)]*{between}\)", onset.sentence)


@pytest.mark.parametrize("checkpoints", [8, 30])
@pytest.mark.parametrize("noise", [0.002, 0.01])
@few_or(20, 7)
def test_noise_alone_is_no_overfitting(runs, checkpoints, noise):
    """Tables of one loss per checkpoint: flat ones without the base's row, and a plateau that is only noisy."""
    epochs, flat, plateau = np.arange(checkpoints + 1), 0, 0
    for seed in range(runs):
        luck = noise * np.random.default_rng([seed, checkpoints]).normal(size=checkpoints)
        flat += find_onset(_one_loss(epochs[1:], luck - luck[0])).memory.epoch is not None
        learned = np.concatenate([[0], luck - 0.015 * epochs[1:] / (epochs[1:] + 0.7)])
        plateau += find_onset(_one_loss(epochs, learned)).memory.epoch is not None
    assert flat <= 3 * runs // 20
    assert plateau <= 3 * runs // 20


def test_a_rise_under_the_usual_noise_is_still_found():
    epochs = np.arange(31)
    rise = -0.015 * epochs / (epochs + 0.7) + 0.001 * np.maximum(epochs - 12, 0)
    for seed in range(20):
        luck = 0.002 * np.random.default_rng(seed).normal(size=31) * (epochs > 0)
        assert find_onset(_one_loss(epochs, rise + luck)).memory.status == "found"


def _one_loss(epochs: np.ndarray, losses: np.ndarray) -> Trajectory:
    return Trajectory(
        tuple(
            Readings(int(epoch), float(epoch), {"heldout_loss": Reading(loss, loss, loss)})
            for epoch, loss in zip(epochs, losses.tolist(), strict=True)
        )
    )


def test_of_a_few_checkpoints_none_is_blurred_with_its_neighbours():
    losses = {0: 0.0, 4: -0.33, 8: -0.36, 12: 0.2, 16: 0.3}  # a mean with the neighbours is lowest at epoch 4
    readings = [
        Readings(epoch, 1e-3 * epoch, {"heldout_loss": Reading(loss, loss, loss)}, {"heldout_loss": np.full(6, loss)})
        for epoch, loss in losses.items()
    ]
    assert find_onset(Trajectory(tuple(readings))).best == 8
