"""Which trial wins, and which are as good: what can ship before what cannot, then size, plateau and score."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from metrics.onset.turns import Onset, Turn
from search.record.curve import Curve
from search.record.finalists import Finalist, Finalists
from search.record.record import StudyFolder, TrialRecord
from search.record.twins import Twins
from search.verdict.winner import by_twins, ranked_trials
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


def test_a_score_of_nought_is_a_score() -> None:
    assert order(trial(0, 0.0), trial(1, 0.3), noise=0.1) == [1]
    assert order(trial(0, 0.0), trial(1, -0.3), noise=0.1) == [0]
    for scores in ((0.0, -3.0), (0.0, -0.05)):
        scored = [replace(trial(n, v), objective="f") for n, v in enumerate(scores)]
        assert order(*scored, noise=9.0) == [0, 1]


def test_under_an_objective_its_value_alone_decides() -> None:
    scored = [replace(trial(n, v, rank=rank), objective="f") for n, v, rank in ((0, -3.0, 4), (1, -2.99, 64))]
    assert order(*scored, widths=(8, 2)) == [1, 0]


DRAWN = (Finalist(0, 20, 0.5, 0.4, 0.3, 0.5, best=0.9), Finalist(1, 20, 0.4, 0.3, 0.2, 0.4, best=0.1))
FOUND = Finalists({}, DRAWN, images=4, prompts=2)


def test_what_twins_say_comes_with_the_score_at_the_epoch_to_which_they_move_it(tmp_path: Path) -> None:
    folder, record = StudyFolder(tmp_path), trial(0, 0.5)
    assert by_twins(folder, record, FOUND) == (record, FOUND), "none were trained"
    there = replace(FOUND, drawn=(replace(FOUND.drawn[0], epoch=36, score=0.7, own=0.6), FOUND.drawn[1]))
    there.save(folder, by_twins=True)
    stays = Twins(3, 40, 20, count=3, onset=SHIPS)
    stays.save(folder.trial(0))
    assert by_twins(folder, record, FOUND) == (record.with_twins(stays), FOUND)
    moves = replace(stays, onset=replace(SHIPS, best=36), score=0.45)
    moves.save(folder.trial(0))
    told = record.with_twins(moves)
    assert told.epoch_shipped == 36
    assert by_twins(folder, record, None) == (told, None)
    found, finalists = by_twins(folder, record, FOUND)
    assert finalists == there
    assert found == replace(told, score=0.7, value=0.7, own_score=0.6)
    elsewhere = replace(there, drawn=(replace(there.drawn[0], epoch=30), there.drawn[1]))
    elsewhere.save(folder, by_twins=True)
    assert by_twins(folder, record, FOUND) == (told, FOUND), "it was not drawn again there"


def test_a_whole_trial_counts_by_its_value_and_a_pruned_one_by_its_score() -> None:
    whole = [replace(trial(0, 0.5), score=0.9), replace(trial(1, 0.6), score=0.1)]
    assert order(*whole, noise=0.0) == [1]
    pruned = [replace(trial(n, score, state="pruned"), value=1 - score) for n, score in enumerate((0.5, 0.6))]
    assert order(*pruned, noise=0.0) == [1]
    nothing = [replace(trial(0, 0.5), value=None), replace(trial(1, 0.6), value=float("nan"))]
    assert order(*nothing) == []
    assert order(*nothing, trial(2, -0.5)) == [2]
