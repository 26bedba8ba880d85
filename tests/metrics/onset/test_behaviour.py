"""What behaviour says about the onset: copying, composition and obedience after the subject is learned."""

from dataclasses import replace

import numpy as np
import pytest

from metrics.onset.behaviour import behaviour_turn
from metrics.onset.onset import find_onset
from metrics.onset.sentences import sentence
from metrics.onset.turns import Onset, Turn
from metrics.trajectory.readings import DIVERSITY_FLOOR, Reading, Readings
from metrics.trajectory.trajectory import Trajectory


def behaving(levels: dict[str, list[float]], half: float = 0.05) -> Trajectory:
    """Channels as they are given; losses are those of six photos that agree."""
    readings = []
    for row in range(len(next(iter(levels.values())))):
        channels = {name: Reading(v[row], v[row] - half, v[row] + half) for name, v in levels.items()}
        losses = {name: np.full(6, each.value) for name, each in channels.items() if name.endswith("_loss")}
        readings.append(Readings(5 * row, 5.0 * row, channels, losses))
    return Trajectory(tuple(readings))


def test_without_losses_copying_alone_speaks_for_memory_and_the_second_channel_for_contexts():
    learned = [0, 0.9, 1, 1, 1, 1, 1, 1, 1, 1]
    copying = [0.1, 0.3, 0.3, 0.3, 0.3, 0.7, 0.8, 0.9, 0.9, 0.9]
    drifting = [0, 0, 0, 0, 0, 0, 0, 2, 2, 2]
    steady = [0] * 10
    both = find_onset(behaving({"fidelity": learned, "copying": copying, "composition": drifting}))
    assert both.turned == {"copying": 25, "composition": 35}
    assert (both.memory.status, both.memory.epoch, both.memory.channels) == ("found", 25, ("copying",))
    assert (both.context.epoch, both.context.channels) == (35, ("copying", "composition"))
    assert both.memory.low < 25 < both.context.low < 35, "its interval is that of the channel that turned last"
    assert "Memory onset: epoch 25 (" in both.sentence
    assert "copy the photos" in both.sentence
    one = find_onset(behaving({"fidelity": learned, "copying": copying, "composition": steady}))
    assert (one.memory.epoch, one.context.status) == (25, "beyond")
    assert [(onset.epoch, onset.low) for onset in (both, one)] == [(25, each.memory.low) for each in (both, one)]
    alone = find_onset(behaving({"fidelity": learned, "copying": copying}))
    assert (alone.memory.epoch, alone.context.status) == (25, "unmeasured"), "one channel says nothing of contexts"


def test_without_copies_and_held_out_photos_it_says_how_little_is_known_of_memory():
    none = find_onset(behaving({"fidelity": [0, 0.9] + [1] * 8, "copying": [0.2] * 10, "composition": [0] * 10}))
    assert (none.memory.status, none.memory.channels) == ("beyond", ("copying",))
    assert "no copies of the photos up to epoch 45" in none.sentence
    assert "no photos are held out" in none.sentence


def test_held_out_photos_that_were_hardly_read_leave_memory_open():
    """A trial that was pruned at its first checkpoint: held-out photos are there, a curve is not."""
    few = behaving({"fidelity": [0, 0.9], "copying": [0.1, 0.2], "heldout_loss": [0, -0.1]})
    onset = find_onset(few)
    assert onset.memory.status == "unmeasured"
    assert "held out" not in onset.sentence


def test_copying_and_composition_that_turn_before_the_loss_are_the_memory_onset():
    learned = [0, 0.9, 1, 1, 1, 1, 1, 1, 1, 1]
    copying = [0.1, 0.3, 0.3, 0.3, 0.7, 0.8, 0.9, 0.9, 0.9, 0.9]
    drifting = [0, 0, 0, 0, 0, 2, 2, 2, 2, 2]
    late = [0, -0.1, -0.15, -0.2, -0.2, -0.2, -0.2, -0.2, -0.19, -0.1]
    early = [0, -0.2, -0.2, -0.15, -0.1, -0.05, 0, 0.1, 0.2, 0.3]
    found = {}
    for name, loss in (("late", late), ("early", early)):
        channels = {"fidelity": learned, "copying": copying, "composition": drifting, "heldout_loss": loss}
        found[name] = find_onset(behaving(channels)).memory
    assert found["late"].channels == ("copying", "composition")
    assert found["late"].epoch == 25
    assert found["early"].channels == ("heldout_loss",)
    assert found["early"].epoch < 20
    alone = find_onset(behaving({"fidelity": learned, "copying": copying, "heldout_loss": late})).memory
    assert alone.channels == ("heldout_loss",)


@pytest.mark.parametrize("step", [3, 6, 12])
def test_the_interval_of_a_behaviour_holds_the_epoch_at_which_it_truly_crosses(step):
    covered, widths = [], []
    for seed in range(30):
        generator = np.random.default_rng(seed)
        readings = []
        for epoch in range(0, 121, step):
            means = {
                "copying": (0.3 + 0.5 * max(0, epoch - 50) / 60, 0.1),  # crosses the photos' own 0.5 at epoch 74
                "composition": (0.5 + 4 * max(0, epoch - 50) / 60, 0.8),  # and 1.0 at epoch 57.5
                "fidelity": (epoch / (epoch + 3), 0.1),
            }
            items = {name: mean + spread * generator.normal(size=24) for name, (mean, spread) in means.items()}
            half = {name: 1.645 * values.std(ddof=1) / 24**0.5 for name, values in items.items()}
            channels = {
                name: Reading(values.mean(), values.mean() - half[name], values.mean() + half[name])
                for name, values in items.items()
            }
            readings.append(Readings(epoch, float(epoch), channels, items))
        turn = find_onset(Trajectory(tuple(readings))).memory
        assert turn.epoch is not None
        covered.append(turn.low <= 74 <= (turn.high or np.inf))
        widths.append((turn.high or 121) - turn.low)
    assert np.mean(covered) >= 0.85
    assert np.median(widths) <= max(2 * step, 24)


@pytest.mark.parametrize(("change", "turns"), [(0.10, False), (0.13, True)])
def test_a_change_counts_only_beyond_the_width_of_what_it_is_held_against(change: float, turns: bool):
    """Image by image the change is exact; the reading at the learned checkpoint is known to ±0.12."""
    spread = np.random.default_rng(0).normal(0, 0.3, 24)
    readings = []
    for row, level in enumerate([0.6] * 5 + [0.6 + change] * 5):
        reading = Reading(level, level - 0.12, level + 0.12)
        readings.append(Readings(5 * row, 5.0 * row, {"copying": reading}, {"copying": level + spread}))
    found = behaviour_turn(Trajectory(tuple(readings)), "copying", learned=1)
    assert (found is not None) == turns
    assert found is None or (found.epoch, found.low) == (25, 20)


def by_definition(trajectory: Trajectory, channel: str, learned: int) -> tuple[float, float, float] | None:
    """`behaviour_turn` as its text says it, checkpoint by checkpoint: how much worse than the mean of the first two
    readings from `learned` on, and how surely."""
    read = [(each.epoch, each.channels[channel], each.items.get(channel)) for each in trajectory.readings]
    read = [each for each in read[learned:] if np.isfinite(each[1].value)]
    worse = 1 if channel == "copying" else -1  # diversity falls
    (_, one, its), (_, two, their) = read[:2]
    null = ((one.high - one.low) / 2 + (two.high - two.low) / 2) / 2
    own = 0.5 if worse > 0 else -np.inf
    steps = []
    for epoch, reading, items in read[2:]:
        change = worse * (reading.value - (one.value + two.value) / 2)
        half = float(np.hypot((reading.high - reading.low) / 2, null))
        if items is not None:
            paired = worse * (items - (its + their) / 2)
            change, half = paired.mean(), 1.645 * paired.std(ddof=1) / len(paired) ** 0.5
        best, worst = sorted((worse * reading.low, worse * reading.high))
        sure = change - half > null and worse * reading.value > own
        surely = change - half > null and best > own
        over = change > null and worse * reading.value > own
        steps.append((float(epoch), sure, surely, over, change + half <= null or worst <= own))
    lasting = next((row for row in range(len(steps) - 1) if steps[row][1] and steps[row + 1][1]), None)
    if lasting is None:
        return None
    start = max([row + 1 for row in range(lasting) if steps[row][4]], default=0)
    first = next(row for row in range(start, len(steps)) if steps[row][3])
    high = next((step[0] for step in steps[first:] if step[2]), np.inf)
    return steps[first][0], steps[start - 1][0] if start else float(read[1][0]), high


@pytest.mark.parametrize("channel", ["copying", "diversity"])
@pytest.mark.parametrize("images", [0, 3, 12], ids=lambda n: f"{n} images")  # fewer than four are not paired
def test_a_turn_is_what_its_definition_says_in_random_trajectories(channel: str, images: int):
    turned = []
    for seed in range(60):
        luck = np.random.default_rng(seed)
        rise = luck.choice([0.02, 0.05, 0.1]) * np.maximum(0, np.arange(12) - luck.integers(2, 8))
        readings = []
        for row, level in enumerate((0.4 + rise) if channel == "copying" else (0.9 - rise)):
            items = level + luck.normal(0, 0.12, max(images, 6))
            half, missing = luck.uniform(0.02, 0.1), luck.random() < 0.1
            value = np.nan if missing else float(items.mean())
            kept = {channel: np.where(missing, np.nan, items[:images])} if images > 3 else {}
            kept = kept if images != 3 else {channel: np.where(missing, np.nan, value + np.array([-0.001, 0, 0.001]))}
            readings.append(Readings(3 * row, 3.0 * row, {channel: Reading(value, value - half, value + half)}, kept))
        found = behaviour_turn(Trajectory(tuple(readings)), channel, learned=1)
        paired = (
            Trajectory(tuple(replace(r, items={}) for r in readings)) if images < 4 else Trajectory(tuple(readings))
        )
        assert found == by_definition(paired, channel, 1), seed
        turned.append(found)
    assert 10 < sum(found is not None for found in turned) < 58
    assert any(found is not None and not found.low < found.epoch < found.high < np.inf for found in turned)


def test_learning_is_not_overfitting():
    """A change that is over when the subject is learned does not count; nor does one within the photos' own level."""
    fidelity = [0, 0.3, 0.6, 1, 1, 1, 1, 1, 1, 1]
    prompt = [0, -0.2, -0.4, -0.5, -0.5, -0.5, -0.5, -0.5, -0.5, -0.5]
    copying = [0, 0, 0, 0.1, 0.1, 0.2, 0.3, 0.4, 0.45, 0.45]
    onset = find_onset(behaving({"fidelity": fidelity, "prompt": prompt, "copying": copying}))
    assert onset.learned == 15
    assert onset.turned == {}
    assert onset.status == "beyond"


def test_nothing_measured_is_said():
    onset = find_onset(behaving({"fidelity": [0, 0.9, 1, 1, 1, 1, 1, 1]}))
    assert onset.status == "unmeasured"
    assert "Nothing here says when overfitting begins" in onset.sentence


@pytest.mark.parametrize("likeness", [None, 0.05, 0.5])
def test_what_was_learned_too_late_is_told_apart_from_what_was_not_learned(likeness: float | None):
    onset = Onset("never_learned", Turn("beyond"), Turn("beyond"), learned=None, best=0, likeness=likeness)
    told = sentence(onset, "", "epoch", 45, "It only gets worse.")
    assert "45" in told
    assert ("only after overfitting had begun" in told) == (likeness == 0.5)
    assert ("It only gets worse." in told) == (likeness != 0.5)
    assert "Ship" not in told


def test_fidelity_that_stays_at_the_base_is_not_learned():
    onset = find_onset(behaving({"fidelity": [0, 0.02, 0.05, 0.01, 0.03, 0.04, 0.05, 0.05]}))
    assert onset.status == "never_learned"
    assert "not learned" in onset.sentence


@pytest.mark.parametrize(("end", "turned"), [(0.5, False), (0.22, False), (0.1, True)])
def test_diversity_that_stays_above_a_quarter_of_the_photos_has_not_turned(end, turned):
    falling = np.concatenate([[1, 0.9, 0.9, 0.9], np.linspace(0.9, end, 4), [end, end]]).tolist()
    images = behaving({"fidelity": [0, 0.9] + [1] * 8, "diversity": falling, "prompt": [0] * 10}, half=0.02)
    floor = tuple(
        replace(reading, items=dict(reading.items) | {DIVERSITY_FLOOR: np.array([0.2])}) for reading in images.readings
    )
    assert "diversity" in find_onset(images).turned  # without the photos' level any fall counts
    assert ("diversity" in find_onset(Trajectory(floor)).turned) == turned
