"""A row of the table of trials: what it shows, and what it is sorted by."""

from dataclasses import replace

import numpy as np

from metrics.onset.turns import Onset, Turn
from search.record.curve import Curve
from search.record.finished_run import FinishedRun
from search.record.record import TrialRecord
from search.verdict.trial_cells import cells
from trainer.config.config import parse_train_config

ONSET = Onset("found", Turn("found", 18.0, 14.0, None), Turn("beyond"), learned=4, best=12, learned_by="images")
GIVEN = {"base": "b", "data": "d", "rank": 8, "alpha_ratio": 0.3125, "learning_rate_scale": 2.0}
RECORD = TrialRecord(
    3, "complete", parse_train_config(GIVEN), {}, 40, 20, 12, "onset", ONSET, 0.51239, 0.51239,
    timings={"train": 60.0, "score": 2.5},
)  # fmt: skip
CURVE = Curve(np.array([0, 12, 24]), np.array([0.0, 0.5, 0.25]))
ROW = [
    ("3", "3"), ('<span class="tag complete">stopped at its onset</span>', "stopped at its onset"),
    ("0.512", "0.51239"), ("", ""), ("12", "12"), ("20 / 40", "20"), ("18 (14–open) context", "18"),
    ("AdamW", "AdamW"), ("0.0002", "0.0002"), ("constant", "constant"), ("8", "8"), ("2.5", "2.5"),
    ("1 min 2 s", "62.5"),
]  # fmt: skip


def changed(**fields) -> dict[int, tuple[str, str]]:
    """The cells that are others than the row's."""
    config = parse_train_config({**GIVEN, **fields.pop("config", {})})
    given = cells(replace(RECORD, config=config, **fields), None, opens=False)
    assert len(given) == len(ROW)
    return {place: cell for place, (cell, usual) in enumerate(zip(given, ROW, strict=True)) if cell != usual}


def test_a_row_has_each_cell_as_it_is_shown_and_as_it_is_sorted() -> None:
    assert cells(RECORD, None, opens=False) == ROW
    opened = cells(RECORD, None, opens=True)
    assert opened[1:] == ROW[1:]
    assert opened[0] == ('<button type="button" class="open" aria-expanded="false">3</button>', "3")


def test_what_is_not_known_is_a_dash_or_empty_and_sorts_as_nothing() -> None:
    assert changed(state="failed", stopped="failed", onset=None, epoch_shipped=None, score=None, value=None) == {
        1: ('<span class="tag failed">failed</span>', "failed"), 2: ("", ""), 4: ("–", ""), 6: ("not measured", ""),
    }  # fmt: skip
    bare = FinishedRun({6: "a", 12: "b"}, settings="rank 8")
    dashes = {7: ("–", ""), 8: ("–", ""), 9: ("–", "")}
    assert changed(finished_run=bare) == {**dashes, 11: ("–", "")}
    assert changed(finished_run=replace(bare, settings="rank 8, alpha 2.5")) == dashes


def test_a_schedule_and_a_rate_are_told_with_what_they_depend_on() -> None:
    restarts = {"lr_scheduler": "cosine_with_restarts"}
    for given, shown in (
        ({"lr_scheduler": "cosine"}, "cosine"),
        (restarts, "cosine_with_restarts × 1"),
        ({**restarts, "num_cycles": 3}, "cosine_with_restarts × 3"),
        ({**restarts, "cycle_epochs": 10}, "cosine_with_restarts / 10"),
    ):
        assert changed(config=given) == {9: (shown, shown)}
    adafactor = {"optimizer": "Adafactor", "relative_step": True, "lr_scheduler": "adafactor"}
    assert changed(config={**GIVEN, **adafactor, "learning_rate_scale": 1.0})[8] == ("its own", "")


def test_the_curve_is_drawn_on_our_scale_or_on_that_of_its_objective() -> None:
    def line(record: TrialRecord) -> str:
        return cells(record, CURVE, opens=False)[3][0]

    # 74 wide from 3, 22 high from 25: half the scale at the middle, all of it where 0.5 is the highest
    assert 'points="3.0,25.0 40.0,14.0 77.0,19.5"' in line(RECORD)
    assert 'cx="40.0" cy="14.0"' in line(RECORD)
    assert "circle" not in line(replace(RECORD, epoch_shipped=10))
    own = line(replace(RECORD, objective="a:b"))
    assert 'points="3.0,25.0 40.0,3.0 77.0,14.0"' in own
    assert cells(RECORD, Curve(np.array([0, 12]), np.array([np.nan, 0.5])), opens=False)[3] == ("", "")
