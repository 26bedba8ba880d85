"""The only writer of a study: asks Optuna, places trials, reports, prunes, tells, and leaves every file behind.

Events are taken in logical time (epochs trained on a slot so far, then trial number), never in order of arrival: each
slot's next event has a known time, and the coordinator waits for the slower one. So the same study under the same seed
gives the same numbers, whatever the machine does meanwhile, killed and resumed included.
"""

import importlib.metadata
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from math import isnan
from pathlib import Path
from typing import Any

import optuna
import yaml
from optuna.trial import Trial, TrialState

from metrics.onset import Onset, confirmed_onset, find_onset
from metrics.trajectory import Trajectory
from search.errors import StudyError, WorkerError
from search.events import (
    Checkpointed,
    Doing,
    Failed,
    GoOn,
    Lost,
    Prepared,
    Stop,
    TrialSpec,
    Unprepared,
    load_readings,
)
from search.live import Board
from search.pruner import describe
from search.record import StudyFolder, TrialRecord, write_bytes
from search.storage import FINISHED, Ledger
from search.study import Study
from search.tidy import tidy_trial
from search.workers import Team
from trainer.config import TrainConfig

_SLOT, _BEGAN, _STARTUP, _PROCESSED, _TRAINED = "slot", "began", "startup", "processed", "epochs_trained"
_MOST_RETRIES = 3
_PACKAGES = ("onset", "torch", "diffusers", "transformers", "peft", "open_clip_torch", "optuna", "numpy")


@dataclass
class _Running:
    """A trial on a slot."""

    trial: Trial
    record: TrialRecord
    config: TrainConfig
    processed: int = 0
    trajectory: Trajectory = field(default_factory=Trajectory)
    retries: int = 0

    @property
    def due(self) -> int:
        """Epoch of the next checkpoint."""
        step = self.config.save_every_n_epochs
        return min(self.processed // step * step + step, self.config.epochs)


@dataclass
class _Slot:
    """A place on a worker.

    `clock`: epochs of the trials that ended here; `events`: what has arrived and is not yet due.
    """

    index: int
    clock: int = 0
    running: _Running | None = None
    events: deque[Checkpointed | Failed] = field(default_factory=deque)

    @property
    def time(self) -> tuple[int, int]:
        """Logical time of the next event."""
        assert self.running is not None
        return self.clock + self.running.due, self.running.trial.number


class Coordinator:
    """Runs a study to the end of its budget.

    Args:
        study: what to do.
        folder: where its files go.
        team: workers, started or about to be.
        board: what is shown while it runs.
        before_tell: called with a trial and its record when all of its files are there and Optuna can still be
            written to for it (artifacts).
    """

    def __init__(
        self,
        study: Study,
        folder: StudyFolder,
        team: Team,
        board: Board,
        *,
        spent_seconds: float = 0.0,
        before_tell: Callable[[Trial, TrialRecord], None] | None = None,
    ) -> None:
        self.study, self.folder, self.team, self.board = study, folder, team, board
        self._before_tell = before_tell
        self._ledger = Ledger(folder.database, study.name, seed=study.seed, startup_trials=study.budget.startup)
        self._slots = [_Slot(index) for index in range(team.count)]
        self._prepared = [False] * team.count
        self._began = time.monotonic() - spent_seconds
        self._versions = _versions()
        self._waiting: list[int] = []  # running in Optuna, on no slot yet
        self._take_up()

    @property
    def optuna_study(self) -> optuna.Study:
        """The Optuna study, for what is published about it at the end."""
        return self._ledger.study

    def run(self) -> None:
        """Ask, wait, decide, until the budget is spent and every trial has ended.

        Raises:
            StudyError: the workers found that the study's input is wrong.
            WorkerError: the workers cannot work.
        """
        while True:
            self._fill()
            busy = [slot for slot in self._slots if slot.running is not None]
            if not busy:
                return
            slot = min(busy, key=lambda s: s.time)
            event = self._next_event(slot)
            if isinstance(event, Failed):
                self._failed(slot, event)
            else:
                self._checkpointed(slot, event)

    # --- taking up where an earlier sitting stopped

    def _take_up(self) -> None:
        """Rebuild slots and clocks from what Optuna and the trials' folders hold."""
        for trial in self._ledger.trials():
            index = trial.user_attrs.get(_SLOT, -1)
            if trial.state in FINISHED:
                self.board.ended(TrialRecord.load(self.folder.trial(trial.number)))
                if 0 <= index < len(self._slots):
                    self._slots[index].clock = trial.user_attrs[_BEGAN] + trial.user_attrs.get(_TRAINED, 0)
            elif 0 <= index < len(self._slots) and self._slots[index].running is None:
                self._slots[index].clock = trial.user_attrs[_BEGAN]
                self._resume(self._slots[index], trial.number)
            else:  # killed between ask and placing, or there are fewer slots now
                self._waiting.append(trial.number)

    def _resume(self, slot: _Slot, number: int) -> None:
        trial, params = self._ledger.reattach(number, self.study.space)
        trial.set_user_attr(_SLOT, slot.index)
        trial.set_user_attr(_BEGAN, slot.clock)
        self._place(slot, trial, params)

    # --- asking and placing

    def _fill(self) -> None:
        for slot in self._slots:
            if slot.running is not None:
                continue
            if self._waiting:
                self._resume(slot, self._waiting.pop(0))
            elif self._may_ask():
                attributes = {_SLOT: slot.index, _BEGAN: slot.clock, _STARTUP: self._ledger.starting_up}
                trial, params = self._ledger.ask(self.study.space, attributes)
                self._place(slot, trial, params)

    def _may_ask(self) -> bool:
        budget = self.study.budget
        in_time = budget.hours is None or time.monotonic() - self._began < budget.hours * 3600
        return in_time and len(self._ledger.trials()) < budget.trials

    def _place(self, slot: _Slot, trial: Trial, params: dict[str, Any]) -> None:
        config = self.study.config(params)
        for key, value in describe(config).items():
            trial.set_user_attr(key, value)
        number = trial.number
        folder = self.folder.trial(number)
        record = TrialRecord(
            number=number,
            state="running",
            config=config.model_dump(mode="json"),
            params=params,
            epochs=config.epochs,
            startup=bool(trial.user_attrs.get(_STARTUP, True)),
            versions=self._versions,
            seeds={"train": config.seed, "probe": self.study.score.seed},
            dataset=self.study.dataset,
        )
        running = _Running(trial, record, config)
        for epoch in range(trial.user_attrs.get(_PROCESSED, 0) + 1):
            if epoch and Checkpointed.file(folder, epoch).is_file():
                running = _after(running, Checkpointed.load(folder, number, epoch), folder)
        slot.running = running
        slot.events.clear()
        fields = config.model_dump(mode="json", exclude_defaults=True)
        write_bytes(folder / "config.yaml", yaml.safe_dump(fields, sort_keys=False).encode())
        running.record.save(folder)
        self.board.began(slot.index, running.record)
        self._send_spec(slot)

    def _send_spec(self, slot: _Slot) -> None:
        assert slot.running is not None
        number = slot.running.trial.number
        spec = TrialSpec(number, self.folder.trial(number), slot.running.config, slot.running.processed)
        self.team.send(slot.index, spec)

    # --- events

    def _next_event(self, slot: _Slot) -> Checkpointed | Failed:
        while not slot.events:
            for index, message in self.team.receive(timeout=1.0):
                self._take(self._slots[index], message)
        return slot.events.popleft()

    def _take(self, slot: _Slot, message: Any) -> None:
        """Sort one message in, without deciding anything."""
        if isinstance(message, Checkpointed | Failed):
            current = slot.running
            if current is not None and message.number == current.trial.number and message.epoch > current.processed:
                slot.events.append(message)
        elif isinstance(message, Doing):
            self.board.doing(slot.index, message)
        elif isinstance(message, Prepared):
            self._prepared[slot.index] = True
            self.board.prepared(slot.index, message)
        elif isinstance(message, Unprepared):
            raise (
                StudyError([f"{self.study.file}: {message.error}"])
                if message.wrong_input
                else WorkerError(message.error)
            )
        elif isinstance(message, Lost):
            self._lost(slot, message)

    def _lost(self, slot: _Slot, lost: Lost) -> None:
        """The worker is new: it gets the same trial again, which goes on from its newest checkpoint."""
        self._prepared[slot.index] = False
        running = slot.running
        if running is None:
            return
        slot.events.clear()
        self.board.note(f"trial {running.trial.number}: worker lost ({lost.reason}); going on from its last checkpoint")
        running.retries += 1
        if running.retries > _MOST_RETRIES:
            slot.events.append(
                Failed(running.trial.number, running.due, f"its worker was lost {running.retries} times", again=False)
            )
            return
        self._send_spec(slot)

    def _failed(self, slot: _Slot, event: Failed) -> None:
        running = slot.running
        assert running is not None
        if event.again and running.retries < _MOST_RETRIES:
            running.retries += 1
            self.board.note(f"trial {event.number}: {event.error}; trying again")
            self._send_spec(slot)
            return
        running.record = replace(running.record, error=event.error)
        self._end(slot, TrialState.FAIL, "failed", None)

    def _checkpointed(self, slot: _Slot, event: Checkpointed) -> None:
        running = slot.running
        assert running is not None
        running = slot.running = _after(running, event, self.folder.trial(event.number))
        running.retries = 0
        self._ledger.report(running.trial, event.epoch, event.readings.score)
        stop = self.study.stop
        onset = confirmed_onset(running.trajectory) if stop.onset else None
        if onset is not None:
            self._end(slot, TrialState.COMPLETE, "onset", onset)
        elif event.epoch >= running.config.epochs:
            self._end(slot, TrialState.COMPLETE, "horizon", find_onset(running.trajectory))
        elif stop.prune and running.trial.should_prune():
            self._end(slot, TrialState.PRUNED, "pruned", find_onset(running.trajectory))
        else:
            running.record.save(self.folder.trial(event.number))
            self.board.checkpointed(slot.index, running.record, event.readings)
            running.trial.set_user_attr(_PROCESSED, event.epoch)
            self.team.send(slot.index, GoOn(event.number, event.epoch))

    def _end(self, slot: _Slot, state: TrialState, why: str, onset: Onset | None) -> None:
        """Leave every file of the trial behind, then tell Optuna."""
        running = slot.running
        assert running is not None
        number, folder = running.trial.number, self.folder.trial(running.trial.number)
        self.team.send(slot.index, Stop(number, running.processed))
        shipped = onset.best if onset is not None and state != TrialState.FAIL else None
        scores = {r.epoch: r.score for r in running.trajectory.readings}
        score = scores.get(shipped) if shipped is not None else None
        if state == TrialState.COMPLETE and (score is None or isnan(score)):
            state, why = TrialState.FAIL, "failed"
            running.record = replace(
                running.record, error="its checkpoints have no score (no encoder could judge them)"
            )
        names = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}
        record = replace(
            running.record,
            state=names[state],
            stopped=why,
            epoch_shipped=shipped,
            onset=None if onset is None else asdict(onset),
            score=score,
            value={"complete": score, "pruned": scores.get(running.processed)}.get(names[state]),
        )
        if len(running.trajectory):
            running.trajectory.save(folder)
        tidy_trial(folder, record, self.study.keep)
        record.save(folder)
        running.trial.set_user_attr(_TRAINED, running.processed)
        if shipped is not None:
            running.trial.set_user_attr("epoch_shipped", shipped)
        if self._before_tell is not None:
            self._before_tell(running.trial, record)
        self._ledger.tell(running.trial, state, score)
        slot.clock += running.processed
        slot.running = None
        slot.events.clear()
        self.board.ended(record)


def _after(running: _Running, event: Checkpointed, folder: Path) -> _Running:
    """The trial with one more checkpoint; before the first one comes the base, which its folder holds as epoch 0."""
    trajectory = running.trajectory
    if not len(trajectory):
        trajectory = Trajectory((load_readings(Checkpointed.file(folder, 0))[0],))
    record = running.record
    timings = {k: record.timings.get(k, 0.0) + v for k, v in event.timings.items()}
    memory = {k: max(record.memory.get(k, 0.0), v) for k, v in event.memory.items()}
    return replace(
        running,
        record=replace(record, epochs_trained=event.epoch, timings=timings, memory=memory),
        trajectory=trajectory.append(event.readings),
        processed=event.epoch,
    )


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
