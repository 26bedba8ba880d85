"""A trial's course: what is known of it so far, read again from its folder whenever it is placed, and how it ends."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import takewhile
from math import isnan
from pathlib import Path

from metrics.onset.onset import find_onset
from metrics.onset.turns import Onset, Ship
from metrics.trajectory.readings import OWN_SCORE
from metrics.trajectory.trajectory import Trajectory
from search.record.events import Checkpointed, load_readings
from search.record.record import TrialRecord
from trainer.config.config import TrainConfig

_UNSCORED = "its checkpoints have no score (no encoder could judge them)"


@dataclass(frozen=True)
class Course:
    """A trial as far as it has come.

    Attributes:
        decided: epoch up to which it was decided that the trial goes on, before it was placed. What was decided
            stands: a checkpoint that has to be measured again is not decided on again.
    """

    record: TrialRecord
    decided: int = 0
    trajectory: Trajectory = field(default_factory=Trajectory)

    @property
    def config(self) -> TrainConfig:
        """What is trained."""
        return self.record.config

    @property
    def processed(self) -> int:
        """Epoch of the last checkpoint in the trajectory."""
        return self.record.epochs_trained

    @cached_property
    def due(self) -> int:
        """Epoch of the next checkpoint; asked of all trials at each event."""
        return next(looked_at(self.record, self.processed), self.config.epochs)

    def advanced(self, event: Checkpointed, folder: Path) -> "Course":
        """With one more checkpoint; before the first one comes the base, which the folder holds as epoch 0."""
        trajectory = self.trajectory
        if not len(trajectory):
            unit = "epoch" if self.record.finished_run is None else self.record.finished_run.unit
            trajectory = Trajectory((load_readings(Checkpointed.file(folder, 0))[0],), unit)
        timings = {k: self.record.timings.get(k, 0.0) + v for k, v in event.timings.items()}
        memory = {k: max(self.record.memory.get(k, 0.0), v) for k, v in event.memory.items()}
        record = replace(self.record, epochs_trained=event.epoch, timings=timings, memory=memory)
        return replace(self, record=record, trajectory=trajectory.append(event.readings))

    def replayed(self, folder: Path) -> "Course":
        """With what had been decided on, as far as its readings are there without a gap: what comes after a gap is
        trained and measured again."""
        course = self
        if not Checkpointed.file(folder, 0).is_file():  # the base's: the worker puts it there
            return course
        for epoch in looked_at(self.record, 0):
            if epoch > self.decided or not Checkpointed.file(folder, epoch).is_file():
                break
            course = course.advanced(Checkpointed.load(folder, self.record.number, epoch), folder)
        return course

    def ended(self, state: str, why: str, onset: Onset | None, error: str | None = None) -> TrialRecord:
        """The record of a trial that ends here; one that would be complete without a score has failed."""
        shipped = onset.best if onset is not None and state != "failed" else None
        if not self.record.has_epochs and state != "failed":
            shipped, onset = self.processed or None, None  # it has one checkpoint, and no onset
        scores = {r.epoch: r.score for r in self.trajectory.readings}
        score = scores.get(shipped) if shipped is not None else None
        own = next((r.channels.get(OWN_SCORE) for r in self.trajectory.readings if r.epoch == shipped), None)
        if state == "complete" and (score is None or isnan(score)):
            state, why, error = "failed", "failed", _UNSCORED
        return replace(
            self.record,
            state=state,
            stopped=why,
            epoch_shipped=shipped,
            onset=onset,
            score=score,
            own_score=None if own is None else own.value,
            value={"complete": score, "pruned": scores.get(self.processed)}.get(state),
            error=error,
        )

    def ended_elsewhere(self, state: str, ship: Ship) -> TrialRecord:
        """The record of a trial that another process has told Optuna about: what was measured until then counts, the
        value that it was given there does not."""
        judged = len(self.trajectory) > 1 and state != "failed"
        onset = find_onset(self.trajectory, ship=ship) if judged else None
        return self.ended(state, "told", onset, f"another process told Optuna that this trial is {state}")


def looked_at(record: TrialRecord, after: int) -> Iterator[int]:
    """Epochs after one at which a trial is looked at: those of a finished run's files, or every `save_every_n_epochs`
    and the horizon."""
    if record.finished_run is not None:
        yield from (count for count in record.finished_run.counts if count > after)
        return
    yield from checkpoint_epochs(record.config, after)


def checkpoint_epochs(config: TrainConfig, after: int = 0) -> Iterator[int]:
    """Epochs after one at which a trial with this config has a checkpoint."""
    step = config.save_every_n_epochs
    yield from range(after // step * step + step, config.epochs, step)
    if after < config.epochs:
        yield config.epochs


def measured_in_a_row(folder: Path, config: TrainConfig) -> list[int]:
    """Of these, those whose readings a trial's folder holds, from the first one on as far as none is missing."""
    kept = set(Checkpointed.epochs(folder))
    return list(takewhile(kept.__contains__, checkpoint_epochs(config)))
