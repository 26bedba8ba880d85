"""What a trial's record and folder say before anything of it is trained."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml

from search.record.finished_run import FinishedRun
from search.record.record import TrialRecord
from search.running.first_record import first_record, write_first
from search.study.study import load_study
from search.tuning.ledger import BEGAN, STARTUP
from search.tuning.tally import SLOT


@pytest.fixture
def record(write_study: Any) -> TrialRecord:
    study = load_study(write_study(train={"resolution": 64, "epochs": 6}, seed=11))
    trial = optuna.create_study().ask()
    for name, value in ((STARTUP, True), (SLOT, 3), (BEGAN, 40)):
        trial.set_user_attr(name, value)
    made = first_record(study, trial, {"rank": 8, "learning_rate_scale": 2.0}, {"onset": "1"})
    assert made.config == study.config({"rank": 8, "learning_rate_scale": 2.0})
    assert made.seeds == {"train": 11, "probe": study.score.seed}
    assert made.dataset == study.dataset
    return made


def test_it_says_where_it_runs_with_what_and_for_how_long(record: TrialRecord) -> None:
    assert (record.number, record.state, record.epochs, record.epochs_trained) == (0, "running", 6, 0)
    assert (record.startup, record.slot, record.began) == (True, 3, 40)
    assert (record.params, record.versions) == ({"rank": 8, "learning_rate_scale": 2.0}, {"onset": "1"})
    assert (record.finished_run, record.final, record.objective) == (None, None, "")


@pytest.mark.parametrize("trains", [True, False])
def test_the_folder_has_the_record_and_where_it_trains_the_settings(
    record: TrialRecord, tmp_path: Path, trains: bool
) -> None:

    known = record if trains else replace(record, finished_run=FinishedRun({1: "a.safetensors", 2: "b.safetensors"}))
    home = tmp_path / "0000"
    home.mkdir()
    write_first(known, home)
    assert TrialRecord.load(home) == known
    files = [path for path in home.iterdir() if path.name != "record.json"]
    assert len(files) == trains
    if trains:
        written = yaml.safe_load(files[0].read_text())
        assert (written["rank"], written["learning_rate_scale"], written["epochs"], written["seed"]) == (8, 2.0, 6, 11)
