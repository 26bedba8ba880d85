"""What goes wrong with a study's files and its database is told in a line by every command."""

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from search import dashboard, export, run, status
from search.command import study_command
from search.tuning.ledger import Ledger

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
