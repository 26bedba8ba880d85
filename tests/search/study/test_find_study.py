"""A study's folder is found by its file or by itself; photos of a project that moved are found where they went."""

from pathlib import Path

import pytest

from search.errors import StudyError
from search.study.find_study import locate
from search.study.moved_files import find_again


def test_a_study_that_has_run_is_found_by_its_file_and_by_its_folder(tmp_path: Path) -> None:
    runs, file = tmp_path / "runs", tmp_path / "dog.yaml"
    file.write_text("study: dog\nsearch: [wrong, in, other, ways]\n")
    with pytest.raises(StudyError, match=r"runs: expected a study that has run.*python -m search\.run"):
        locate(file, runs)
    (runs / "dog").mkdir(parents=True)
    with pytest.raises(StudyError, match="a study that has run"):
        locate(runs / "dog")
    (runs / "dog" / "study.db").write_bytes(b"")
    assert locate(file, runs).path == locate(str(runs / "dog")).path == runs / "dog"
    (runs / "dog" / "study.db").unlink()
    (runs / "dog" / "trials").mkdir()
    assert locate(file, runs).path == runs / "dog"


def test_a_file_that_names_no_folder_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "dog.yaml"
    for text, told in (
        ("study: 3\n", "study: expected a name for the folder under runs/, got 3"),
        ("study: a/b\n", "study: expected .*, got 'a/b'"),
        ("study: [\n", "dog.yaml"),
        ("flow: [dog.yaml]\n", "flow"),
    ):
        file.write_text(text)
        with pytest.raises(StudyError, match=told) as caught:
            locate(file, tmp_path)
        assert len(caught.value.problems) == 1
    with pytest.raises(StudyError, match=r"nothing\.yaml"):
        locate(tmp_path / "nothing.yaml", tmp_path)


def test_what_moved_with_its_project_is_found_again(tmp_path: Path) -> None:
    now = tmp_path / "b" / "cats"
    for path in (now / "data" / "photos" / "1.png", now / "runs" / "cats" / "study.yaml", tmp_path / "b" / "base.bin"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    near = now / "runs" / "cats"

    def found(path: str) -> str:
        return find_again(path, near)

    old = str(tmp_path / "a" / "cats")
    assert found(f"{old}/data/photos/1.png") == str(now / "data" / "photos" / "1.png")
    assert found(f"{old}/data/photos") == str(now / "data" / "photos")
    assert found(str(tmp_path / "a" / "base.bin")) == str(tmp_path / "b" / "base.bin")
    there = str(tmp_path / "b" / "base.bin")
    for unchanged in ("org/base", "data/photos", there, f"{old}/data/gone.png", "/nowhere.png"):
        assert found(unchanged) == unchanged
    nearer = now / "base.bin"
    nearer.write_bytes(b"x")
    assert found("/a/base.bin") == str(nearer), "the nearest first"
    deeper = tmp_path / "b" / "data" / "photos" / "1.png"
    deeper.parent.mkdir(parents=True)
    deeper.write_bytes(b"x")
    (now / "1.png").write_bytes(b"x")
    assert found("/x/data/photos/1.png") == str(now / "data" / "photos" / "1.png"), "as long an end as fits"
