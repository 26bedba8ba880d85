"""What goes wrong is one line: where, which key, what would be right; and which errors are whose fault."""

import errno
from pathlib import Path
from types import SimpleNamespace

import pytest

from search.errors import (
    MACHINE_ERRNOS,
    BusyError,
    DamagedError,
    SearchError,
    StudyError,
    VersionError,
    WorkerError,
    problem,
    unknown_problem,
)


def test_every_line_of_a_wrong_study_is_told() -> None:
    error = StudyError(["one: expected a, got b", "two: expected c, got d"])
    assert error.problems == ("one: expected a, got b", "two: expected c, got d")
    assert str(error) == "one: expected a, got b\ntwo: expected c, got d"


@pytest.mark.parametrize("kind", [StudyError, VersionError, BusyError, DamagedError, WorkerError])
def test_all_are_of_one_root_and_only_those_of_the_study_are_wrong_input(kind: type[Exception]) -> None:
    assert issubclass(kind, SearchError)
    assert issubclass(kind, StudyError) == (kind in (StudyError, VersionError))


def test_a_problem_names_the_file_in_which_its_key_stands() -> None:
    files = SimpleNamespace(file_of={"a.b": Path("common.yaml"), "c": Path("own.yaml")}.__getitem__)
    assert problem(files, "a.b", 3, "at most 2") == "common.yaml: a.b: expected at most 2, got 3"
    assert problem(files, "c", 3, "at most 2", "why") == "own.yaml: c: expected at most 2, got 3: why"
    assert problem("own.yaml", "c", "x", "a number") == problem(Path("own.yaml"), "c", "x", "a number")


def test_an_unknown_key_comes_with_the_nearest_one_that_is() -> None:
    said = unknown_problem("own.yaml", "train.rnak", ["rank", "alpha"])
    assert said.startswith("own.yaml: train.rnak: expected ")
    assert "rank" in said.partition("expected")[2]
    assert said.endswith("got rnak") or "got 'rnak'" in said


def test_a_full_disk_is_the_machines_and_a_missing_file_is_not() -> None:
    assert errno.ENOSPC in MACHINE_ERRNOS
    assert errno.ENOENT not in MACHINE_ERRNOS
