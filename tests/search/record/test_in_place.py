"""A study's folder that is moved while the study runs."""

from pathlib import Path

import pytest

from metrics.files import write_whole
from search.errors import SearchError
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
