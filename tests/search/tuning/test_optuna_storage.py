"""An Optuna storage by its URL: which file it is, who made it, and what may be amended after a trial's end."""

import sqlite3
from pathlib import Path
from typing import Any

import optuna
import pytest
from sqlalchemy.exc import ArgumentError

from search.errors import StudyError
from search.tuning import optuna_storage
from search.tuning.database import BUSY_SECONDS, check_database
from search.tuning.optuna_storage import amend, open_storage, sqlite_file


@pytest.mark.parametrize(
    ("url", "file"),
    [
        ("sqlite:////home/me/study.db", "/home/me/study.db"),
        ("sqlite:///study.db", "study.db"),
        ("sqlite://", None),
        ("sqlite:///:memory:", None),
        ("sqlite+pysqlite:////a/b.db", "/a/b.db"),
        ("sqlite:///file:/a/b.db?uri=true", "/a/b.db"),
        ("sqlite:///file:/a/b.db", "file:/a/b.db"),
        ("postgresql://me@host/studies", None),
    ],
)
def test_the_file_of_a_url(url: str, file: str | None) -> None:
    assert sqlite_file(url) == (None if file is None else Path(file))


def test_what_is_no_url_is_refused() -> None:
    with pytest.raises(ArgumentError):
        sqlite_file("study.db")


@pytest.mark.parametrize(
    ("url", "engine"),
    [
        ("sqlite:///{}/study.db", {"connect_args": {"timeout": BUSY_SECONDS}}),
        ("postgresql://me@host/studies", {"connect_args": {"connect_timeout": 10}, "pool_pre_ping": True}),
        ("mysql://me@host/studies", {}),
    ],
)
def test_a_file_is_waited_for_and_a_server_is_asked_before_it_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str, engine: dict[str, Any]
) -> None:
    made: list[tuple[str, dict[str, Any]]] = []
    monkeypatch.setattr(
        optuna.storages, "RDBStorage", lambda url, *, engine_kwargs: made.append((url, engine_kwargs)) or "made"
    )
    url = url.format(tmp_path)
    assert open_storage(url) == "made"
    assert made == [(url, engine)]


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("The runtime optuna version is no longer compatible with the table schema", "written by a newer Optuna"),
        ("please try `$ optuna storage upgrade --storage …`", "bring it up to date with: optuna storage upgrade"),
        ("something else", None),
    ],
)
def test_tables_of_another_optuna_are_named_and_other_errors_are_not(
    monkeypatch: pytest.MonkeyPatch, said: str, told: str | None
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise RuntimeError(said)

    monkeypatch.setattr(optuna_storage.optuna.storages, "RDBStorage", fails)
    with pytest.raises(RuntimeError if told is None else StudyError, match=told or said):
        open_storage("mysql://me@host/a b")


def test_a_file_that_is_no_database_is_left_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "study.db"
    file.write_text("SQLite format 4")
    with pytest.raises(sqlite3.DatabaseError, match="file is not a database"):
        open_storage(f"sqlite:///{file}")
    assert file.read_text() == "SQLite format 4"


@pytest.mark.parametrize(
    ("content", "refused"), [(None, False), (b"", False), (b"SQLite format 3\0more", False), (b"SQLite format 3", True),
                             (b"text", True)]
)  # fmt: skip
def test_only_what_holds_something_else_is_no_database(tmp_path: Path, content: bytes | None, refused: bool) -> None:
    file = tmp_path / "study.db"
    if content is not None:
        file.write_bytes(content)
    if refused:
        with pytest.raises(sqlite3.DatabaseError):
            check_database(file)
    else:
        check_database(file)
    with pytest.raises(sqlite3.DatabaseError, match="file is not a database"):
        check_database(tmp_path)


def test_attributes_of_a_trial_that_has_ended_are_set_changed_and_taken_away(tmp_path: Path) -> None:
    storage = open_storage(f"sqlite:///{tmp_path}/study.db")
    study = optuna.create_study(storage=storage, study_name="s")
    for number in range(2):
        study.add_trial(optuna.create_trial(value=1.0, user_attrs={"old": number, "gone": [1]}))
    one = study.trials[0]._trial_id
    amend(storage, one, {"old": {"a": 1.5}, "gone": None, "new": "text", "never": None})
    found = optuna.load_study(storage=f"sqlite:///{tmp_path}/study.db", study_name="s").trials
    assert found[0].user_attrs == {"old": {"a": 1.5}, "new": "text"}
    assert found[1].user_attrs == {"old": 1, "gone": [1]}
