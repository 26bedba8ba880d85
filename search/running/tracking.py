"""Trials in TensorBoard or Weights & Biases, by accelerate's trackers: one run for each, written by the coordinator.

What a run has is looked up before anything is added, so that a study that was killed goes on without a step twice. A
tracker's trouble ends no study: it is told once, and the study goes on without.
"""

import json
import math
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from optuna.trial import Trial

from metrics.trajectory.readings import Readings
from metrics.trajectory.trajectory import Trajectory
from search.errors import DamagedError
from search.record.events import Checkpointed, load_readings
from search.record.json_files import read_json, write_json
from search.record.record import StudyFolder, TrialRecord
from search.running.progress import Board
from search.study.study import Study
from search.verdict.private_paths import shareable

Values = dict[str, float]
_SEEN = "tracked.json"


def tracked(
    study: Study, folder: StudyFolder, board: Board, upload: Callable[[Trial, Path], object]
) -> Callable[[Trial, TrialRecord], None]:
    """What is done before Optuna is told of a trial's end: it is uploaded, and what the board shows from now on is
    logged, too, as far as the study asks for that.

    Args:
        upload: of a trial, and its folder.
    """
    tracking = Tracking(study, folder, board.note)
    board.track = tracking.seen

    def before_tell(trial: Trial, record: TrialRecord) -> None:
        tracking.seen(record)  # as long as its readings are there
        upload(trial, folder.trial(record.number))

    return before_tell


class Tracking:
    """The runs of a study.

    Args:
        say: told once where the tracker cannot go on.
    """

    def __init__(self, study: Study, folder: StudyFolder, say: Callable[[str], object]) -> None:
        self._study, self._folder, self._say = study, folder, say
        self._on = study.track.log_with is not None
        self._runs: dict[int, _Run] = {}

    def seen(self, record: TrialRecord) -> None:
        """Log what a trial has come to since: its checkpoints that were decided on, and its end."""
        if not self._on:
            return
        try:
            self._log(record)
        except Exception as error:  # a full disk, a server that is away, a key that is missing
            self._on = False
            text = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            self._say(
                f"track.log_with: {self._study.track.log_with} cannot go on, so the study does without it ({text})"
            )

    def _log(self, record: TrialRecord) -> None:
        home, number = self._folder.trial(record.number), record.number
        kept = _Kept.load(home, self._place)
        if kept.ended:
            return
        rows = dict(_rows(home, record, kept.epoch))
        ended = record.state != "running"
        if not rows and not ended:
            return
        if number not in self._runs:
            kept.save(home)  # its name in the tracker, before there is anything of it
            self._runs[number] = _opened(self._study, self._folder, record, kept)
        run = self._runs[number]
        for epoch, values in rows.items():
            run.log(epoch, values)
        if ended:
            run.log(record.epochs_trained, _end(record))
            self._runs.pop(number).close()
        _Kept(self._place, kept.run, max((kept.epoch, *rows)), ended).save(home)

    @property
    def _place(self) -> str:
        track = self._study.track
        return f"{track.log_with} {track.logging_dir or ''} {track.log_tracker_name or ''}"


@dataclass(frozen=True)
class _Kept:
    """What is known of a trial's run. run: its name in the tracker. epoch: up to which it has all."""

    place: str
    run: str
    epoch: int = -1
    ended: bool = False

    @classmethod
    def load(cls, home: Path, place: str) -> "_Kept":
        """A new one where there is none, it is damaged, or the study was tracked elsewhere."""
        try:
            found = cls(**read_json(home / _SEEN))
            if found.place == place:
                return found
        except (OSError, ValueError, TypeError, DamagedError):
            pass
        return cls(place, secrets.token_hex(4))

    def save(self, home: Path) -> None:
        write_json(home / _SEEN, asdict(self))


def _rows(home: Path, record: TrialRecord, after: int) -> Iterator[tuple[int, Values]]:
    """Epoch to what is logged, those after one (-1: from the base on), as far as it was decided that the trial goes on.
    Of a trial that ended before anybody logged it the losses in training are not known any more."""
    kept = [epoch for epoch in Checkpointed.epochs(home) if epoch <= record.epochs_trained]
    for epoch in (epoch for epoch in kept if epoch > after):
        readings, about = load_readings(Checkpointed.file(home, epoch))
        yield epoch, _values(readings) | ({"loss": about["loss"]} if "loss" in about else {})
    if not kept and (home / "trajectory.csv").is_file():
        for readings in Trajectory.load(home).readings:
            if readings.epoch > after:
                yield readings.epoch, _values(readings)


def _values(readings: Readings) -> Values:
    found = {f"readings/{name}": reading.value for name, reading in readings.channels.items()}
    found["score"] = readings.score
    return {name: value for name, value in found.items() if math.isfinite(value)}


def _end(record: TrialRecord) -> Values:
    """What came of a trial; beside its settings, to compare trials by."""
    found = {"final/score": record.score, "final/epoch_shipped": record.epoch_shipped}
    return {name: float(value) for name, value in found.items() if value is not None and math.isfinite(value)}


def _settings(record: TrialRecord) -> dict[str, Any]:
    """The hyperparameters: what was searched, and all that is not as usual; no path of this machine."""
    given = shareable(record.config).model_dump(mode="json", exclude_defaults=True) | dict(record.params)
    plain = {key: value for key, value in given.items() if value is not None}
    return {key: v if isinstance(v, bool | int | float | str) else json.dumps(v) for key, v in plain.items()}


class _Run(Protocol):
    """One trial in the tracker."""

    def log(self, epoch: int, values: Mapping[str, float]) -> None:
        """Add what is not there yet."""

    def close(self) -> None: ...


class _TensorBoard:
    def __init__(self, name: str, folder: Path, settings: Mapping[str, Any]) -> None:
        from accelerate.tracking import TensorBoardTracker

        self._there = _steps(folder / name)
        self._tracker = _started(TensorBoardTracker(name, logging_dir=str(folder)))
        if not self._there:
            # accelerate's own way makes a second run, named by the time, of the settings alone
            self._tracker.tracker.add_hparams(dict(settings), {}, run_name=".")

    def log(self, epoch: int, values: Mapping[str, float]) -> None:
        new = {name: value for name, value in values.items() if epoch not in self._there.get(name, ())}
        if new:
            self._tracker.log(new, step=epoch)

    def close(self) -> None:
        self._tracker.finish()


class _WeightsAndBiases:
    def __init__(
        self, name: str, project: str, group: str, run: str, folder: Path, settings: Mapping[str, Any]
    ) -> None:
        from accelerate.tracking import WandBTracker

        folder.mkdir(parents=True, exist_ok=True)
        # several runs at once, each with its settings from the start: wandb.config would be the last one's
        self._tracker = _started(
            WandBTracker(
                project,
                name=name,
                group=group,
                id=run,
                resume="allow",
                reinit="create_new",
                dir=str(folder),
                config=dict(settings),
            )
        )

    def log(self, epoch: int, values: Mapping[str, float]) -> None:
        if epoch >= self._tracker.tracker.step:  # it takes no step that lies behind
            self._tracker.log(dict(values), step=epoch)

    def close(self) -> None:
        self._tracker.finish()


def _opened(study: Study, folder: StudyFolder, record: TrialRecord, kept: _Kept) -> _Run:
    from accelerate import PartialState

    PartialState(cpu=True)  # the coordinator takes no GPU
    track, settings = study.track, _settings(record)
    where, trial = study.logging_dir or folder.path / "logs", f"trial-{record.number:04d}"
    project = track.log_tracker_name or study.name
    if track.log_with == "tensorboard":
        return _TensorBoard(f"{project}/{trial}-{kept.run}", where, settings)
    return _WeightsAndBiases(f"{study.name}-{trial}", project, study.name, f"{study.name}-{kept.run}", where, settings)


def _started(tracker: Any) -> Any:
    start = getattr(tracker, "start", None)  # accelerate's earlier versions begin at once
    if start is not None:
        start()
    return tracker


def _steps(folder: Path) -> dict[str, set[int]]:
    """Tag to the steps that a TensorBoard run has; of a file that was cut off, those before the cut."""
    if not any(folder.glob("events.out.tfevents.*")):
        return {}
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    found: dict[str, set[int]] = {}
    for path in sorted(folder.glob("events.out.tfevents.*")):
        for event in EventFileLoader(str(path)).Load():
            for value in event.summary.value:
                found.setdefault(value.tag, set()).add(event.step)
    return found
