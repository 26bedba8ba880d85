"""`status` shows a whole study on one small screen: a line for each trial, the winner marked, what to do."""

import json
import shutil
from pathlib import Path

import pytest

from search.record.person_pick import PersonPick
from search.record.record import StudyFolder
from search.running.live_table import grid
from search.status import main
from search.verdict.decision import decide
from search.verdict.verdict import Verdict
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


@pytest.fixture
def own(finished_study: StudyFolder, tmp_path: Path) -> StudyFolder:
    """A copy to change."""
    shutil.copytree(finished_study.path, tmp_path / "toy", ignore=shutil.ignore_patterns("samples", "artifacts"))
    return StudyFolder(tmp_path / "toy")


def test_json_says_of_each_trial_what_its_record_says(own: StudyFolder, capsys, monkeypatch) -> None:
    PersonPick(3, 22, "the eyes", "2026-11-27").save(own)
    found = json.loads("\n".join(told(own, 60, capsys, monkeypatch, "--json")))
    assert (found["study"], found["note"]) == ("toy", "")
    assert Path(found["folder"]).name == "toy"
    for trial, record in zip(found["trials"], own.records(), strict=True):
        decided = decide(record)
        assert {key: trial[key] for key in ("number", "state", "stopped", "params", "epochs", "epochs_trained")} == {
            "number": record.number, "state": record.state, "stopped": record.stopped, "params": dict(record.params),
            "epochs": record.epochs, "epochs_trained": record.epochs_trained,
        }  # fmt: skip
        assert (trial["score"], trial["epoch_shipped"]) == (decided.score, decided.shipped)
    assert found["pick"] == "Picked by a person on 2026-11-27: trial 3, epoch 22: the eyes"
    verdict = Verdict.load(own.verdict_file)
    assert found["verdict"]["files"] == dict(verdict.files)
    PersonPick.file(own).unlink()
    own.verdict_file.unlink()
    found = json.loads("\n".join(told(own, 60, capsys, monkeypatch, "--json")))
    assert (found["pick"], found["verdict"], found["note"]) == (None, None, "")


def test_what_stands_below_the_table_is_the_winner_the_pick_and_what_is_damaged(own, capsys, monkeypatch) -> None:
    lines = told(own, 120, capsys, monkeypatch)
    assert lines[0] == "study toy"
    assert lines[1].split()[:2] == ["trial", "settings"]
    assert lines.count("* the trial to ship") == 1
    assert not any("note:" in line or "Picked" in line or "best so far" in line for line in lines)
    PersonPick(3, 22, "", "2026-11-27").save(own)
    (own.trial(5) / "record.json").write_text("half")
    (own.trial(6) / "record.json").unlink()
    lines = told(own, 120, capsys, monkeypatch)
    assert "Picked by a person on 2026-11-27: trial 3, epoch 22" in lines
    assert "note: trials 5, 6: the record is damaged or missing; search.run rebuilds it" in lines
    # that is another set of trials than the verdict's
    assert lines[-1].startswith("note: the study has gone on since its verdict of 8 trials: Ship epoch 18 of trial 2")
    assert any(line.startswith("best so far: trial 2, score 0.679 at epoch 18") for line in lines)
    assert "* the trial to ship" not in lines


def test_a_damaged_verdict_is_told(own, capsys, monkeypatch) -> None:
    own.verdict_file.write_text("half")
    lines = told(own, 300, capsys, monkeypatch)
    assert any(line.startswith("note: ") and "verdict.json" in line for line in lines)
    assert any(line.startswith("best so far: trial 2") for line in lines)


def test_a_study_without_trials_has_a_head_and_no_more(tmp_path, capsys, monkeypatch) -> None:
    folder = StudyFolder(tmp_path / "runs" / "new")
    (folder.path / "trials").mkdir(parents=True)
    folder.study_file.write_text("study: new\n")
    lines = told(folder, 120, capsys, monkeypatch)
    assert lines[0] == "study new"
    assert len(lines) == 3


def test_each_study_of_a_flow_is_shown_and_what_has_not_begun_is_named(own, tmp_path, capsys, monkeypatch) -> None:
    for name, study in (("one", "toy"), ("two", "later")):
        (tmp_path / f"{name}.yaml").write_text(f"study: {study}\n")
    flow = tmp_path / "flow.yaml"
    flow.write_text("flow: [one.yaml, two.yaml]\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    assert main([str(flow), "--runs", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "study toy"
    assert lines[-1].startswith("study later (")
    assert lines[-1].endswith("two.yaml) has not begun")
    assert main([str(flow), "--runs", str(tmp_path), "--json"]) == 0
    assert [study["study"] for study in json.loads(capsys.readouterr().out)] == ["toy"]
