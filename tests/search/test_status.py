"""`status` shows a whole study on one small screen: a line for each trial, the winner marked, what to do."""

import json

import pytest

from search.record.record import StudyFolder
from search.running.live_table import grid
from search.status import main
from tests.search.finished_studies import PLANS, make_study


@pytest.fixture
def folder(finished_study) -> StudyFolder:
    return finished_study


def told(folder: StudyFolder, width: int, capsys, monkeypatch, *more: str) -> list[str]:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.chdir(folder.path.parent)
    assert main([folder.path.name, *more]) == 0
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("width", [50, 60, 80, 200])
def test_a_trial_is_a_line_and_only_the_winner_is_marked(folder, capsys, monkeypatch, width):
    lines = told(folder, width, capsys, monkeypatch)
    assert max(map(len, lines)) <= width
    rows = [line for line in lines if "/40 " in line and not line.startswith("│")]
    assert len(rows) == len(PLANS)
    first = lines.index(rows[0])
    assert lines[first : first + len(rows)] == rows, "no state runs over into the next line"
    assert [line.split()[:2] for line in rows if "*" in line] == [["*", "2"]]
    assert ("AdamW, c" in "\n".join(rows)) == (width > 60)
    assert "Ship epoch 18 of trial 2" in "\n".join(lines)


def test_a_terminal_that_says_it_has_no_columns_is_written_to(folder, capsys, monkeypatch):
    assert "Ship epoch 18 of trial 2" in "\n".join(told(folder, 0, capsys, monkeypatch))


def test_sixty_columns_take_under_forty_lines_and_all_says_the_rest(folder, capsys, monkeypatch):
    brief = told(folder, 60, capsys, monkeypatch)
    assert len(brief) < 40 - 6, "with fourteen trials it still fits"
    whole = told(folder, 60, capsys, monkeypatch, "--all")
    for part in ("How sure", "What it took", "onset.png"):
        assert part in "\n".join(whole)
        assert part not in "\n".join(brief)
    assert "report.html" in "\n".join(brief)


def test_all_writes_settings_below_each_other_that_a_line_has_no_room_for():
    settings = "cosine_with_restarts, rank 8, alpha× 0.25, AdamW8bit, lr× 34"
    rows = [(str(n), settings, "21/21", "0.294", "21", "none yet", "complete") for n in range(2)]

    def lines(**how: bool) -> list[str]:
        return [line.plain for line in grid(rows, 0, 80, headed=True, **how)][2:]

    assert len(lines()) == len(rows)
    whole = lines(whole_settings=True)
    assert [line.split()[0] for line in whole if line.endswith("complete")] == ["0", "1"]
    assert max(map(len, whole)) <= 80
    column = lines()[0].index("cosine")
    written = " ".join(line[column:].split("  ")[0] for line in whole[: len(whole) // 2])
    assert written == settings, "each setting is whole"
    assert all(line[:column].isspace() for line in whole if not line.endswith("complete"))


def test_a_program_reads_trials_and_verdict_as_json(folder, capsys, monkeypatch):
    found = json.loads("\n".join(told(folder, 60, capsys, monkeypatch, "--json")))
    assert [trial["number"] for trial in found["trials"]] == list(range(len(PLANS)))
    assert found["trials"][2]["state"] == "complete"
    assert found["trials"][2]["onset"] == pytest.approx(18, rel=0.5)
    assert (found["verdict"]["trial_shipped"], found["verdict"]["epoch_shipped"]) == (2, 18)


def test_without_a_verdict_nobody_is_marked(tmp_path, tiny_sd15, tiny_photos, capsys, monkeypatch):
    made = make_study(tmp_path, tiny_sd15, tiny_photos, PLANS[:2])
    lines = told(made, 80, capsys, monkeypatch)
    assert not any("*" in line for line in lines)
    assert "best so far: trial 0" in "\n".join(lines)
