"""Parts of the report: which prompts its grid shows, what it says of versions, and what it looks up."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from search.record.probe_description import ProbeDescription
from search.record.record import StudyFolder, TrialRecord
from search.study.server import VARIABLE, Kept
from search.verdict import report
from search.verdict.best_files import marks
from search.verdict.decision import decide
from search.verdict.report import (
    _by_value,
    _encoded,
    _grid,
    _importances,
    _set,
    _spread,
    _train_yaml,
    _trial,
    _versions,
)
from search.verdict.verdict import Verdict
from tests.search.any_config import CONFIG
from tests.search.finished_studies import Plan, make_study

RECORD = TrialRecord(3, "failed", CONFIG, {}, 8, 8, 4, error=" OSError: /home/me/photos/a.png \n", lost="a worker")


@pytest.mark.parametrize(
    ("sets", "most", "rows"),
    [
        (("A", "C", "B", "C"), 4, [1, 3, 2, 0]),
        (("A", "C", "B", "C"), 3, [1, 3, 2]),
        (("A", "A", "B"), 9, [2, 0, 1]),
        ((), 2, [0, 1]),
    ],
)
def test_new_contexts_are_shown_first_then_captions_held_out(sets: tuple[str, ...], most: int, rows: list[int]) -> None:
    about = ProbeDescription(prompts=tuple("wxyz"[: len(sets) or 3]), sets=sets, seeds=(1,))
    assert _spread(about, most) == rows


def test_a_row_says_what_its_prompt_is_where_the_probe_does() -> None:
    about = ProbeDescription(prompts=("a", "b", "c"), sets=("A", "X"), seeds=(1,))
    assert [_set(about, row) for row in range(3)] == ["caption of a training photo", "", ""]


def test_versions_are_those_of_the_newest_trial_that_says_them() -> None:
    old, new = (replace(RECORD, versions={"onset": number, "torch": "2.9"}) for number in ("0.1", "0.2"))
    assert _versions([old, new, RECORD]) == "onset 0.2 · torch 2.9"
    assert _versions([RECORD]) == _versions([]) == ""


def test_the_highest_comes_first_and_what_has_no_value_last() -> None:
    values = [0.2, None, -0.5, 0.0, 0.9]
    assert sorted(values, key=_by_value) == [0.9, 0.2, 0.0, -0.5, None]


@pytest.mark.parametrize(
    ("size", "shown"),
    [((90, 60), (90, 60)), ((256, 30), (256, 30)), ((257, 100), (256, 100)), ((1024, 510), (256, 128))],
)
def test_images_of_the_grid_are_256_pixels_wide_at_most(size: tuple[int, int], shown: tuple[int, int]) -> None:
    image = np.full((size[1], size[0], 3), (200, 40, 90), np.uint8)
    with Image.open(io.BytesIO(_encoded(image[:, ::-1]))) as picture:
        assert (picture.format, picture.size) == ("WEBP", shown)
        assert np.abs(np.asarray(picture.convert("RGB")).astype(int) - (200, 40, 90)).max() < 12


def test_the_training_file_is_shown_where_there_is_one_and_names_no_place_of_this_disk(tmp_path: Path) -> None:
    folder, verdict = StudyFolder(tmp_path), Verdict("s", files={"train.yaml": "best/train.yaml"})
    assert _train_yaml(folder, verdict) == ""
    (tmp_path / "best").mkdir()
    (tmp_path / "best" / "train.yaml").write_text("base: /home/me/models/sd\nrank: 8\n", encoding="utf-8")
    text = _train_yaml(folder, verdict)
    assert "rank: 8" in text
    assert "sd" in text
    assert "/home/me" not in text
    assert _train_yaml(folder, Verdict("s")) == ""


def test_importances_are_asked_of_whatever_holds_the_trials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(report, "parameter_importances", lambda url, study: asked.append(f"{study} at {url}"))
    folder = StudyFolder(tmp_path)
    monkeypatch.delenv(VARIABLE, raising=False)
    assert _importances(folder, "s", None) is None
    assert asked == [], "nothing holds them"
    _importances(folder, "s", "sqlite:///given")
    Kept("1", "postgresql://host/kept").save(folder)
    assert _importances(folder, "s", None) is None, "nobody says how the server is reached"
    monkeypatch.setenv(VARIABLE, "postgresql://host/named")
    _importances(folder, "s", None)
    folder.database.touch()
    _importances(folder, "s", None)
    assert asked == [
        "s at sqlite:///given", "s at postgresql+psycopg://host/named", f"s at sqlite:///{folder.database}",
    ]  # fmt: skip


def test_a_row_of_the_table_opens_where_pictures_are_told_of() -> None:
    best, other = Verdict("s", replace(Verdict("s").decision, trial=3)), Verdict("s")
    shown = _trial(RECORD, None, [], best)
    assert (shown.best, shown.lost, shown.pictures) == (True, "a worker", [])
    assert "button" in shown.cells[0][0]
    assert "OSError" in shown.error
    assert "/home/me" not in shown.error
    assert shown.error == shown.error.strip()
    plain = _trial(replace(RECORD, error=None), None, None, other)
    assert (plain.best, plain.error, plain.pictures) == (False, "", None)
    assert plain.cells[0] == ("3", "3")


def test_the_grid_marks_the_epoch_to_ship_the_onset_and_what_lies_in_its_interval(
    tmp_path: Path, tiny_photos: Path
) -> None:
    plan = Plan({"optimizer": "AdamW", "lr_scheduler": "constant", "rank": 8}, quality=0.8, turn=18, trained=40)
    folder = make_study(tmp_path, tmp_path / "base", tiny_photos, (plan,))
    record = TrialRecord.load(folder.trial(0))
    grid, pointed = _grid(folder, record), marks(decide(record), shipping=True)
    assert grid is not None
    epochs = [column.epoch for column in grid.columns]
    assert len(epochs) == 9
    turn = pointed.nearest(epochs)
    for column in grid.columns:
        ships, turns = column.epoch == record.epoch_shipped, column.epoch == turn or pointed.inside(column.epoch)
        assert column.kind == ("ship" if ships else "onset" if turns else "")
        assert column.name == ("base" if column.epoch == 0 else f"epoch {column.epoch}")
        assert column.label == pointed.label(column.epoch, epochs)
    assert {column.kind for column in grid.columns} == {"ship", "onset", ""}
    assert [row.set for row in grid.rows] == ["new context"] * 2 + [
        "caption of a held-out photo",
        "caption of a training photo",
    ]
    assert all(len(row.images) == 9 for row in grid.rows)
    assert grid.trial == 0
    assert "the other seeds, too" in grid.note
    assert _grid(folder, replace(record, number=7)) is None, "nothing was drawn"
