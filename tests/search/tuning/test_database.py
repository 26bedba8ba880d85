"""A study's database is found under every name a folder can have, and waited for where it is locked."""

import os
from pathlib import Path, PureWindowsPath

import optuna
import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url

from search.errors import StudyError
from search.tuning.database import BUSY_SECONDS, connect, outer_trouble, storage_url
from search.tuning.importances import parameter_importances
from search.tuning.ledger import Ledger
from search.tuning.optuna_storage import open_storage


@pytest.mark.parametrize(
    "name", ["is it a dog?", "50% #1", "a [b] {c} (d)", "日本 é", "a b+c&d=e;f", "what?uri=true&mode=memory"]
)
def test_every_sign_in_a_path_stands_for_itself(tmp_path: Path, name: str) -> None:
    home = tmp_path / name
    Ledger(home / "study.db", "toy", seed=0, startup_trials=1).study.add_trial(optuna.create_trial(value=1.0))
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert "study.db" in [path.name for path in home.iterdir()]
    url = storage_url(home / "study.db")
    assert optuna.load_study(study_name="toy", storage=open_storage(url)).trials[0].value == 1.0
    assert optuna.load_study(study_name="toy", storage=url).trials[0].value == 1.0  # as users give it to Optuna
    assert "there is 1" in parameter_importances(url, "toy").reason


def test_a_drive_of_windows_is_part_of_the_path() -> None:
    url = storage_url(PureWindowsPath("C:\\Users\\Jo Doe\\runs\\50%\\study.db"))
    assert make_url(url).database == "C:/Users/Jo Doe/runs/50%/study.db"


def test_a_database_that_is_locked_is_waited_for_as_long_as_is_said(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "study.db", "toy", seed=0, startup_trials=1)
    with connect(tmp_path / "study.db") as database:
        assert database.execute("PRAGMA busy_timeout").fetchone() == (BUSY_SECONDS * 1000,)
    with open_storage(storage_url(tmp_path / "study.db")).engine.connect() as connection:
        assert connection.execute(text("PRAGMA busy_timeout")).scalar() == BUSY_SECONDS * 1000
    assert ledger.trials() == []


def test_a_locked_database_is_told_from_other_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("search.tuning.database.BUSY_SECONDS", 0.0)
    monkeypatch.setattr("search.tuning.optuna_storage.BUSY_SECONDS", 0.0)
    ledger = Ledger(tmp_path / "study.db", "toy", seed=0, startup_trials=1)
    with connect(tmp_path / "study.db") as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(optuna.exceptions.StorageInternalError) as caught:
            ledger.study.set_user_attr("asked", True)  # Optuna tries a new trial again for seconds
    assert outer_trouble(caught.value) == "database is locked"
    assert outer_trouble(ValueError("database is locked")) is None


def test_a_folder_whose_name_is_no_text_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"--runs: expected a folder whose name is text, got .*xe9"):
        storage_url(tmp_path / os.fsdecode(b"n\xe9") / "study.db")
