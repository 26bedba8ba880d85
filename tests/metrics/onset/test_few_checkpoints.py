"""The onset of a handful of checkpoints in closed form, and what an onset says of its two turns."""

from dataclasses import replace

import numpy as np
import pytest

from metrics.onset.curves import SUMS
from metrics.onset.onset import find_onset
from metrics.onset.plateau import STEADY
from metrics.onset.turns import MADE_UP, Disagreement, Onset, Turn, earlier_of
from metrics.trajectory.readings import Reading, Readings
from metrics.trajectory.trajectory import Trajectory

EPOCHS = (0, 2, 4, 8, 16)
ERROR = 2 ** SUMS["memory"][0].own_error
"""How far off an onset may lie by itself, as a factor."""


def memory(*losses: float, photos: int = 6) -> Turn:
    """The memory onset of photos that all have these losses (ln ratio to the base)."""
    readings = []
    for epoch, loss in zip(EPOCHS, losses, strict=True):
        each = {"heldout_loss": np.full(photos, loss)}
        readings.append(Readings(epoch, float(epoch), {"heldout_loss": Reading(loss, loss, loss)}, each))
    return find_onset(Trajectory(tuple(readings))).memory


def test_it_lies_where_the_line_behind_the_best_has_risen_by_enough() -> None:
    """0.04 of the 0.2 that it rises from 4 to 8, in octaves."""
    found = memory(0.0, -0.2, -0.4, -0.2, 0.0)
    assert (found.status, found.channels) == ("found", ("heldout_loss",))
    assert found.epoch == pytest.approx(4 * 2 ** (STEADY / 0.2))
    assert (found.low, found.high) == (2.0, 16.0)


def test_what_rises_later_lies_in_the_middle_of_the_two_checkpoints() -> None:
    found = memory(0.0, -0.4, -0.39, -0.2, 0.0)
    assert found.epoch == pytest.approx(4 * 2**0.5)
    assert (found.low, found.high) == (0.0, 16.0)
    last = memory(0.0, -0.2, -0.4, -0.4, -0.2)
    assert last.epoch == pytest.approx(8 * 2**0.5)
    assert (last.low, last.high) == (2.0, None)


def test_an_interval_is_at_least_as_wide_as_the_sums_own_error() -> None:
    found = memory(0.0, -0.2, -0.3, -0.4, -0.355)
    assert found.epoch == pytest.approx(8 * 2 ** (STEADY / 0.045))
    assert found.low == 4.0 < found.epoch / ERROR
    few = memory(0.0, -0.2, -0.3, -0.4, -0.355, photos=1)
    assert few.low == pytest.approx(min(4.0, found.epoch / 2 ** (SUMS["memory"][0].of_few or (0.0,))[0]))


def test_what_does_not_end_worse_or_not_by_enough_has_not_turned() -> None:
    for losses in ((0.0, -0.2, -0.4, -0.2, -0.4), (0.0, -0.1, -0.2, -0.3, -0.4), (0.0, -0.2, -0.4, -0.4, -0.37)):
        assert memory(*losses) == Turn("beyond", channels=("heldout_loss",))


def test_a_loss_that_rises_from_the_first_checkpoint_on_turns_there() -> None:
    assert memory(0.0, 0.1, 0.2, 0.3, 0.4) == Turn("at_start", 2.0, 0.0, 2.0, ("heldout_loss",))
    steep = memory(0.0, -0.4, -0.2, 0.0, 0.1)
    assert steep.status == "found"
    assert steep.epoch == pytest.approx(2 * 2 ** (STEADY / 0.2))


def test_the_earlier_of_two_turns_comes_first_and_context_on_a_tie() -> None:
    early, late, none = Turn("found", 8.0, 6.0, 10.0), Turn("found", 12.0, 9.0), Turn("beyond")
    for context, memory, name, turn in (
        (early, late, "context", early), (late, early, "memory", early), (early, early, "context", early),
        (early, none, "context", early), (none, early, "memory", early),
    ):  # fmt: skip
        assert earlier_of(context, memory) == (name, turn)
        onset = Onset("found", context, memory, learned=2, best=4)
        assert (onset.epoch, onset.low, onset.high) == (8.0, 6.0, 10.0)
    assert earlier_of(none, none) is None
    other = Turn("found", 8.0, 2.0, 20.0)
    tied = Onset("found", early, other, learned=2, best=4)
    assert (tied.earlier, tied.low, tied.high) == (early, 6.0, 10.0)


def test_of_two_turns_without_an_epoch_the_measured_one_counts() -> None:
    beyond, unmeasured = Turn("beyond"), Turn("unmeasured")
    for context, memory, counts in (
        (beyond, unmeasured, beyond),
        (unmeasured, beyond, beyond),
        (beyond, beyond, beyond),
    ):
        assert Onset("beyond", context, memory, learned=2, best=4).earlier is counts
    plain = Onset("beyond", beyond, unmeasured, learned=2, best=4)
    assert (plain.epoch, plain.low, plain.high, plain.ignored) == (None, None, None, ())
    assert replace(plain, disagreement=Disagreement(2, 4, 0.1, -0.1, True)).ignored == (MADE_UP,)
