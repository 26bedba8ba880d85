"""What is shown while a study runs says what is true, in lines without a terminal and in a table on one."""

import io
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from metrics.readings import Readings
from search.events import Doing, Prepared
from search.live import Board, said
from search.record import TrialRecord

PARAMS = {"optimizer": "Lion", "lr_scheduler": "cosine", "learning_rate_scale": 3.14159, "rank": 8, "epochs": 20}
FOUND = {
    "status": "found",
    "context": {"status": "found", "epoch": 12.2, "low": 9.6, "high": None},
    "memory": {"status": "beyond", "epoch": None, "low": None, "high": None},
}


def record(number: int, **changes: Any) -> TrialRecord:
    return replace(TrialRecord(number=number, state="running", config={}, params=PARAMS, epochs=20), **changes)


def ended(number: int, value: float) -> TrialRecord:
    return record(
        number,
        state="complete",
        stopped="onset",
        epochs_trained=16,
        epoch_shipped=10,
        onset=FOUND,
        score=value,
        value=value,
    )


@pytest.fixture
def board() -> Board:
    """One trial has ended, one runs."""
    board = Board("toy", trials=4, slots=2)
    board.prepared(0, Prepared(3.0, ("look at the masks",)))
    board.prepared(1, Prepared(3.0))
    board.began(0, record(0))
    board.began(1, record(1))
    board.ended(ended(0, 0.7))
    board.doing(1, Doing("drawing", 1, 5))
    board.checkpointed(1, record(1, epochs_trained=5), Readings(5, 0.1, {}, {}, 0.25))
    return board


def test_lines_name_trial_score_onset_and_how_far(board: Board, capsys: pytest.CaptureFixture[str]) -> None:
    board.ended(ended(1, 0.5))
    line = capsys.readouterr().out.splitlines()[-1]
    for part in (
        "trial 1: complete (onset)",
        "score 0.500",
        "onset 12 (10–…) context",
        "epoch 16/20",
        "lr× 3.14",
        "(2/4)",
    ):
        assert part in line


def test_notices_are_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    board = Board("toy", trials=4, slots=2)
    board.prepared(0, Prepared(3.0, ("look at the masks",)))
    board.prepared(1, Prepared(3.0, ()))
    assert capsys.readouterr().out.count("look at the masks") == 1


def test_the_table_shows_what_runs_and_what_has_ended(board: Board) -> None:
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(board.table())
    shown = console.export_text()
    for part in (
        "study toy",
        "12 (10–…) context",
        "drawing",
        "5/20",
        "0.250",
        "1 of 4 trials",
        "ETA",
        "best so far: trial 0",
    ):
        assert part in shown


def test_the_best_so_far_and_the_time_left(board: Board) -> None:
    assert "best so far: trial 0, 0.700 at epoch 10" in board.summary()
    assert board.eta_seconds() is not None
    assert Board("new", 4, 1).eta_seconds() is None


def test_an_error_is_told_by_its_last_line() -> None:
    assert said(record(3, state="failed", stopped="failed", error="Traceback\n  …\nOutOfMemoryError: 8 GiB")).endswith(
        "OutOfMemoryError: 8 GiB"
    )
