"""Single trials as the coordinator leaves them, in a second: their files, and their row as Optuna has it."""

from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial, TrialState, create_trial

from metrics.onset.onset import find_onset
from search.record.events import Checkpointed, save_readings
from search.record.json_files import write_bytes
from search.record.record import StudyFolder, TrialRecord
from search.record.trial_progress import Course
from search.running.first_record import first_record
from search.study.study import Study
from search.tuning.ledger import BEGAN, PROCESSED, SHIPPED, STARTUP, TRAINED
from search.tuning.pruner import OWNER, describe
from search.tuning.tally import SLOT
from tests.search.finished_studies import Plan, planted
from trainer.checkpoint import LORA_FILE, save_state

NUMBER = 1
PARAMS = {"rank": 4, "learning_rate_scale": 1.0}
_STATES = {
    "complete": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,
    "failed": TrialState.FAIL,
    "running": TrialState.RUNNING,
}


def make_trial(
    study: Study,
    folder: StudyFolder,
    number: int = 0,
    *,
    state: str = "complete",
    trained: int | None = None,
    stopped: str = "",
    kept: bool = False,
) -> tuple[TrialRecord, FrozenTrial]:
    """A trial's folder, its record and its row.

    Args:
        trained: epochs, the horizon if not given.
        stopped: why it ended, where its state does not say so.
        kept: its readings are still there, as they are until it is tidied up.
    """
    home = folder.trial(number)
    attributes: dict[str, Any] = {OWNER: study.name, SLOT: 1, BEGAN: 3 + number, STARTUP: number == 0}
    row = _row(study, number, TrialState.RUNNING, attributes, {}, None)
    course = Course(first_record(study, row, PARAMS, {}))
    trained = course.config.epochs if trained is None else trained
    readings = planted(Plan({}, quality=0.6), max(trained, 2), number).readings
    probe = folder.cache / "probe" / "base_readings.npz"
    save_readings(Checkpointed.file(home, 0), readings[0])
    if not probe.is_file():
        write_bytes(probe, Checkpointed.file(home, 0).read_bytes())
    for one in (one for one in readings if 0 < one.epoch <= trained):
        event = Checkpointed(number, one.epoch, one, {"train": 1.0}, {"rss_gib": 1.0})
        event.save(home)
        course = course.advanced(event, home)
    record = course.record
    if state != "running":
        onset = find_onset(course.trajectory, ship=study.score.ship) if state != "failed" else None
        record = course.ended(state, stopped or {"complete": "horizon"}.get(state, state), onset)
        attributes[TRAINED] = trained
        if record.epoch_shipped is not None:
            attributes[SHIPPED] = record.epoch_shipped
        if len(course.trajectory):
            course.trajectory.save(home)
    elif trained:
        attributes[PROCESSED] = trained
    record.save(home)
    if not kept:
        for epoch in Checkpointed.epochs(home):
            Checkpointed.file(home, epoch).unlink()
    told = {one.epoch: one.score for one in course.trajectory.readings if one.epoch}
    value = record.value if state in ("complete", "pruned") else None
    return record, _row(study, number, _STATES[state], attributes | describe(record.config), told, value)


def _row(
    study: Study,
    number: int,
    state: TrialState,
    attributes: dict[str, Any],
    told: dict[int, float],
    value: float | None,
) -> FrozenTrial:
    stored = study.space.stored(PARAMS)
    row = create_trial(
        state=state,
        value=value,
        params={name: value for name, (value, _) in stored.items()},
        distributions={name: distribution for name, (_, distribution) in stored.items()},
        intermediate_values=told,
        user_attrs=attributes,
    )
    row.number = number
    return row


def files(folder: StudyFolder) -> dict[str, bytes]:
    return {str(p.relative_to(folder.path)): p.read_bytes() for p in folder.path.rglob("*") if p.is_file()}


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def checkpoint(folder: StudyFolder, epoch: int, *, state: bool = True) -> Path:
    path = folder.checkpoint(NUMBER, epoch)
    path.mkdir(parents=True)
    header = b'{"up":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    (path / LORA_FILE).write_bytes(len(header).to_bytes(8, "little") + header + b"\0" * 4)
    if state:
        save_state(path, {"epoch": epoch})
    return path
