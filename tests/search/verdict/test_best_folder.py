"""`best/` is replaced as a whole, or stays as it was, wherever a kill falls."""

import shutil
from pathlib import Path

import pytest

from search.record.record import StudyFolder
from search.verdict import best_folder
from search.verdict.best_folder import replacing_best, restore_best


def content(folder: StudyFolder) -> dict[str, str]:
    return {path.relative_to(folder.path).as_posix(): path.read_text() for path in folder.path.rglob("*.txt")}


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    return StudyFolder(tmp_path / "toy")


def test_the_first_and_each_later_content_takes_the_place_whole(folder: StudyFolder) -> None:
    for text in ("one", "two"):
        with replacing_best(folder) as new:
            (new / f"{text}.txt").write_text(text)
        assert content(folder) == {f"best/{text}.txt": text}
        assert [path.name for path in folder.path.iterdir()] == ["best"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_where_the_new_one_is_not_finished_the_old_one_stays(folder: StudyFolder, error: type[BaseException]) -> None:
    with replacing_best(folder) as new:
        (new / "one.txt").write_text("one")

    def ended() -> None:
        with replacing_best(folder) as new:
            (new / "two.txt").write_text("two")
            raise error

    with pytest.raises(error):
        ended()
    assert content(folder) == {"best/one.txt": "one"}
    assert [path.name for path in folder.path.iterdir()] == ["best"]


def test_what_a_kill_left_of_an_earlier_try_is_no_part_of_the_next(folder: StudyFolder) -> None:
    for name in (".best-new", ".best-old", "best"):
        (folder.path / name).mkdir(parents=True)
        (folder.path / name / "left.txt").write_text(name)
    with replacing_best(folder) as new:
        assert list(new.iterdir()) == []
        (new / "two.txt").write_text("two")
    assert content(folder) == {"best/two.txt": "two"}


@pytest.mark.parametrize("moves", [1, 2])
def test_a_kill_between_two_moves_leaves_the_old_or_the_new_one(
    folder: StudyFolder, monkeypatch: pytest.MonkeyPatch, moves: int
) -> None:
    with replacing_best(folder) as new:
        (new / "one.txt").write_text("one")
    left, move = [moves], best_folder.move

    def killed(source: Path, target: Path) -> None:
        move(source, target)
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt

    def replaced() -> None:
        with replacing_best(folder) as new:
            (new / "two.txt").write_text("two")

    with monkeypatch.context() as patch:
        patch.setattr(best_folder, "move", killed)
        with pytest.raises(KeyboardInterrupt):
            replaced()
    restore_best(folder)
    expected = {1: "one", 2: "two"}[moves]
    assert (folder.best_folder / f"{expected}.txt").read_text() == expected
    with replacing_best(folder) as new:  # and the next one begins with it
        assert folder.best_folder.is_dir()
        (new / "three.txt").write_text("three")
    assert content(folder) == {"best/three.txt": "three"}


def test_the_next_try_puts_the_old_one_back_first(folder: StudyFolder) -> None:
    (folder.path / ".best-old").mkdir(parents=True)
    (folder.path / ".best-old" / "one.txt").write_text("one")
    with pytest.raises(ValueError, match="no"), replacing_best(folder):
        raise ValueError("no")
    assert content(folder) == {"best/one.txt": "one"}
    shutil.rmtree(folder.best_folder)
    restore_best(folder)
    assert not folder.best_folder.exists(), "nothing to put back"
