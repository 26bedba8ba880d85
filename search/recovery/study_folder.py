"""A study's folder put right before it goes on: what a disk, a sync tool or a person did to it meanwhile.

What can be rebuilt is rebuilt, what cannot is set aside under a name of its own (never deleted, when it may hold
something), and each is said in a line. `search.recovery.trials` does the same for what belongs to one trial.
"""

import sqlite3
from collections.abc import Sequence
from contextlib import suppress

import optuna
from optuna.trial import FrozenTrial

from search.errors import DamagedError, StudyError
from search.record.events import Checkpointed
from search.record.record import StudyFolder, TrialRecord
from search.record.set_aside import set_aside
from search.recovery.rebuild import STATES, rebuild, rebuild_there, row_of, side_files
from search.recovery.trials import mend_trial
from search.study.study import Study
from search.tuning.database import connect, outer_trouble, storage_url
from search.tuning.ledger import Ledger
from search.tuning.optuna_storage import open_storage


def recover(study: Study, folder: StudyFolder, ledger: Ledger | None = None) -> list[str]:
    """Put the study's database and its trials' files right; to be called by the study's one process.

    Args:
        ledger: of a study on a server; None for one in `study.db`.

    Returns:
        what was done and what is lost, in a line each.

    Raises:
        StudyError: the database was written by another version of Optuna.
        sqlite3.OperationalError: it is locked by another program, or cannot be written.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    notes: list[str] = []
    rows = _rows(study, folder, notes) if ledger is None else ledger.trials()
    rows = _complete(study, folder, rows, notes, ledger)
    for row in rows:
        notes += mend_trial(study, folder, row)
    return notes


def _rows(study: Study, folder: StudyFolder, notes: list[str]) -> list[FrozenTrial]:
    """The study's trials in its database; a damaged database is set aside."""
    database = folder.database
    if not database.exists() and not database.is_symlink():
        for path in side_files(database):  # of a database that is gone: they would be taken for the new one's
            set_aside(path)
        return []
    try:
        with connect(database) as opened:
            (sound,) = opened.execute("PRAGMA quick_check(1)").fetchone()
        if sound != "ok":
            raise sqlite3.DatabaseError(sound)
        storage = open_storage(storage_url(database))
        names = {summary.study_name for summary in optuna.get_all_study_summaries(storage)}
        rows = optuna.load_study(study_name=study.name, storage=storage).trials if study.name in names else []
        storage.remove_session()
        storage.engine.dispose()
        return rows
    except StudyError:
        raise
    except Exception as error:
        if database.is_file() and outer_trouble(error):
            raise
        kept = set_aside(database)
        for path in side_files(database):
            set_aside(path)
        notes.append(f"{database} is damaged ({_short(error)}): set aside as {kept.name}")
        return []


def _complete(
    study: Study, folder: StudyFolder, rows: list[FrozenTrial], notes: list[str], ledger: Ledger | None
) -> list[FrozenTrial]:
    """The trials with those that only their folders know of: the database is gone, or older than they are."""
    records: dict[int, TrialRecord] = {}
    for number in folder.folders():
        with suppress(DamagedError):
            record = TrialRecord.load(folder.trial(number), searched=True)
            if _fits(study, record):
                records[number] = record
    unknown = [number for number in folder.folders() if number >= len(rows)]
    behind = [number for number, record in records.items() if number < len(rows) and _is_behind(folder, rows, record)]
    if not unknown and not behind:
        return rows
    for number in unknown:
        if number not in records:
            path = folder.trial(number) / "record.json"
            kept = f" (set aside as {set_aside(path).name})" if path.exists() else ""
            notes.append(f"trial {number}: its record is lost{kept}: it counts as failed, and its folder is left alone")
    numbers = max(len(rows), *(number + 1 for number in (*unknown, *behind)))
    if ledger is None:
        rebuild(study, folder, rows, records, numbers)
    else:
        rebuild_there(ledger, study, folder, records, numbers)
    known = [number for number in (*unknown, *behind) if number in records]
    if known:
        place, shown = folder.database if ledger is None else ledger.shown, ", ".join(map(str, sorted(known)))
        notes.append(f"{place} did not know of trials {shown}: rebuilt from their records")
    if ledger is not None:
        return ledger.trials()
    storage = open_storage(storage_url(folder.database))
    return optuna.load_study(study_name=study.name, storage=storage).trials


def _is_behind(folder: StudyFolder, rows: Sequence[FrozenTrial], record: TrialRecord) -> bool:
    """Whether a trial's record says that it has ended and was tidied up, which is done after Optuna was told."""
    told = rows[record.number].state.is_finished()
    return not told and record.state in STATES and not Checkpointed.epochs(folder.trial(record.number))


def _fits(study: Study, record: TrialRecord) -> bool:
    try:
        row_of(study, record, {})
    except Exception:  # a damaged record may hold anything
        return False
    return True


def _short(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
