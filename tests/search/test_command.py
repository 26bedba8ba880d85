"""What goes wrong with a study's files and its database is told in a line by every command."""

import argparse
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy.exc import ArgumentError, OperationalError, TimeoutError

from metrics.errors import MetricsError
from search import dashboard, export, run, status
from search.command import add_study, study_command
from search.errors import SearchError, StudyError
from search.tuning.ledger import Ledger
from trainer.errors import ConfigError, DataError, ModelError, TrainerError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def database(tmp_path: Path) -> Path:
    Ledger(tmp_path / "study.db", "dog", seed=0, startup_trials=1)
    return tmp_path / "study.db"


def opened(database: Path, capsys) -> tuple[int, str]:
    command = study_command("search.test")
    command.folder = database.parent
    code = command.run(lambda: len(Ledger(database, "dog", seed=0, startup_trials=1).trials()))
    line = capsys.readouterr().err
    assert line.count("\n") == (code != 0)
    assert "Traceback" not in line
    return code, line


def test_a_whole_database_is_opened(database, capsys):
    assert opened(database, capsys) == (0, "")


def test_a_database_that_is_none_is_named(tmp_path, capsys):
    database = tmp_path / "study.db"
    database.write_bytes(os.urandom(20000))
    code, line = opened(database, capsys)
    assert code == 1
    assert line.startswith(f"error: {database} is damaged, or no database")


def test_a_database_of_another_optuna_is_named(database, capsys):
    with sqlite3.connect(database) as connection:
        connection.execute("update version_info set library_version = '99.0', schema_version = 1")
        connection.execute("update alembic_version set version_num = 'v3.0.0.d'")
    code, line = opened(database, capsys)
    assert code == 2
    assert f"{database}: written by an older Optuna" in line


def test_a_locked_database_is_said_to_be_in_use(database, capsys):
    command = study_command("search.test")
    command.folder = database.parent

    def write() -> int:
        with sqlite3.connect(database, timeout=0) as other:
            other.execute("create table t (x)")
        return 0

    with sqlite3.connect(database) as holder:
        holder.execute("begin exclusive")
        assert command.run(write) == 1
    assert capsys.readouterr().err.startswith(f"error: {database} is in use by another program")


@pytest.mark.parametrize("main", [run.main, status.main, dashboard.main, lambda a: export.main([*a, "--to", "x"])])
def test_a_runs_folder_that_is_a_file_is_refused(main, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as ended:
        main([str(tmp_path / "dog.yaml"), "--runs", str(tmp_path / "file")])
    assert ended.value.code == 2
    assert "--runs: expected a folder" in capsys.readouterr().err


@pytest.mark.parametrize("main", [run.main, status.main, dashboard.main, lambda a: export.main([*a, "--to", "x"])])
def test_a_study_file_with_a_name_too_long_is_refused_in_a_line(main, capsys):
    assert main(["x" * 5000 + ".yaml"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_study_is_shown_on_a_console_of_another_language(finished_study, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "search.status", str(finished_study.path)],
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "cp932"},
        cwd=tmp_path,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert "Ship epoch 18 of trial 2" in done.stdout.decode("cp932")


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("database is locked", "is in use by another program"),
        ("database or disk is full", "cannot be written: the disk is full"),
        ("attempt to write a readonly database", "no permission, or a read-only file system"),
        ("unable to open database file", "cannot be opened"),
        ("disk I/O error", "cannot be read or written"),
        ("file is not a database", "is damaged, or no database"),
        ("database disk image is malformed", "is damaged: search.run sets it aside"),
    ],
)
@pytest.mark.parametrize("wrapped", [False, True])
def test_what_sqlite_says_is_told_in_words(said: str, words: str, wrapped: bool, tmp_path: Path, capsys) -> None:
    def fails() -> int:
        error = sqlite3.OperationalError(said)
        if wrapped:
            raise OperationalError("select 1", {}, error)
        raise error

    command = study_command("search.test")
    assert command.run(fails) == 1
    assert capsys.readouterr().err.startswith("error: the database ")
    command.folder = tmp_path
    assert command.run(fails) == 1
    told = capsys.readouterr().err
    assert told.startswith(f"error: {tmp_path / 'study.db'} ")
    assert words in told
    assert told.count("\n") == 1


def test_what_nobody_foresaw_of_a_storage_is_told_with_where_it_happened(tmp_path: Path, capsys) -> None:
    def strange() -> int:
        raise sqlite3.OperationalError("no such table: trials")

    def wrong() -> int:
        raise ArgumentError("Could not parse   SQLAlchemy URL")

    def away() -> int:
        raise ValueError("late") from TimeoutError("pool " * 99)

    command = study_command("search.test")
    command.folder = tmp_path
    assert command.run(strange) == 1
    told = capsys.readouterr().err
    assert f"{tmp_path / 'study.db'}: no such table: trials" in told
    assert "Traceback" in (tmp_path / "error.log").read_text()
    (tmp_path / "error.log").unlink()
    assert command.run(wrong) == 2
    told = capsys.readouterr().err
    assert told == "error: the storage cannot be used: Could not parse SQLAlchemy URL\n"
    assert not (tmp_path / "error.log").exists(), "whoever wrote it knows what to do"
    assert command.run(away) == 1
    told = capsys.readouterr().err
    assert "the storage cannot be used: pool pool" in told
    assert told.count("pool") == 200 // len("pool ")


def test_errors_of_the_input_end_with_two_and_those_of_the_work_with_one(capsys) -> None:
    for error, code in (
        (StudyError(["a"]), 2), (ConfigError("a", "b", "c", "d"), 2), (DataError("a"), 2), (ModelError("a"), 2),
        (SearchError("a"), 1), (TrainerError("a"), 1), (MetricsError("a"), 1),
    ):  # fmt: skip

        def fails(error: Exception = error) -> int:
            raise error

        assert study_command("search.test").run(fails) == code, error
        assert capsys.readouterr().err.startswith("error: ")


@pytest.mark.parametrize("to_run", [True, False])
def test_a_study_and_its_runs_folder_are_named_alike_everywhere(tmp_path: Path, to_run: bool) -> None:
    parser = argparse.ArgumentParser()
    add_study(parser, to_run=to_run)
    options = parser.parse_args(["dog.yaml"])
    assert options.runs == Path("runs")
    assert options.study == (Path("dog.yaml") if to_run else "dog.yaml")
    assert parser.parse_args(["dog.yaml", "--runs", str(tmp_path)]).runs == tmp_path
