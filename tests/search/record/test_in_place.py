"""A study's folder that is moved while the study runs."""

import sys
from pathlib import Path

import pytest

from metrics.files import write_whole
from search.errors import SearchError
from search.record import in_place as module
from search.record.in_place import in_place


def test_half_of_a_folder_that_has_moved_is_not_made_again(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "dog"

    def write(number: str) -> None:
        write_whole(folder / "trials" / number / "record.json", lambda file: file.write(b"{}"))

    folder.mkdir(parents=True)
    with in_place(folder):
        write("0000")
        folder.parent.rename(tmp_path / "away")
        with pytest.raises(SearchError, match="dog: the study's folder was moved or deleted while it ran"):
            write("0001")
    assert [path.name for path in tmp_path.iterdir()] == ["away"]
    write("0001")  # afterwards nothing is held back


@pytest.mark.parametrize(("gone", "told"), [(True, SearchError), (False, ValueError)])
def test_what_fails_is_told_as_moved_only_where_the_folder_is_gone(tmp_path: Path, gone: bool, told: type) -> None:
    folder = tmp_path / "dog"
    folder.mkdir()

    def fail() -> None:
        with in_place(folder):
            if gone:
                folder.rmdir()
            raise ValueError("no such file")

    with pytest.raises(told):
        fail()


def test_python_is_asked_once_to_tell_of_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr(module, "_HOOKS", [])
    monkeypatch.setattr(sys, "addaudithook", asked.append)
    for _ in range(2):
        with in_place(tmp_path):
            assert asked == [module._audited]
            assert {str(tmp_path)} == module._KEPT
    assert set() == module._KEPT


@pytest.mark.parametrize(("made", "refused"), [("dog", True), ("dog/trials", False), ("", True), ("dogs", False)])
def test_the_folder_and_those_around_it_are_not_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: str, refused: bool
) -> None:
    home = tmp_path / "runs"
    there = tmp_path / "there"
    (there / "dog").mkdir(parents=True)
    monkeypatch.setattr(module, "_KEPT", {str(home / "dog"), str(there / "dog")})
    if refused:
        with pytest.raises(SearchError, match="was moved or deleted"):
            module._audited("os.mkdir", (home / made, 0o777, -1))
    else:
        module._audited("os.mkdir", (home / made, 0o777, -1))
    module._audited("os.rename", (home / made, 0o777, -1))
    module._audited("os.mkdir", (3, 0o777, -1))
    module._audited("os.mkdir", (there / made, 0o777, -1))
