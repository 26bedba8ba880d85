"""What a study takes from another: what that one ships, what it took when it began, or what stands in for it."""

import re
from pathlib import Path
from typing import Any

import pytest

from search.errors import StudyError
from search.record.handed_on import HandedOn
from search.record.json_files import write_json
from search.record.record import StudyFolder
from search.study.study_file import StudyFile
from search.study.taken import taken
from tests.messages import refusal


def file_in(folder: Path, **values: Any) -> StudyFile:
    said = {"study": "own", "from": "other.yaml", "final": {}, **values}
    return StudyFile(folder / "own.yaml", {key: value for key, value in said.items() if value is not None})


def found(folder: Path, epoch: int, **more: Any) -> None:
    """The other study has come to this epoch."""
    (folder / "other.yaml").write_text("study: other\n")
    decision = {"ship": True, "trial": 3, "epoch": epoch}
    values = {"study": "other", "headline": f"Ship epoch {epoch}.", "decision": decision, **more}
    write_json(folder / "runs" / "other" / "verdict.json", values)


def began(folder: Path, kept: HandedOn) -> None:
    """This study has checkpoints, and took that."""
    own = StudyFolder(folder / "runs" / "own")
    (own.path / "trials" / "0000" / "checkpoints" / "0002").mkdir(parents=True)
    kept.save(own)
    assert own.has_checkpoints


def test_what_the_other_one_ships_is_taken(tmp_path: Path) -> None:
    found(tmp_path, 12, files={"LoRA": "best/a.safetensors"})
    (taken_now, told) = taken(file_in(tmp_path), tmp_path / "runs", ())
    lora = str((tmp_path / "runs" / "other" / "best" / "a.safetensors").resolve())
    assert taken_now == HandedOn("other", 12, 3, "Ship epoch 12.", lora)
    assert told == ()
    assert taken(file_in(tmp_path, **{"from": None}), tmp_path / "runs", ()) == (None, ())
    assert taken(file_in(tmp_path), tmp_path / "runs", ["other"])[0] == taken_now, "it has run already"


def test_what_it_took_when_it_began_stays_and_a_change_is_told(tmp_path: Path) -> None:
    kept = HandedOn("other", 8, 3, "Ship epoch 8.")
    began(tmp_path, kept)
    found(tmp_path, 8)
    assert taken(file_in(tmp_path), tmp_path / "runs", ()) == (kept, ())
    found(tmp_path, 12)
    now, (line,) = taken(file_in(tmp_path), tmp_path / "runs", ())
    assert now == kept
    assert line == "from other: it ships epoch 12 by now; this study goes on with epoch 8, which it began with"
    found(tmp_path, 8, decision={"ship": True, "trial": 4, "epoch": 8})
    assert len(taken(file_in(tmp_path), tmp_path / "runs", ())[1]) == 1, "of another trial"
    (tmp_path / "runs" / "other" / "verdict.json").unlink()
    assert taken(file_in(tmp_path), tmp_path / "runs", ()) == (kept, ())


def test_what_was_taken_of_another_study_does_not_count(tmp_path: Path) -> None:
    began(tmp_path, HandedOn("third", 8))
    found(tmp_path, 12)
    taken_now, told = taken(file_in(tmp_path), tmp_path / "runs", ())
    assert taken_now is not None
    assert (taken_now.study, taken_now.epoch, told) == ("other", 12, ())


def test_in_a_flow_an_epoch_stands_in_for_what_is_to_come(tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text("study: other\n")
    assert taken(file_in(tmp_path), tmp_path / "runs", ["other"]) == (HandedOn("other", 1, to_come=True), ())
    with pytest.raises(StudyError, match=r"other: it has no verdict yet; run it first: .*other\.yaml"):
        taken(file_in(tmp_path), tmp_path / "runs", ["third"])
    found(tmp_path, 5, decision={"ship": False}, headline="Nothing to ship.")
    with pytest.raises(StudyError) as caught:
        taken(file_in(tmp_path), tmp_path / "runs", ())
    told = str(caught.value)
    assert told.endswith("other: its verdict is: Nothing to ship.")
    assert "run it first" not in told, "running it again changes nothing"


@pytest.mark.parametrize(
    ("values", "got", "expected"),
    [
        ({"final": None, "search": {}}, "other.yaml", "nothing"),
        ({"from": 3}, 3, "another study file"),
        ({"from": "  "}, "  ", "another study file"),
        ({"from": "none.yaml"}, "none.yaml", "a study file that is there"),
        ({"from": "a" * 5000}, "", "a study file that is there"),
        ({"study": "other"}, "other.yaml", "the file of another study"),
        ({"from": "nameless.yaml"}, "nameless.yaml", "the file of another study"),
    ],
)
def test_what_cannot_be_taken_from_is_named(tmp_path: Path, values: dict[str, Any], got: Any, expected: str) -> None:
    found(tmp_path, 12)
    (tmp_path / "nameless.yaml").write_text("train: {rank: 4}\n")
    with pytest.raises(StudyError) as caught:
        taken(file_in(tmp_path, **values), tmp_path / "runs", ())
    (line,) = caught.value.problems
    assert re.search(refusal("from", got, expected), line)
    assert line.startswith(str(tmp_path / "own.yaml"))
    assert ("only final and delivery take something" in line) is (expected == "nothing")
