"""A study's folder put right: a damaged database leaves the way, and trials that only their folders know come back."""

import json
from dataclasses import replace

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

from search.record.record import StudyFolder
from search.recovery.rebuild import LOST
from search.recovery.study_folder import recover
from search.study.study import Study
from search.tuning.database import storage_url
from tests.search.recovery.planted_trials import PARAMS, make_trial

SIDES = ("-wal", "-shm", "-journal")


def write_rows(folder: StudyFolder, name: str, rows: list[FrozenTrial]) -> None:
    study = optuna.create_study(storage=storage_url(folder.database), study_name=name, direction="maximize")
    for row in rows:
        study.add_trial(row)


def rows_in(folder: StudyFolder, study: Study) -> list[FrozenTrial]:
    return optuna.load_study(study_name=study.name, storage=storage_url(folder.database)).trials


def names(folder: StudyFolder) -> set[str]:
    return {path.name for path in folder.path.iterdir() if path.name.startswith("study.db")}


def test_a_folder_with_nothing_in_it_is_right(study, folder) -> None:
    assert recover(study, folder) == []
    assert not folder.path.exists()


def test_what_a_database_that_is_gone_left_is_set_aside(study, folder) -> None:
    folder.path.mkdir()
    for end in SIDES:
        (folder.path / f"study.db{end}").write_text(end)
    assert recover(study, folder) == []
    assert names(folder) == {f"study.db{end}.damaged" for end in SIDES}


@pytest.mark.parametrize("trials", [0, 1])
def test_a_damaged_database_is_set_aside_with_what_belongs_to_it(study, folder, trials: int) -> None:
    folder.path.mkdir()
    for number in range(trials):
        make_trial(study, folder, number)
    folder.database.write_text("no database")
    (folder.path / "study.db-wal").write_text("torn")
    why = f"{folder.database} is damaged (file is not a database): set aside as study.db.damaged"
    rebuilt = f"{folder.database} did not know of trials 0: rebuilt from their records"
    assert recover(study, folder) == [why, rebuilt][: 1 + trials]
    aside = {"study.db.damaged", "study.db-wal.damaged"}
    assert names(folder) == aside | ({"study.db"} if trials else set())
    assert (folder.path / "study.db.damaged").read_text() == "no database"
    assert recover(study, folder) == []


def test_a_database_of_other_studies_knows_of_no_trial(study, folder) -> None:
    _, row = make_trial(study, folder, 0)
    write_rows(folder, "dog", [row])
    assert recover(study, folder) == [f"{folder.database} did not know of trials 0: rebuilt from their records"]
    assert [each.state for each in rows_in(folder, study)] == [TrialState.COMPLETE]


def test_a_database_that_knows_all_trials_is_left_as_it_is(study, folder) -> None:
    rows = [make_trial(study, folder, number, state=state)[1] for number, state in enumerate(("complete", "failed"))]
    write_rows(folder, study.name, rows)
    before = folder.database.read_bytes()
    assert recover(study, folder) == []
    assert folder.database.read_bytes() == before
    assert names(folder) == {"study.db"}


@pytest.mark.parametrize("kept", [False, True])
def test_a_trial_that_ended_and_was_tidied_up_is_told_to_a_database_behind_it(study, folder, kept: bool) -> None:
    """As long as its readings are there the coordinator ends it once more, and nothing has to be rebuilt."""
    _, ended = make_trial(study, folder, 0)
    record, _ = make_trial(study, folder, 1, kept=kept)
    _, half = make_trial(study, StudyFolder(folder.path / "half"), 1, state="running", trained=4)
    write_rows(folder, study.name, [ended, half])
    said = f"{folder.database} did not know of trials 1: rebuilt from their records"
    assert recover(study, folder) == ([] if kept else [said])
    second = rows_in(folder, study)[1]
    assert (second.state, second.values) == (
        (TrialState.RUNNING, None) if kept else (TrialState.COMPLETE, [record.value])
    )


@pytest.mark.parametrize(
    ("params", "why"),
    [
        ({"rank": 4}, "a value is missing"),
        ({**PARAMS, "rank": -4}, "no rank"),
        ({**PARAMS, "rank": 16}, "not among those searched"),
        ({**PARAMS, "learning_rate_scale": 80.0}, "outside of what is searched"),
        (None, "torn"),
    ],
)
def test_a_record_that_does_not_fit_is_set_aside_and_its_number_kept(study, folder, params, why: str) -> None:
    make_trial(study, folder, 0)
    record, _ = make_trial(study, folder, 1)
    path = folder.trial(1) / "record.json"
    replace(record, params=params or {}).save(folder.trial(1))
    path.write_text("{" if params is None else path.read_text())
    before = path.read_bytes()
    lost = "trial 1: its record is lost (set aside as record.json.damaged): it counts as failed"
    first, second = recover(study, folder)
    assert first == f"{lost}, and its folder is left alone", why
    assert second == f"{folder.database} did not know of trials 0: rebuilt from their records"
    assert path.with_name("record.json.damaged").read_bytes() == before
    rows = rows_in(folder, study)
    assert [row.state for row in rows] == [TrialState.COMPLETE, TrialState.FAIL]
    assert rows[1].user_attrs[LOST] is True
    assert recover(study, folder) == []


def test_a_folder_without_a_record_counts_as_a_trial_that_failed(study, folder) -> None:
    (folder.trial(1) / "samples").mkdir(parents=True)
    said = "trial 1: its record is lost: it counts as failed, and its folder is left alone"
    assert recover(study, folder) == [said], "there is no record to rebuild from"
    assert [row.state for row in rows_in(folder, study)] == [TrialState.FAIL] * 2


def test_a_record_of_other_values_does_not_end_a_trial_that_optuna_has_running(study, folder) -> None:
    record, _ = make_trial(study, folder, 0)
    replace(record, params={**PARAMS, "rank": 16}).save(folder.trial(0))
    _, half = make_trial(study, StudyFolder(folder.path / "half"), 0, state="running", trained=4)
    write_rows(folder, study.name, [half])
    assert recover(study, folder) == []
    assert [row.state for row in rows_in(folder, study)] == [TrialState.RUNNING]


def test_trials_are_named_in_the_order_of_their_numbers(study, folder) -> None:
    for number in (2, 0, 1):
        make_trial(study, folder, number)
    _, half = make_trial(study, StudyFolder(folder.path / "half"), 0, state="running", trained=4)
    write_rows(folder, study.name, [half])
    (said,) = recover(study, folder)
    assert said == f"{folder.database} did not know of trials 0, 1, 2: rebuilt from their records"
    assert [row.state for row in rows_in(folder, study)] == [TrialState.COMPLETE] * 3


def test_each_trial_is_mended_by_its_row(study, folder) -> None:
    _, row = make_trial(study, folder, 0)
    write_rows(folder, study.name, [row])
    (folder.trial(0) / "record.json").unlink()
    assert recover(study, folder) == ["trial 0: record.json is damaged or missing: rebuilt from Optuna"]
    assert json.loads((folder.trial(0) / "record.json").read_text())["state"] == "complete"
