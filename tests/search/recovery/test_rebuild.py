"""Optuna's rows written anew from the trials' records: the same rows as the coordinator wrote."""

from dataclasses import replace
from datetime import datetime
from math import isnan, nan
from pathlib import Path

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

from search.record.events import Checkpointed
from search.record.record import StudyFolder, TrialRecord
from search.recovery.rebuild import LOST, rebuild, rebuild_there, scores_of
from search.study.study import Study
from search.tuning.database import storage_url
from search.tuning.ledger import BEGAN, PROCESSED, SHIPPED, TRAINED, Ledger
from search.tuning.pruner import OWNER
from search.tuning.tally import SLOT
from tests.search.recovery.planted_trials import make_trial

STATES = ("complete", "pruned", "failed", "running")
LENGTHS = {"complete": 8, "pruned": 6, "failed": 4, "running": 4}


def rows_in(database: Path, study: Study) -> list[FrozenTrial]:
    return optuna.load_study(study_name=study.name, storage=storage_url(database)).trials


def told(row: FrozenTrial) -> tuple[object, ...]:
    """What a row says, but for what only the dashboard shows."""
    return row.number, row.state, row.params, row.distributions, row.values, row.intermediate_values


def own_attributes(row: FrozenTrial, planted: FrozenTrial) -> dict[str, object]:
    return {name: row.user_attrs.get(name) for name in {*planted.user_attrs, TRAINED, SHIPPED, PROCESSED}}


def make_all(study: Study, folder: StudyFolder) -> tuple[dict[int, TrialRecord], list[FrozenTrial]]:
    records, rows = {}, []
    for number, state in enumerate(STATES):
        record, row = make_trial(study, folder, number, state=state, trained=LENGTHS[state], kept=state == "running")
        records[number] = record
        rows.append(row)
    return records, rows


@pytest.mark.parametrize("where", ["its own database", "a server"])
def test_rows_come_back_as_they_were_written(study, folder, tmp_path: Path, where: str) -> None:
    records, rows = make_all(study, folder)
    began = datetime.now()
    database = folder.database if where == "its own database" else tmp_path / "server.db"
    if where == "a server":
        ledger = Ledger(database, study.name, seed=0, startup_trials=1)
        rebuild_there(ledger, study, folder, records, 5)
        assert list(map(told, ledger.trials())) == list(map(told, rows_in(database, study)))
    else:
        rebuild(study, folder, [], records, 5)
    *written, lost = rows_in(database, study)
    assert list(map(told, written)) == list(map(told, rows))
    for row, planted in zip(written, rows, strict=True):
        assert own_attributes(row, planted) == own_attributes(planted, planted)
        assert row.datetime_start is not None
        assert began <= row.datetime_start
    assert (lost.number, lost.state, lost.values) == (4, TrialState.FAIL, None)
    assert lost.user_attrs == {OWNER: study.name, LOST: True}
    shown = ["learning_rate" in row.user_attrs for row in written]
    assert shown == [True, True, True, False], "what has ended is shown in the dashboard"


def test_what_a_record_does_not_say_is_zero(study, folder) -> None:
    record, _ = make_trial(study, folder, 0)
    rebuild(study, folder, [], {0: replace(record, slot=None, began=None)}, 1)
    (row,) = rows_in(folder.database, study)
    assert (row.user_attrs[SLOT], row.user_attrs[BEGAN]) == (0, 0)


def test_a_pruned_trial_without_its_curve_keeps_its_last_score(study, folder) -> None:
    records = {}
    for number, state in enumerate(("pruned", "complete", "failed", "pruned")):
        records[number], _ = make_trial(study, folder, number, state=state, trained=6)
        (folder.trial(number) / "trajectory.csv").unlink()
    records[3] = replace(records[3], value=None)
    rebuild(study, folder, [], records, 4)
    rows = rows_in(folder.database, study)
    assert [row.intermediate_values for row in rows] == [{6: records[0].value}, {}, {}, {}]
    assert [row.value for row in rows] == [records[0].value, records[1].value, None, None]


def test_a_trial_under_way_is_decided_on_as_far_as_its_record_says(study, folder) -> None:
    record, row = make_trial(study, folder, 0, state="running", trained=4, kept=True)
    home = folder.trial(0)
    four = Checkpointed.load(home, 0, 4)
    replace(four, epoch=6, readings=replace(four.readings, epoch=6)).save(home)
    undecided, _ = make_trial(study, folder, 1, state="running", trained=4, kept=True)
    Checkpointed.file(folder.trial(1), 4).unlink()
    rebuild(study, folder, [], {0: record, 1: undecided}, 2)
    first, second = rows_in(folder.database, study)
    assert first.intermediate_values == row.intermediate_values
    assert first.user_attrs[PROCESSED] == 4
    assert list(second.intermediate_values) == [2]
    assert PROCESSED not in second.user_attrs


def test_a_row_counts_unless_its_trial_has_ended_and_it_has_not(study, folder) -> None:
    records, rows = make_all(study, folder)
    running = [make_trial(study, StudyFolder(folder.path / "other"), n, state="running", trained=2)[1] for n in (0, 1)]
    ended = replace(records[2], state="complete", value=0.5)
    rebuild(study, folder, [running[0], rows[1], rows[2], rows[3]], {**records, 2: ended}, 4)
    written = rows_in(folder.database, study)
    assert [row.state for row in written] == [row.state for row in rows]
    assert told(written[0]) == told(rows[0]), "the record has ended"
    assert [told(row) for row in written[1:]] == [told(row) for row in rows[1:]], "the rows count"
    assert written[3].user_attrs == rows[3].user_attrs


@pytest.mark.parametrize("kept", [True, False])
def test_the_database_before_is_kept_and_what_sqlite_left_beside_it_is_not(study, folder, kept: bool) -> None:
    record, _ = make_trial(study, folder, 0)
    if kept:
        folder.database.write_bytes(b"before")
    beside = [folder.path / f"study.db{end}" for end in ("-wal", "-shm", "-journal")]
    leftovers = [folder.path / f".study.db.rebuilding{end}" for end in ("", "-wal", "-journal")]
    for path in (*beside, *leftovers):
        path.write_bytes(b"torn")
    rebuild(study, folder, [], {0: record}, 1)
    assert len(rows_in(folder.database, study)) == 1
    aside = folder.path / "study.db.damaged"
    assert (aside.read_bytes() if kept else aside.exists()) == (b"before" if kept else False)
    assert not any(path.exists() for path in (*beside, *leftovers))


@pytest.mark.parametrize("state", ["complete", "pruned", "failed"])
def test_a_server_is_told_what_it_has_missed_and_only_that(study, folder, tmp_path: Path, state: str, recwarn) -> None:
    record, row = make_trial(study, folder, 0, state=state, trained=6)
    elsewhere, half = make_trial(study, StudyFolder(tmp_path / "half"), 0, state="running", trained=2)
    assert elsewhere.number == 0
    half.intermediate_values = {2: 0.125}  # told before: it stands
    ledger = Ledger(tmp_path / "server.db", study.name, seed=0, startup_trials=1)
    ledger.as_stored().add_trial(half)
    ledger.look()
    rebuild_there(ledger, study, folder, {0: record}, 1)
    assert not [warning for warning in recwarn if "already reported" in str(warning.message)]
    (now,) = rows_in(tmp_path / "server.db", study)
    value = {"complete": record.value, "pruned": record.value}.get(state)
    assert (now.state, now.value) == (row.state, value)
    assert now.intermediate_values == row.intermediate_values | {2: 0.125}
    assert now.user_attrs[TRAINED] == 6
    assert now.user_attrs.get(SHIPPED) == record.epoch_shipped
    assert [told(each) for each in ledger.trials()] == [told(now)], "and it is looked at anew"
    rebuild_there(ledger, study, folder, {0: replace(record, epochs_trained=2)}, 1)
    assert [told(each) for each in rows_in(tmp_path / "server.db", study)] == [told(now)], "what has ended stands"


@pytest.mark.parametrize(
    ("text", "scores"),
    [
        ("epoch,score\n0,0.5\n2,0.1\n4,0.30000000000000004\n", {2: 0.1, 4: 0.30000000000000004}),
        ("score,epoch\n0.25,1\n,3\n", {1: 0.25, 3: nan}),
        ("epoch,score\n2,high\n", {}),
        ("epoch,score\ntwo,0.5\n", {}),
        ("epoch,value\n2,0.5\n", {}),
        ("epoch,score\n2\n", {2: nan}),
        ("score,epoch\n0.5\n", {}),
        ("", {}),
        (None, {}),
    ],
)
def test_scores_are_read_to_the_last_bit_or_not_at_all(tmp_path: Path, text: str | None, scores) -> None:
    if text is not None:
        (tmp_path / "trajectory.csv").write_text(text)
    found = scores_of(tmp_path)
    assert found.keys() == scores.keys()
    assert all(found[epoch] == score or (isnan(score) and isnan(found[epoch])) for epoch, score in scores.items())
