"""A study's Optuna database, written anew from the trials' records when it is lost, damaged or older than they are."""

import contextlib
import csv
import shutil
from collections.abc import Mapping, Sequence
from math import nan
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from search.record.events import Checkpointed
from search.record.record import StudyFolder, TrialRecord
from search.record.set_aside import free_name
from search.study.study import Study
from search.tuning.database import storage_url
from search.tuning.ledger import BEGAN, PROCESSED, SHIPPED, STARTUP, TRAINED, Ledger
from search.tuning.optuna_storage import open_storage
from search.tuning.pruner import OWNER, describe
from search.tuning.tally import SLOT

STATES = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}
LOST = "lost"
"""User attribute of a row that only keeps a number: its trial's record and row are gone."""
_ASIDE = ".study.db.rebuilding"


def rebuild(
    study: Study, folder: StudyFolder, rows: Sequence[FrozenTrial], records: Mapping[int, TrialRecord], numbers: int
) -> None:
    """Write `study.db` with trials 0 to `numbers` - 1: each as its row has it, else from its record.

    A row counts as long as it has ended, or its trial has not. What neither has becomes a failed trial, so that no
    number is given twice. The new database takes the old one's place when it is whole.
    """
    aside = folder.path / _ASIDE
    _delete(aside)
    storage = open_storage(storage_url(aside))
    copy = optuna.create_study(storage=storage, study_name=study.name, direction="maximize")
    for number in range(numbers):
        row = rows[number] if number < len(rows) else None
        record = records.get(number)
        if record is not None and (row is None or not row.state.is_finished()) and record.state in STATES:
            _add_ended(copy, study, folder, record)
        elif row is not None:
            copy.add_trial(row)
        elif record is not None:
            copy.add_trial(_running(study, folder, record))
        else:
            copy.add_trial(create_trial(state=TrialState.FAIL, user_attrs={OWNER: study.name, LOST: True}))
    storage.remove_session()
    storage.engine.dispose()
    if folder.database.exists():
        shutil.copyfile(folder.database, free_name(folder.database))
    for path in side_files(folder.database):  # SQLite would take them for the new one's
        path.unlink(missing_ok=True)
    aside.replace(folder.database)


def rebuild_there(
    ledger: Ledger, study: Study, folder: StudyFolder, records: Mapping[int, TrialRecord], numbers: int
) -> None:
    """The same on a server, where other studies are: what is missing is added, and what was not told is told."""
    rows, there = ledger.trials(), ledger.as_stored()
    for number in range(numbers):
        record, row = records.get(number), rows[number] if number < len(rows) else None
        has_ended = record is not None and record.state in STATES
        if row is None and record is None:
            there.add_trial(create_trial(state=TrialState.FAIL, user_attrs={OWNER: study.name, LOST: True}))
        elif row is None and record is not None:
            if has_ended:
                _add_ended(there, study, folder, record)
            else:
                there.add_trial(_running(study, folder, record))
        elif row is not None and record is not None and has_ended and not row.state.is_finished():
            trial = Trial(there, row._trial_id)
            for epoch, score in scores_of(folder.trial(number)).items():
                if epoch not in row.intermediate_values:
                    trial.report(score, epoch)
            trial.set_user_attr(TRAINED, record.epochs_trained)
            if record.epoch_shipped is not None:
                trial.set_user_attr(SHIPPED, record.epoch_shipped)
            state = STATES[record.state]
            there.tell(trial, record.value if state == TrialState.COMPLETE else None, state=state)
    ledger.look()


def fields_of(row: FrozenTrial, study: Study) -> dict[str, Any]:
    """The searched TrainConfig fields of a trial, from its parameters in Optuna.

    Raises:
        ValueError: they do not fit what the study searches.
    """
    return study.space.suggest(optuna.trial.FixedTrial(row.params), lambda parameter: None)


def scores_of(folder: Path) -> dict[int, float]:
    """Epoch to score from a trial's `trajectory.csv`, to the last bit; empty where it cannot be read."""
    try:
        with (folder / "trajectory.csv").open(encoding="utf-8", newline="") as file:
            rows = [(int(row["epoch"]), float(row["score"] or nan)) for row in csv.DictReader(file)]
    except (OSError, ValueError, LookupError, TypeError, csv.Error):
        return {}
    return {epoch: score for epoch, score in rows if epoch > 0}


def _add_ended(copy: optuna.Study, study: Study, folder: StudyFolder, record: TrialRecord) -> None:
    """As the coordinator leaves a trial: reported, shown in the dashboard, told."""
    from search.verdict.artifacts import open_store, upload_trial

    scores = scores_of(folder.trial(record.number))
    if not scores and record.state == "pruned" and record.value is not None:
        scores = {record.epochs_trained: record.value}
    copy.add_trial(row_of(study, record, scores))
    trial = Trial(copy, copy.get_trials(deepcopy=False)[record.number]._trial_id)
    with contextlib.suppress(Exception):  # pictures must not cost the row
        upload_trial(trial, folder.trial(record.number), open_store(folder))
    state = STATES[record.state]
    copy.tell(trial, record.value if state == TrialState.COMPLETE else None, state=state)


def _running(study: Study, folder: StudyFolder, record: TrialRecord) -> FrozenTrial:
    """A trial under way, decided on as far as its record says."""
    home, scores = folder.trial(record.number), {}
    for epoch in Checkpointed.epochs(home):
        if 0 < epoch <= record.epochs_trained:
            scores[epoch] = Checkpointed.load(home, record.number, epoch).readings.score
    return row_of(study, record, scores)


def row_of(study: Study, record: TrialRecord, scores: Mapping[int, float]) -> FrozenTrial:
    """A record as Optuna's row, still running.

    Raises:
        ConfigError, KeyError, ValueError: its values do not fit what the study searches.
    """
    stored = study.space.stored(record.params)
    attributes = {
        OWNER: study.name,
        SLOT: record.slot or 0,
        BEGAN: record.began or 0,
        STARTUP: record.startup,
        **describe(study.config(record.params)),
    }
    if record.state in STATES:
        attributes[TRAINED] = record.epochs_trained
        if record.epoch_shipped is not None:
            attributes[SHIPPED] = record.epoch_shipped
    elif record.epochs_trained in scores:
        attributes[PROCESSED] = record.epochs_trained
    return create_trial(
        state=TrialState.RUNNING,
        params={name: value for name, (value, _) in stored.items()},
        distributions={name: distribution for name, (_, distribution) in stored.items()},
        intermediate_values=dict(scores),
        user_attrs=attributes,
    )


def _delete(database: Path) -> None:
    for path in (database, *side_files(database)):
        path.unlink(missing_ok=True)


def side_files(database: Path) -> list[Path]:
    """What SQLite keeps beside a database while it is open, or after a kill."""
    return [database.with_name(database.name + end) for end in ("-wal", "-shm", "-journal")]
