"""One trial's files put right: what is damaged is rebuilt from Optuna and the other files, or set aside and told."""

import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from math import isclose, isnan
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from metrics.errors import MetricsError
from metrics.onset.onset import confirmed_onset, find_onset
from metrics.trajectory.trajectory import Trajectory
from search.errors import DamagedError
from search.record.events import Checkpointed, load_readings
from search.record.json_files import write_bytes
from search.record.record import StudyFolder, TrialRecord
from search.record.set_aside import set_aside
from search.record.trial_progress import Course
from search.record.twins import Twins
from search.recovery.rebuild import STATES, fields_of, scores_of
from search.study.study import Study
from search.tuning.ledger import PROCESSED, SEARCHED, SHIPPED, STARTUP, TRAINED
from search.tuning.tally import SLOT, placed_here
from trainer.checkpoint import LORA_FILE, STATE_FILE, checkpoints, lora_damage, newest_state, state_damage

_NAMES = {state: name for name, state in STATES.items()}
_FOLDER = "its folder"
_END_OF_PNG = b"IEND\xaeB`\x82"


def mend_trial(study: Study, folder: StudyFolder, row: FrozenTrial) -> list[str]:
    """Put one trial's folder right; returns what was done and what is lost, in a line each.

    Args:
        row: the trial as Optuna has it; others' trials are left alone.
    """
    if not placed_here(row, study.name) or row.state == TrialState.WAITING:
        return []
    said: list[str] = []
    say = said.append
    home = folder.trial(row.number)
    _mend_pictures(folder, row.number, say)
    _mend_readings(folder, home, say)
    if row.state.is_finished():
        _mend_ended(study, folder, row, say)
    else:
        _mend_checkpoints(home, say)
    return [f"trial {row.number}: {line}" for line in said]


def _mend_pictures(folder: StudyFolder, number: int, say: Callable[[str], None]) -> None:
    """Remove pictures that were cut short: sheets and plots are drawn again, the base's images copied."""
    home, lost = folder.trial(number), []
    for name in ("sheet.png", "onset.png", "behaviour.png"):
        if (home / name).is_file() and not _ends(home / name):
            (home / name).unlink()
            say(f"{name} is damaged: drawn again")
    for path in sorted((home / "samples").glob("[0-9]*.png")):
        if not _ends(path):
            path.unlink()
            lost.append(path)
    first, kept = folder.samples_file(number, 0), folder.cache / "probe" / "base.png"
    if (home / "samples").is_dir() and not first.is_file() and kept.is_file() and _ends(kept):
        write_bytes(first, kept.read_bytes())
        say("the base's images are damaged or missing: copied from the probe")
        lost = [path for path in lost if path != first]
    if lost:
        say(f"images of epoch {', '.join(str(int(path.stem)) for path in lost)} are damaged: left out of the sheets")


def _ends(path: Path) -> bool:
    """Whether a PNG is as long as it should be; whether it is as it was is seen when it is read."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - len(_END_OF_PNG)))
        return file.read() == _END_OF_PNG


def _mend_readings(folder: StudyFolder, home: Path, say: Callable[[str], None]) -> None:
    """Remove readings that cannot be read; the base's are the same for every trial."""
    for epoch in Checkpointed.epochs(home):
        path = Checkpointed.file(home, epoch)
        if _readable(path, epoch):
            continue
        path.unlink()
        if epoch:
            say(f"the readings of epoch {epoch} are damaged: measured again")
    first, kept = Checkpointed.file(home, 0), folder.cache / "probe" / "base_readings.npz"
    if Checkpointed.epochs(home) and not first.is_file():
        if _readable(kept, 0):
            write_bytes(first, kept.read_bytes())
        say("the base's readings are damaged or missing: taken from the probe")


def _readable(path: Path, epoch: int) -> bool:
    try:
        readings, about = load_readings(path)
        return readings.epoch == epoch and (epoch == 0 or {"timings", "memory"} <= about.keys())
    except Exception:  # zip, numpy and JSON each raise kinds of their own
        return False


def _mend_checkpoints(home: Path, say: Callable[[str], None]) -> None:
    """Remove checkpoints of a trial under way that are not whole: training goes back to the newest that is."""
    folder = home / "checkpoints"
    damaged = [(path, damage) for path in checkpoints(folder) if (damage := _checkpoint_damage(path)) is not None]
    for path, _ in damaged:
        shutil.rmtree(path)
    newest = newest_state(folder)
    for path, damage in damaged:
        goes_back = newest is None or int(newest.name) < int(path.name)
        back = ": trained again from the checkpoint before it" if goes_back else ""
        say(f"the checkpoint of epoch {int(path.name)} is damaged ({damage}){back}")


def _checkpoint_damage(path: Path) -> str | None:
    return lora_damage(path) or (state_damage(path) if (path / STATE_FILE).exists() else None)


def _mend_ended(study: Study, folder: StudyFolder, row: FrozenTrial, say: Callable[[str], None]) -> None:
    home = folder.trial(row.number)
    measured = bool(Checkpointed.epochs(home))
    try:
        record: TrialRecord | None = TrialRecord.load(home, searched=True)
    except DamagedError:
        record = None
    lost = [part for part in (record.lost.split(", ") if record else []) if part]  # known since an earlier sitting
    if not home.is_dir():
        say("its folder is gone. It still counts in the study, but its pictures, its curve and its LoRA are lost")
        lost.append(_FOLDER)
    fields = _fields(study, row)
    right = record is not None and _agrees(record, row, fields, measured)
    trajectory = _trajectory(home, row, say, lost)
    if trajectory is None and measured and fields is not None:
        trajectory = _replayed(study, row, fields, home)
        if trajectory is not None:
            trajectory.save(home)
            say("trajectory.csv is damaged or missing: written again from the readings")
            lost = [what for what in lost if what not in ("trajectory.csv", "items.npz")]
    if not right:
        path = home / "record.json"
        if fields is None:
            say("Optuna's values do not fit what the study searches: it is left as it is")
            return
        if home.is_dir():
            kept = f" (what was there: {set_aside(path).name})" if path.exists() and path.stat().st_size else ""
            say(f"record.json is damaged or missing: rebuilt from Optuna{kept}")
        record = _rebuilt(study, row, fields, trajectory).with_average(home).with_taken(home)
    assert record is not None
    shipped = record.with_twins(Twins.load(home)).epoch_shipped
    lora = folder.checkpoint(row.number, shipped or 0)
    if (lora / LORA_FILE).exists() and (damage := lora_damage(lora)) is not None:
        kept = set_aside(lora / LORA_FILE).name
        say(f"the LoRA of epoch {shipped}, the one to ship, is damaged ({damage}): set aside as {kept}")
        lost.append("its LoRA")
    marked = ", ".join(dict.fromkeys(lost))
    if not right or marked != record.lost:
        replace(record, lost=marked).save(home)


def _fields(study: Study, row: FrozenTrial) -> dict[str, Any] | None:
    try:
        fields = fields_of(row, study)
        study.config(fields)
        return fields
    except Exception:  # a row of another space, or one that ended before it had all values
        return None


def _agrees(record: TrialRecord, row: FrozenTrial, fields: dict[str, Any] | None, measured: bool) -> bool:
    """Whether a record says what Optuna was told. As long as the readings are there, the coordinator settles it."""
    if record.state != _NAMES[row.state]:
        return measured
    if fields is not None and dict(record.params) != fields:
        return False
    if row.state == TrialState.COMPLETE and record.stopped != "told":
        return record.value is not None and record.value == row.value
    return True


def _trajectory(home: Path, row: FrozenTrial, say: Callable[[str], None], lost: list[str]) -> Trajectory | None:
    """The trial's trajectory, as far as it can be trusted: its scores are those that Optuna was told."""
    if _FOLDER in lost or not row.intermediate_values:
        return None
    if not (home / "trajectory.csv").is_file():
        if "trajectory.csv" not in lost and not Checkpointed.epochs(home):
            say("trajectory.csv is missing: its curve is lost, its score is not")
        lost.append("trajectory.csv")
        return None
    try:
        trajectory = Trajectory.load(home)
    except MetricsError:
        items = home / "items.npz"
        if not items.is_file():
            _give_up(home, say, lost)
            return None
        try:
            with_items = set_aside(items)
            trajectory = Trajectory.load(home)
        except MetricsError:
            with_items.rename(items)
            _give_up(home, say, lost)
            return None
        lost.append("items.npz")
        say(
            f"items.npz is damaged (set aside as {with_items.name}): its curve is there, "
            "the numbers of single images are not"
        )
    scores = scores_of(home)
    told = {epoch: value for epoch, value in row.intermediate_values.items() if epoch > 0}
    if any(not _same(scores.get(epoch, float("nan")), value) for epoch, value in told.items()):
        _give_up(home, say, lost)
        return None
    if not (home / "items.npz").is_file() and "items.npz" not in lost:
        lost.append("items.npz")
        say("items.npz is missing: its curve is there, the numbers of single images are not")
    return trajectory


def _give_up(home: Path, say: Callable[[str], None], lost: list[str]) -> None:
    kept = set_aside(home / "trajectory.csv")
    lost.append("trajectory.csv")
    say(f"trajectory.csv is damaged (set aside as {kept.name}): its curve is lost, its score is not")


def _same(one: float, other: float) -> bool:
    return (isnan(one) and isnan(other)) or isclose(one, other, rel_tol=1e-9, abs_tol=1e-12)


def _replayed(study: Study, row: FrozenTrial, fields: dict[str, Any], home: Path) -> Trajectory | None:
    """The trajectory once more from the readings, where they are all there."""
    decided = max(row.intermediate_values, default=0)
    fresh = _rebuilt(study, row, fields, None)
    with suppress(Exception):
        course = Course(replace(fresh, epochs_trained=0), decided).replayed(home)
        if course.processed == decided:
            return course.trajectory
    return None


def _rebuilt(study: Study, row: FrozenTrial, fields: dict[str, Any], trajectory: Trajectory | None) -> TrialRecord:
    """What Optuna and the trajectory know of a trial that has ended; timings and versions are lost."""
    config, attributes = study.config(fields), row.user_attrs
    trained = attributes.get(TRAINED, max([attributes.get(PROCESSED, 0), *row.intermediate_values]))
    state, shipped = _NAMES[row.state], attributes.get(SEARCHED, attributes.get(SHIPPED))
    stopped = state if state != "complete" else "horizon" if trained >= config.epochs else "onset"
    onset = None
    if trajectory is not None and len(trajectory) > 1 and state != "failed":
        ship = study.score.ship
        onset = confirmed_onset(trajectory, ship=ship) if stopped == "onset" else None
        onset = onset or find_onset(trajectory, ship=ship)
        onset = onset if shipped is None else replace(onset, best=shipped)
    score = row.value if state == "complete" else row.intermediate_values.get(shipped or 0)
    return TrialRecord(
        number=row.number,
        state=state,
        config=config,
        params=fields,
        epochs=config.epochs,
        epochs_trained=trained,
        epoch_shipped=shipped,
        stopped=stopped,
        onset=onset,
        score=score,
        value=row.value if state != "failed" else None,
        startup=bool(attributes.get(STARTUP, False)),
        seeds={"train": config.seed, "probe": study.score.seed},
        dataset=study.dataset,
        error="its record was lost; what Optuna knows of it is here" if state == "failed" else None,
        slot=attributes.get(SLOT),
        began=attributes.get("began"),
        finished_run=study.finished_run,
        final=study.kind.final,
        objective="" if study.objective is None else study.objective.name,
        own_score=_own_score(study, trajectory, shipped),
    )


def _own_score(study: Study, trajectory: Trajectory | None, epoch: int | None) -> float | None:
    if study.objective is None or trajectory is None or epoch not in trajectory.epochs:
        return None
    return float(trajectory.own_scores[trajectory.epochs == epoch][0])
