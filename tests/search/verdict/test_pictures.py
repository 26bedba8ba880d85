"""Pictures of a trial: what cannot be drawn costs no verdict, what could not be written is written later."""

import errno
from pathlib import Path

import pytest
from PIL import Image

from metrics.images.sample_notes import Figure, note_of
from search.record.record import StudyFolder
from search.verdict import best_files
from search.verdict.best_files import BEHAVIOUR, PLOT, SHEET, novel_prompts, write_pictures
from tests.search.finished_studies import PLANS, make_study


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_photos: Path) -> StudyFolder:
    home = tmp_path_factory.mktemp("pictures")
    return make_study(home, home, tiny_photos, PLANS[:1])


def test_a_full_disk_is_told_and_the_picture_is_drawn_at_the_next_start(folder: StudyFolder, monkeypatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "sheet.png")

    with monkeypatch.context() as patched:
        patched.setattr(best_files, "write_bytes", full)
        with pytest.raises(OSError, match="No space left"):
            write_pictures(folder, 0)
    assert set(write_pictures(folder, 0)) == {SHEET, PLOT, BEHAVIOUR}


def test_wherever_a_picture_is_put_it_is_taken_for_no_sample(folder: StudyFolder) -> None:
    for name in write_pictures(folder, 0):
        with Image.open(folder.trial(0) / name) as picture:
            assert note_of(picture, Path("images") / "0001.png") == Figure()


def test_what_cannot_be_drawn_is_left_out(folder: StudyFolder, monkeypatch, caplog) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ValueError("no such font")

    for path in folder.trial(0).glob("*.png"):
        path.unlink()
    monkeypatch.setattr(best_files, "contact_sheet", broken)
    assert set(write_pictures(folder, 0)) == {PLOT, BEHAVIOUR}
    assert "sheet.png was not drawn (ValueError: no such font)" in caplog.text


def test_a_verdict_without_the_probe_has_no_prompts_to_show(tmp_path: Path) -> None:
    assert novel_prompts(StudyFolder(tmp_path)) == []
