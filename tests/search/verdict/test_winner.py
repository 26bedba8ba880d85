"""Which trial wins, and which are as good: what can ship before what cannot, then size, plateau and score."""

from dataclasses import replace

import numpy as np
import pytest

from metrics.onset.turns import Onset, Turn
from search.record.curve import Curve
from search.record.record import TrialRecord
from search.verdict.winner import ranked_trials
from tests.search.any_config import CONFIG

SHIPS = Onset("beyond", Turn("beyond"), Turn("beyond"), learned=2, best=20)
EPOCHS = np.arange(0, 42, 2)


def trial(number: int, value: float, *, state: str = "complete", ships: bool = True, **config) -> TrialRecord:
    onset = SHIPS if ships else replace(SHIPS, status="never_learned")
    return TrialRecord(
        number, state, config=CONFIG.model_copy(update=config), params={}, epochs=40, epochs_trained=40,
        epoch_shipped=20, onset=onset, score=value, value=value if state == "complete" else None,
    )  # fmt: skip


def curve(width: int) -> Curve:
    """As good from 20 − width to 20 + width."""
    return Curve(EPOCHS, np.where(np.abs(EPOCHS - 20) <= width, 0.5, 0.1))


def order(*trials: TrialRecord, noise: float = 0.02, widths: tuple[int, ...] = ()) -> list[int]:
    curves = {one.number: curve(width) for one, width in zip(trials, widths or [4] * len(trials), strict=True)}
    return [one.number for one in ranked_trials(trials, curves, noise)]


def test_what_ships_goes_before_what_does_not_and_a_whole_trial_before_one_that_was_pruned() -> None:
    ships, never = trial(0, 0.3), trial(1, 0.6, ships=False)
    pruned = trial(2, 0.9, state="pruned")
    assert order(pruned, never, ships) == [0]
    assert order(pruned, never) == [1]
    assert order(pruned) == [2]
    assert order(replace(pruned, score=None), replace(ships, epoch_shipped=None), trial(3, np.nan)) == []


def test_those_within_the_noise_are_as_good_and_the_highest_score_goes_first() -> None:
    assert order(trial(0, 0.50), trial(1, 0.52), trial(2, 0.505), trial(3, 0.49), noise=0.02) == [1, 2, 0]
    assert order(trial(0, 0.5), trial(1, 0.5)) == [0, 1]


@pytest.mark.parametrize(
    ("smaller", "larger"),
    [({"rank": 8}, {"rank": 16}), ({"targets": "attention"}, {}), ({}, {"train_text_encoder": True}),
     ({}, {"conv_rank": 4})],
    ids=str,
)  # fmt: skip
def test_of_those_as_good_the_smaller_file_wins(smaller, larger) -> None:
    assert order(trial(0, 0.51, **larger), trial(1, 0.50, **smaller)) == [1, 0]


def test_a_few_bytes_decide_nothing_but_a_wider_plateau_does() -> None:
    assert order(trial(0, 0.50, rank=64), trial(1, 0.51, rank=65)) == [1, 0]
    assert order(trial(0, 0.51), trial(1, 0.50), widths=(4, 8)) == [1, 0]
    assert order(trial(0, 0.51), trial(1, 0.50, rank=32), widths=(4, 8)) == [0, 1], "size goes first"


def test_under_an_objective_its_value_alone_decides() -> None:
    scored = [replace(trial(n, v, rank=rank), objective="f") for n, v, rank in ((0, -3.0, 4), (1, -2.99, 64))]
    assert order(*scored, widths=(8, 2)) == [1, 0]
