"""The parts of an onset against small tables of cases: which turn counts, what behaviour says, and paired tests."""

from typing import Any

import numpy as np
import pytest

from metrics.onset.behaviour import BehaviourTurn
from metrics.onset.curves import OnsetCurves
from metrics.onset.onset import (
    _behaviour_turn_of,
    _ends_worse,
    _few_checkpoints,
    _loss_turn,
    _status,
    _surely_before,
    _with_behaviour,
)
from metrics.onset.replicates import Curves
from metrics.onset.turns import Turn
from metrics.trajectory.readings import Reading, Readings
from metrics.trajectory.trajectory import Trajectory

FOUND, BEYOND, UNMEASURED = Turn("found", 9.0, 6.0, 12.0, ("heldout_loss",)), Turn("beyond"), Turn("unmeasured")
MANY = np.array([0, 2, 4, 6, 8, 10, 12, 14])


def curves(epochs: Any, mean: Any, replicates: Any = None, jitter: float = 0.0) -> Curves:
    mean = np.asarray(mean, float)
    rows = mean[None] if replicates is None else np.asarray(replicates, float)
    return Curves(np.arange(len(mean)), np.asarray(epochs), mean, rows, jitter, np.zeros(len(mean)))


@pytest.mark.parametrize(
    ("statuses", "learned", "goes_wrong", "status"),
    [
        ({"found", "unmeasured"}, 3, False, "found"),
        ({"found", "beyond"}, 3, False, "found"),
        ({"found", "at_start"}, 3, False, "at_start"),
        ({"beyond", "unmeasured"}, 3, False, "beyond"),
        ({"unmeasured"}, 3, False, "unmeasured"),
        ({"found"}, None, False, "never_learned"),
        ({"found"}, None, True, "found"),
        ({"unmeasured"}, 0, True, "unmeasured"),
    ],
)
def test_an_onset_s_status_is_that_of_the_turn_that_says_most(
    statuses: set[Any], learned: int | None, goes_wrong: bool, status: str
) -> None:
    assert _status(statuses, learned, goes_wrong=goes_wrong) == status


@pytest.mark.parametrize(
    ("turn", "other", "before"),
    [
        (Turn("found", 4, 3, 5), FOUND, True),
        (Turn("found", 4, 3, 6), FOUND, False),
        (Turn("found", 4, 3, None), FOUND, False),
        (Turn("found", 4, 3, None), BEYOND, False),
        (Turn("found", 4, 3, 5), BEYOND, True),
        (Turn("found", 4, 3, 5), UNMEASURED, False),
        (Turn("found", 4, 3, 5), Turn("found", 9.0), False),
    ],
)
def test_a_turn_lies_surely_before_another_where_their_intervals_are_apart(
    turn: Turn, other: Turn, before: bool
) -> None:
    assert _surely_before(turn, other) is before


SEEN = {
    "copying": BehaviourTurn(5.0, 2.0, 5.5),
    "composition": BehaviourTurn(4.0, 3.0, 5.0),
    "prompt": BehaviourTurn(7.0, 1.0, np.inf),
}


@pytest.mark.parametrize(
    ("names", "turn"),
    [
        (("copying",), Turn("found", 5.0, 2.0, 5.5, ("copying",))),
        (("copying", "composition"), Turn("found", 5.0, 3.0, 5.5, ("copying", "composition"))),
        (("prompt", "copying"), Turn("found", 7.0, 2.0, None, ("prompt", "copying"))),
    ],
)
def test_behaviours_have_turned_together_when_the_last_one_has(names: tuple[str, ...], turn: Turn) -> None:
    assert _behaviour_turn_of(SEEN, names) == turn


def measuring(*channels: str) -> Trajectory:
    return Trajectory(tuple(Readings(n, n, {name: Reading(0, 0, 0) for name in channels}) for n in range(3)))


@pytest.mark.parametrize(
    ("channels", "turned", "context", "memory", "expected"),
    [
        # without losses the second one speaks for contexts, and copying for memory
        (("copying", "prompt"), "copying prompt", UNMEASURED, UNMEASURED,
         (Turn("found", 7.0, 2.0, None, ("copying", "prompt")), Turn("found", 5.0, 2.0, 5.5, ("copying",)))),
        (("copying", "composition", "prompt"), "copying composition prompt", UNMEASURED, UNMEASURED,
         (Turn("found", 5.0, 3.0, 5.5, ("composition", "copying")), Turn("found", 5.0, 2.0, 5.5, ("copying",)))),
        (("copying", "prompt"), "prompt", UNMEASURED, UNMEASURED,
         (Turn("beyond", channels=("prompt", "copying")), Turn("beyond", channels=("copying",)))),
        (("prompt",), "prompt", UNMEASURED, UNMEASURED, (UNMEASURED, UNMEASURED)),
        (("prompt", "colour"), "", UNMEASURED, UNMEASURED, (Turn("beyond", channels=("prompt", "colour")), UNMEASURED)),
        # losses go first, unless photos are surely reproduced before
        (("copying", "composition", "heldout_loss"), "copying composition", BEYOND, FOUND,
         (BEYOND, Turn("found", 5.0, 3.0, 5.5, ("copying", "composition")))),
        (("copying", "composition", "heldout_loss"), "copying composition", FOUND, Turn("found", 6, 5.5, 7),
         (FOUND, Turn("found", 6, 5.5, 7))),
        (("copying", "composition", "heldout_loss"), "copying", BEYOND, FOUND, (BEYOND, FOUND)),
        (("copying", "composition", "heldout_loss"), "composition", BEYOND, FOUND, (BEYOND, FOUND)),
        (("copying", "heldout_loss"), "copying", BEYOND, BEYOND, (BEYOND, BEYOND)),
    ],
)  # fmt: skip
def test_behaviour_speaks_where_losses_do_not(
    channels: tuple[str, ...], turned: str, context: Turn, memory: Turn, expected: tuple[Turn, Turn]
) -> None:
    seen = {name: SEEN[name] for name in turned.split()}
    assert _with_behaviour(measuring(*channels), context, memory, seen) == expected


@pytest.mark.parametrize(
    ("mean", "jitter", "worse"),
    [
        ([0.5, 0.1, 0.1, 0.1, 0.1, 0.6, 0.7, 0.1], 0.02, True),  # the median of the last three lies 0.1 above
        ([0.5, 0.1, 0.1, 0.1, 0.1, 0.6, 0.7, 0.1], 0.03, False),
        ([0.0, 0, 0, 0, 0, 0.0021, 0.0021, 0.0021], 0.0, True),
        ([0.0, 0, 0, 0, 0, 0.0019, 0.0019, 0.0019], 0.0, False),
        ([-0.5, 0, 0, 0, 0, -0.6, -0.6, -0.6], 0.0, False),
    ],
)
def test_a_loss_ends_worse_than_the_base_by_more_than_luck(mean: list[float], jitter: float, worse: bool) -> None:
    assert _ends_worse(curves(MANY, mean, jitter=jitter)) is worse
    assert _ends_worse(curves(MANY[:6], mean[:6], jitter=jitter)) is True, (
        "of five checkpoints a paired test has said so"
    )


@pytest.mark.parametrize(("worse", "at_start"), [(19, True), (18, False)])
def test_losses_that_are_worse_than_the_base_in_95_of_100_replicates_turn_at_once(worse: int, at_start: bool) -> None:
    mean = np.where(MANY > 0, -0.1 - 0.01 * MANY, 0.0)
    replicates = np.where(np.arange(20)[:, None] < worse, 0.0021 * (MANY > 0), mean)
    read = curves(MANY + 0, mean, replicates)
    found = _loss_turn(OnsetCurves(("heldout_loss",), read, read, 0.4), 0.6, 0.0)
    expected = (
        Turn("at_start", 2.0, 0.0, 2.0, ("heldout_loss",)) if at_start else Turn("beyond", channels=("heldout_loss",))
    )
    assert found == expected
    later = curves(MANY + 1, mean, replicates)
    assert _loss_turn(OnsetCurves(("x",), later, later, 0.4), 0.6, 0.0).status == "beyond", "the base is not there"


@pytest.mark.parametrize(
    ("spread", "epoch", "low", "high"),
    [
        (0.05, 2 * 2**0.3, 0.0, 8.0),  # 0.03 of the 0.1 that it rises from 2 to 4
        (0.1, 4 * 2**0.5, 0.0, None),  # sure only at the last one
        (0.13, None, None, None),
    ],
)
def test_few_checkpoints_have_turned_where_the_paired_change_is_sure(
    spread: float, epoch: float | None, low: float | None, high: float | None
) -> None:
    """The best is at epoch 2; the loss ends 0.2 above it, and 1.645 standard errors have to be less than its rise."""
    mean, luck = np.array([0.0, -0.2, -0.1, 0.0]), spread * np.array([[1.0], [-1.0]])
    read = curves([0, 2, 4, 8], mean, mean + luck * [0, 0, 1, 1])
    found = _few_checkpoints(("heldout_loss",), read, own_error=1.0)
    if epoch is None:
        assert found == Turn("beyond", channels=("heldout_loss",))
        return
    assert found.epoch == pytest.approx(epoch)
    assert (found.status, found.low, found.high) == ("found", low, high)
