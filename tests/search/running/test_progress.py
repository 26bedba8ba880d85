"""What is shown while a study runs says what is true, in lines without a terminal and in a table on one."""

import io
import re
import sys
from dataclasses import replace
from typing import Any

import pytest
import rich
from rich.console import Console

from metrics.onset.turns import Onset, Turn
from metrics.trajectory.readings import Readings
from search.record.events import Doing, Prepared
from search.record.finished_run import FinishedRun
from search.record.record import TrialRecord
from search.running.eta import Forecast, TimeLeft
from search.running.finals_cost import FinalsCost
from search.running.progress import Board, _time, said, time_left_text
from tests.search.any_config import CONFIG

PARAMS = {"optimizer": "Lion", "lr_scheduler": "cosine", "learning_rate_scale": 3.14159, "rank": 8, "epochs": 20}
FOUND = Onset("found", Turn("found", 12.2, 9.6), Turn("beyond"), learned=6, best=10, learned_by="images")


def record(number: int, **changes: Any) -> TrialRecord:
    return replace(TrialRecord(number=number, state="running", config=CONFIG, params=PARAMS, epochs=20), **changes)


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
    board.prepared([0], Prepared(3.0, ("look at the masks",)))
    board.prepared([1], Prepared(3.0))
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
        "trial 1: stopped at its onset",
        "score 0.500 at epoch 10",
        "onset 12.2 (9.6–open) context",
        "epoch 16/20",
        "lr× 3.14",
        "(2/4)",
    ):
        assert part in line


def test_trials_of_an_earlier_sitting_are_counted_and_not_said_again(capsys: pytest.CaptureFixture[str]) -> None:
    board = Board("toy", trials=4, slots=2)
    board.ended(ended(0, 0.7))
    assert capsys.readouterr().out == ""
    assert board.summary()[0] == "1 of 4 trials"


def test_on_a_terminal_the_table_stands_for_lines_and_notes_are_said_above_it(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    console = Console(file=terminal, force_terminal=True, color_system=None, width=100, height=30)
    monkeypatch.setattr(rich, "_console", console)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    board = Board("toy", trials=4, slots=2)
    with board.shown():
        board.prepared([0], Prepared(3.0, ("look at [the] masks",)))
        board.began(0, record(0))
        board.ended(ended(0, 0.7))
    said = terminal.getvalue()
    assert "look at [the] masks" in said
    assert "ready after" not in said
    assert "(1/4)" not in said
    assert "1 of 4 trials" in said


def test_a_line_names_some_of_the_running_trials_and_counts_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    board = Board("toy", trials=2000, slots=1000, clock=iter(range(0, 10**7, 60)).__next__)
    for number in range(1000):
        board.began(number, record(number))
    board.prepared(range(1000), Prepared(3.0))
    board.doing(3, Doing("training", 3, 5))
    line = capsys.readouterr().out.splitlines()[-1]
    assert "trial 0 epoch 0/20, trial 1 epoch 0/20" in line
    assert "trial 3 epoch 5/20" in line
    assert line.endswith(", 992 more")


def test_the_time_left_counts_the_finals_by_what_a_trial_took() -> None:
    one = replace(ended(0, 0.7), timings={"train": 60.0, "sample": 8.0, "score": 8.0})
    finals = FinalsCost(looks=3, retrained=2, twins=4)
    board = Board("toy", trials=4, slots=2, finals=finals, clock=lambda: 0.0)
    looks = 16 // one.config.save_every_n_epochs
    assert board._again(one) == pytest.approx(finals.seconds(60.0, 8.0 / looks, 8.0 / looks, workers=2))
    assert board._again(replace(one, epochs_trained=0)) == 0.0


def test_notices_are_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    board = Board("toy", trials=4, slots=2)
    board.prepared([0], Prepared(3.0, ("look at the masks",)))
    board.prepared([1], Prepared(3.0, ()))
    assert capsys.readouterr().out.count("look at the masks") == 1


def test_the_table_shows_what_runs_and_what_has_ended(board: Board) -> None:
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(board.table())
    shown = console.export_text()
    for part in (
        "study toy",
        "12.2 (9.6–open) context",
        "drawing",
        "5/20",
        "0.250",
        "1 of 4 trials",
        "ETA",
        "best so far: trial 0",
        "best epoch",
    ):
        assert part in shown


def test_the_best_so_far_and_the_time_left(board: Board) -> None:
    assert "best so far: trial 0, 0.700 at epoch 10" in " · ".join(board.summary())
    assert board.time_left() is not None
    assert Board("new", 4, 1).time_left() is None


@pytest.mark.parametrize(
    ("left", "text"),
    [
        ((0, 0, 0.4), "a moment"),
        ((44, 30, 62), "45 s (30 to 65)"),
        ((290, 250, 400), "5 min (4 to 7)"),
        ((300, 300, 300), "5 min"),
        ((12000, 9000, 15000), "3.3 h (2.5 to 4.2)"),
        ((900000, 720000, 1080000), "250 h (200 to 300)"),
    ],
)
def test_the_time_left_is_told_with_its_range_and_no_finer_than_it_is_known(left, text):
    assert time_left_text(TimeLeft(*left)) == text


def test_an_error_is_told_by_its_last_line() -> None:
    assert said(record(3, state="failed", stopped="failed", error="Traceback\n  …\nOutOfMemoryError: 8 GiB")).endswith(
        "OutOfMemoryError: 8 GiB"
    )


def test_of_a_trial_that_was_never_measured_no_score_and_no_onset_is_said() -> None:
    never = said(record(3, state="failed", stopped="failed", error="out of memory"))
    assert never.startswith("trial 3: ")
    assert not {"score", "onset"} & set(never.split())
    learned = said(
        record(4, state="complete", epochs_trained=20, onset=replace(FOUND, status="never_learned"), score=0.1)
    )
    assert "score 0.100" in learned
    assert "at epoch" not in learned, "none ships"


def full(trials: int, running: int, ended_before: int) -> Board:
    board = Board("a-study-with-a-rather-long-name", trials=trials, slots=running)
    for number in range(ended_before):
        state = ("complete", "pruned", "failed")[number % 3] if number else "complete"
        stopped = {"complete": "horizon"}.get(state, state)
        board.ended(replace(ended(number, 0.3 + number / 100), state=state, stopped=stopped))
    for slot in range(running):
        board.prepared([slot], Prepared(3.0))
        board.began(slot, record(ended_before + slot))
        board.checkpointed(slot, record(ended_before + slot, epochs_trained=5), Readings(5, 0.1, {}, {}, 0.25))
    return board


def drawn(board: Board, width: int, height: int) -> list[str]:
    console = Console(width=width, height=height, record=True, file=io.StringIO(), force_terminal=True)
    console.print(board.table())
    return console.export_text().rstrip("\n").splitlines()


@pytest.mark.parametrize("width", [60, 80, 200])
@pytest.mark.parametrize("height", [10, 30, 60])
@pytest.mark.parametrize("ended_before", [0, 3, 40])
def test_the_table_fits_any_terminal_and_always_shows_what_runs_and_how_long_still(width, height, ended_before):
    lines = drawn(full(64, 3, ended_before), width, height)
    assert len(lines) < height, "the last line is the cursor's"
    assert max(map(len, lines)) <= width
    shown = "\n".join(lines)
    for number in range(ended_before, ended_before + 3):
        assert re.search(rf"^ *{number} .*5/20", shown, re.MULTILINE), f"trial {number} runs"
    assert f"{ended_before} of 64 trials" in shown
    assert "ETA" in shown
    finished = len(re.findall(r"16/20", shown))
    counted = re.search(r"… and (\d+) more", shown)
    assert finished + (int(counted[1]) if counted else 0) == ended_before, "whoever is not shown is counted"
    if height == 60:
        assert finished == ended_before


def test_the_best_of_the_finished_are_the_ones_that_are_shown():
    lines = drawn(full(64, 2, 40), 200, 16)
    scores = [float(s) for line in lines if "16/20" in line and (s := re.search(r"0\.\d{3}", line)[0])]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] == 0.69, "the best complete one"
    assert "… and" in "\n".join(lines)


def test_more_slots_than_lines_still_leave_the_summary():
    lines = drawn(full(64, 30, 5), 80, 12)
    assert len(lines) < 12
    assert "5 of 64 trials" in "\n".join(lines)
    assert "ETA" in "\n".join(lines)


def test_a_terminal_of_sixty_columns_names_scores_epochs_and_states():
    shown = "\n".join(drawn(full(64, 1, 4), 60, 30))
    for part in ("0.300", "16/20", "pruned", "failed", "12.2", "best epoch"):
        assert part in shown


def looked_at(number: int, **changes: Any) -> TrialRecord:
    """A finished LoRA under other block weights: one look, and no epochs."""
    one = FinishedRun({1: "toy.safetensors"})
    return record(number, epochs=1, finished_run=one, params={"IN04": 0.5, "OUT05": 1.0}, **changes)


def test_a_look_at_one_file_says_no_epoch(capsys: pytest.CaptureFixture[str]) -> None:
    board = Board("toy", trials=4, slots=1)
    board.prepared([0], Prepared(3.0))
    board.began(0, looked_at(0))
    done = {
        "state": "complete",
        "stopped": "horizon",
        "epochs_trained": 1,
        "epoch_shipped": 1,
        "score": 0.6,
        "value": 0.6,
    }
    board.ended(looked_at(0, **done))
    board.began(0, looked_at(1))
    board.doing(0, Doing("drawing", 1, 1))
    console = Console(width=120, height=20, file=io.StringIO(), record=True)
    console.print(board.table())
    shown = console.export_text() + capsys.readouterr().out
    assert "best so far: trial 0, 0.600" in shown
    assert "IN04 0.5" in shown
    assert "drawing" in shown
    assert "epoch" not in shown
    assert "1/1" not in shown


def test_the_forecast_is_told_all_that_the_board_is_told() -> None:
    now = [0.0]
    board = Board("toy", trials=6, slots=2, horizons=(20,), clock=lambda: now[0])
    forecast = Forecast(6, 2, horizons=(20,), finish=4.0)
    seen: list[int] = []
    board.track = lambda record: seen.append(record.number)
    board.opened(2, 1)
    for slot in range(2):
        board.began(slot, record(slot))
        forecast.began(slot, record(slot), 0.0)
    now[0] = 5.0
    for slot in range(2):
        board.prepared([slot], Prepared(3.0))
        forecast.prepared(slot, 5.0)
    assert board.time_left() is None
    for at, slot, epoch in ((15.0, 0, 5), (17.0, 1, 5), (26.0, 0, 10)):
        now[0] = at
        board.checkpointed(slot, record(slot, epochs_trained=epoch), Readings(epoch, 0.1, {}, {}, 0.25))
        forecast.checkpointed(slot, epoch, at)
        assert board.time_left() == forecast.time_left(at)
    now[0] = 37.0
    board.ended(ended(0, 0.7))
    forecast.ended(0, ended(0, 0.7), 37.0)
    assert board.time_left() == forecast.time_left(37.0)
    assert seen == [0, 1, 0, 0]
    board.began(0, record(2))
    forecast.began(0, record(2), 37.0)
    now[0] = 40.0
    assert board.time_left() == forecast.time_left(40.0)
    board.opened(4, 2)
    assert (board._forecast.slots, board._forecast.places, board.slots) == (4, 2, 4)


def test_time_spent_before_counts_and_no_trial_begins_behind_the_hours() -> None:
    now = [100.0]
    board = Board("toy", trials=6, slots=1, seconds=50.0, spent_seconds=3700.0, clock=lambda: now[0])
    now[0] = 161.0
    assert board.summary()[:3] == ("0 of 6 trials", "1:02:41", "ETA unknown yet")
    assert board._forecast.deadline == 150.0
    assert Board("toy", 6, 1, clock=lambda: now[0])._forecast.deadline is None


def test_slots_that_load_say_what_they_do_until_they_are_ready() -> None:
    board = Board("toy", trials=4, slots=2)
    board.began(0, record(0))
    board.began(1, record(1))

    def doing() -> list[str]:
        return [row.doing for row in board.table().running]

    assert doing() == ["starting", "starting"]
    board.doing(0, Doing("loading the base"))
    board.doing(1, Doing("training", 1, 3))
    assert doing() == ["loading the base", "starting"]
    board.prepared([0, 1], Prepared(3.0))
    assert doing() == ["starting", "training"]
    board.doing(1, Doing("drawing", 0, 9))  # another trial's
    board.doing(1, Doing("drawing", 1, 2))  # a step back: it is measured again
    assert [(row.doing, row.epoch) for row in board.table().running] == [("starting", 0), ("drawing", 3)]
    board.checkpointed(1, record(1, epochs_trained=5), Readings(5, 0.1, {}, {}, 0.25))
    assert [(row.score, row.epoch) for row in board.table().running] == [(None, 0), (0.25, 5)]
    board.checkpointed(3, record(9), Readings(5, 0.1, {}, {}, 0.25))  # a slot without a trial
    assert len(board.table().running) == 2


def test_without_a_terminal_a_line_is_said_every_half_minute(capsys: pytest.CaptureFixture[str]) -> None:
    now = [1000.0]
    board = Board("toy", trials=4, slots=1, clock=lambda: now[0])
    board.doing(0, Doing("training", 0, 1))
    assert capsys.readouterr().out == "", "nothing runs"
    board.began(0, record(0))
    board.doing(0, Doing("training the critic (1 of 4 parts done)"))
    assert capsys.readouterr().out.endswith(" · trial 0 training the critic (1 of 4 parts done)\n")
    board.prepared([1, 0], Prepared(3.4))
    assert capsys.readouterr().out == "ready after 3 s: base, encoder and probe are loaded\n"
    for at, lines in ((1000.0, 0), (1029.0, 0), (1030.0, 0), (1030.5, 1), (1060.5, 0), (1061.0, 1)):
        now[0] = at
        board.doing(0, Doing("training", 0, 1))
        out = capsys.readouterr().out.splitlines()
        assert len(out) == lines, at
        assert all(line.endswith(f" · trial 0 epoch 1/{record(0).epochs}") for line in out)
    board.began(0, looked_at(1))
    now[0] = 2000.0
    board.doing(0, Doing("drawing", 1, 1))
    assert capsys.readouterr().out.endswith(" · trial 1 drawing\n")
    board.prepared([1], Prepared(3.4))
    assert capsys.readouterr().out == "", "the others load the same"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00"), (59.9, "0:59"), (60, "1:00"), (3599, "59:59"), (3600, "1:00:00"), (36061, "10:01:01")],
)
def test_clock_times(seconds: float, text: str) -> None:
    assert _time(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(99.9, "100 s"), (100, "2 min"), (5999, "100 min"), (6000, "1.7 h"), (35999, "10.0 h"), (36000, "10 h")],
)
def test_each_unit_goes_up_to_its_end(seconds: float, text: str) -> None:
    assert time_left_text(TimeLeft(seconds, seconds, seconds)).split(" (")[0] == text
    assert time_left_text(TimeLeft(1.0, 0.0, 1.0)) != "a moment"
    assert time_left_text(TimeLeft(0.5, 0.0, 0.99)) == "a moment"


def test_the_best_so_far_is_named_with_its_epoch_where_it_has_one() -> None:
    board = Board("toy", trials=4, slots=1)
    for number, score in ((0, 0.5), (1, 0.7), (2, 0.6)):
        board.ended(ended(number, score))
    assert board.summary()[-1] == "best so far: trial 1, 0.700 at epoch 10"
    assert board.summary()[0] == "3 of 4 trials"
