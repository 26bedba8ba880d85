"""The live table: which rows, lines and columns there are on a terminal of any size."""

import io
import re
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console
from rich.text import Text

from metrics.onset.turns import Onset, Turn
from search.record.finished_run import FinishedRun
from search.record.record import TrialRecord
from search.running.live_table import LiveTable, RunningRow, grid, row, settings_of
from tests.search.any_config import CONFIG

FOUND = Onset("found", Turn("found", 12.2, 9.6), Turn("beyond"), learned=6, best=10, learned_by="images")


def record(number: int, **changes: Any) -> TrialRecord:
    made = TrialRecord(number=number, state="running", config=CONFIG, params={"rank": 8}, epochs=20)
    return replace(made, **changes)


def ended(number: int, score: float | None, **changes: Any) -> TrialRecord:
    about = {"state": "complete", "stopped": "onset", "epochs_trained": 16, "epoch_shipped": 10, "onset": FOUND}
    return record(number, **(about | {"score": score, "value": score} | changes))


def running(number: int, score: float | None = 0.25) -> RunningRow:
    return RunningRow(record(number, epochs_trained=4), score, "drawing", 5.5)


def lines_of(table: LiveTable, width: int, height: int) -> list[str]:
    console = Console(width=width, height=height, record=True, file=io.StringIO(), force_terminal=True)
    console.print(table)
    return [line.rstrip() for line in console.export_text().rstrip("\n").splitlines()]


def kinds_of(lines: list[str]) -> str:
    """A letter for each line: title, head, rule, running, ended, more, summary."""

    def kind(line: str) -> str:
        first = line.strip().split(" ")[0]
        if line.startswith(("study", "…")):
            return "T" if line.startswith("study") else "m"
        if first.isdigit():
            return "r" if "drawing" in line else "e"
        return "h" if first == "trial" else "-" if first.startswith("─") else "s"

    return "".join(map(kind, lines))


@pytest.mark.parametrize(
    ("height", "run", "end", "kinds"),
    [
        (1, 1, 1, "res"),  # at least four lines
        (4, 1, 1, "res"),
        (5, 1, 1, "res"),
        (5, 2, 3, "rrms"),
        (5, 4, 3, "rrrs"),
        (6, 1, 1, "h-res"),  # from here on the columns are named
        (7, 1, 9, "h-rems"),
        (8, 1, 9, "h-reems"),
        (9, 1, 9, "Th-reems"),  # and then there is a title
        (9, 2, 9, "h-rreems"),
        (10, 2, 9, "Th-rreems"),
        (8, 3, 9, "h-rrrms"),
        (8, 4, 9, "h-rrrrs"),
        (8, 6, 9, "h-rrrrs"),
        (20, 2, 3, "Th-rreees"),
        (20, 0, 0, "Th-s"),
        (7, 0, 0, "h-s"),
        (8, 0, 0, "Th-s"),
    ],
)
def test_what_runs_goes_first_then_names_of_columns_ended_trials_and_a_title(
    height: int, run: int, end: int, kinds: str
) -> None:
    table = LiveTable("study toy", [*map(running, range(run))], [ended(run + n, 0.5) for n in range(end)], ["all"])
    assert kinds_of(lines_of(table, 120, height)) == kinds


def test_the_summary_takes_the_lines_it_needs_and_leaves_two_at_least() -> None:
    parts = ["2 of 64 trials", "1:40", "ETA 5 min (4 to 7)", "best so far: trial 3, 0.682 at epoch 16"]
    table = LiveTable("study toy", [running(0)], [], parts)
    assert lines_of(table, 43, 9)[-2:] == ["2 of 64 trials · 1:40 · ETA 5 min (4 to 7)", parts[3]]
    assert lines_of(table, 42, 9)[-2:] == ["2 of 64 trials · 1:40 · ETA 5 min (4 to 7)", parts[3]]
    assert lines_of(table, 41, 9)[-3:] == ["2 of 64 trials · 1:40", "ETA 5 min (4 to 7)", parts[3]]
    assert lines_of(table, 41, 5)[-2:] == ["2 of 64 trials · 1:40", "ETA 5 min (4 to 7)"], "two of four lines"


def test_the_best_of_the_ended_are_shown_by_score_then_number_and_the_others_counted_by_state() -> None:
    those = [
        ended(0, 0.5), ended(1, 0.7), ended(2, 0.5), ended(3, 0.9, state="pruned", stopped="pruned"),
        ended(4, None, state="failed", stopped="failed", onset=None, epoch_shipped=None),
        ended(5, 0.4), ended(6, 0.3, stopped="horizon"),
    ]  # fmt: skip
    table = LiveTable("study toy", [running(7)], those, ["summary"])
    lines = lines_of(table, 120, 10)
    assert [int(line.split()[0]) for line in lines if kinds_of([line]) == "e"] == [1, 0, 2]
    assert lines[-2].startswith("… and 4 more: ")
    assert sorted(re.findall(r"\d+ \w+", lines[-2].partition(": ")[2])) == [
        "1 complete",
        "1 failed",
        "1 pruned",
        "1 stopped",
    ]
    lines = lines_of(table, 120, 30)
    assert [int(line.split()[0]) for line in lines if kinds_of([line]) == "e"] == [0, 1, 2, 3, 4, 5, 6], "by number"


def test_a_row_says_what_is_known_of_a_trial() -> None:
    cells = row(ended(3, 0.6821))
    assert cells[:5] == ("3", "rank 8", "16/20", "0.682", "10")
    assert cells[5].startswith("12.2")
    assert row(record(4, epochs_trained=2.0))[:6] == ("4", "rank 8", "2/20", "", "–", "")
    one_file = ended(5, 0.6, finished_run=FinishedRun({1: "toy.safetensors"}), onset=None)
    assert row(one_file)[:6] == ("5", "rank 8", "", "0.600", "", "")
    table = LiveTable("study toy", [running(0), running(1, None)], [], [])
    first, second = lines_of(table, 120, 20)[3:]
    assert first.split() == ["0", "rank", "8", "5.5/20", "0.250", "drawing"]
    assert second.split() == ["1", "rank", "8", "5.5/20", "drawing"]


def test_settings_are_named_in_short_and_numbers_rounded() -> None:
    params = {
        "optimizer": "Lion", "lr_scheduler": "cosine", "learning_rate_scale": 3.14159, "learning_rate": 1.0e-4,
        "alpha_ratio": 0.25, "num_cycles": 2, "relative_step": True, "epochs": 20, "rank": 8,
    }  # fmt: skip
    assert settings_of(record(0, params=params)) == "Lion, cosine, lr× 3.14, lr 0.0001, alpha× 0.25, cycles 2, rank 8"


CELLS = ("3", "Lion, cosine, rank 16", "16/20", "0.682", "10", "12.2 (9.6 to 15)", "done")


def grid_of(width: int, *rows: tuple[str, ...], **how: Any) -> list[Text]:
    made: Any = grid(rows, how.pop("bold", 0), width, how.pop("headed", True), **how)
    return list(made)


def plain(width: int, *rows: tuple[str, ...], **how: Any) -> list[str]:
    return [line.plain for line in grid_of(width, *rows, **how)]


def test_where_there_is_room_every_cell_is_whole_numbers_to_the_right() -> None:
    assert plain(96, CELLS) == [
        "trial  settings               epoch  score  best epoch  onset             state",
        "─" * (5 + 21 + 5 + 5 + 10 + 16 + 5 + 6 * 2),
        "    3  Lion, cosine, rank 16  16/20  0.682          10  12.2 (9.6 to 15)  done",
    ]
    short = ("3", "Lion, rank 8", "1/2", "0.6", "1", "–", "done")
    assert plain(96, short, headed=False) == ["3  Lion, rank 8  1/2  0.6  1  –  done"]


def test_the_interval_makes_room_first_and_what_is_no_number_stays() -> None:
    assert "12.2 (9.6 to 15)" in plain(96, CELLS)[2]
    assert plain(95, CELLS)[2].split("  ")[-2:] == ["12.2", " done"]
    words = (*CELLS[:5], "not by 20", "done")
    assert "not by 20" in plain(95, words)[2]


def test_settings_take_what_the_others_leave_and_less_than_eight_letters_are_left_out() -> None:
    others = 5 + 5 + 5 + 10 + 5 + 5 + 6 * 2  # of the names, which are the widest
    for letters in (20, 12, 8):
        _, rule, cells = plain(others + letters, CELLS)
        assert cells[7 : 7 + letters] == CELLS[1][: letters - 1] + "…"
        assert len(rule) == others + letters
    assert plain(others + 21, CELLS)[2][7:28] == CELLS[1]
    for letters in (7, 1, 0, -9):
        names, _, cells = plain(others + letters, CELLS)
        assert "settings" not in names
        assert cells.split() == ["3", "16/20", "0.682", "10", "12.2", "done"]
    assert len(plain(30, CELLS)[1]) == 30, "the rule is no wider than the terminal"


def test_without_epochs_their_columns_are_left_out_and_a_run_of_steps_names_them() -> None:
    none = ("3", "IN04 0.5", "", "0.600", "", "", "done")
    assert plain(120, none)[0].split() == ["trial", "settings", "score", "onset", "state"]
    assert plain(120, none, CELLS)[0].split() == [
        "trial",
        "settings",
        "epoch",
        "score",
        "best",
        "epoch",
        "onset",
        "state",
    ]
    assert plain(120)[0].split() == ["trial", "settings", "epoch", "score", "best", "epoch", "onset", "state"]
    assert plain(120, CELLS, unit="step")[0].split()[2:6] == ["step", "score", "best", "step"]


def test_the_first_rows_are_bold_and_the_names_dim() -> None:
    assert [str(line.style) for line in grid_of(120, CELLS, CELLS, CELLS, bold=2)] == ["dim", "dim", "bold", "bold", ""]


def test_whole_settings_are_written_below_each_other() -> None:
    others = 5 + 5 + 5 + 10 + 5 + 5 + 6 * 2
    lines = plain(others + 14, CELLS, whole_settings=True)[2:]
    assert [line[7:21].rstrip() for line in lines] == ["Lion, cosine,", "rank 16"]
    assert lines[1].strip() == "rank 16", "the other cells stand in its first line"
    assert [line[7:20].rstrip() for line in plain(others + 13, CELLS, whole_settings=True)[2:]] == [
        "Lion, cosine,",
        "rank 16",
    ]
    narrow = plain(others + 12, CELLS, whole_settings=True)[2:]
    assert [line[7:19].rstrip() for line in narrow] == ["Lion,", "cosine,", "rank 16"]
    assert len(plain(others + 7, CELLS, whole_settings=True)) == 3, "left out, all in one line"


def test_a_run_whose_checkpoints_are_counted_in_steps_has_a_column_of_steps() -> None:
    run = FinishedRun({100: "a.safetensors", 200: "b.safetensors"}, unit="step")
    for rows in ([RunningRow(record(0, finished_run=run), 0.25, "drawing", 100)], []):
        table = LiveTable("study toy", rows, [ended(1, 0.5, finished_run=run)], [])
        assert "best step" in lines_of(table, 120, 20)[1]
    usual = lines_of(LiveTable("study toy", [running(0)], [ended(1, 0.5)], []), 120, 20)[1]
    assert "best epoch" in usual
    assert "best epoch" in lines_of(LiveTable("study toy", [], [], []), 120, 20)[1]
