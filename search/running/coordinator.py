"""The only writer of a study: asks Optuna, places trials, reports, prunes, tells, and leaves every file behind.

Events are taken in logical time (epochs trained on a slot so far, then trial number), never in order of arrival: each
slot's next event has a known time, and the coordinator waits for the slower one. So the same study under the same seed
gives the same numbers, whatever the machine does meanwhile, killed and resumed included.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, Trial, TrialState

from metrics.onset.turns import Onset
from search.errors import WorkerError
from search.record import events
from search.record.clock import Clock
from search.record.events import Checkpointed, Doing, Failed, GoOn, Lost, Prepared, StopTrial, TrialSpec, Unprepared
from search.record.in_place import moved
from search.record.record import StudyFolder, TrialRecord
from search.record.trial_progress import Course
from search.record.versions import installed
from search.running.budget import why_not_asked
from search.running.first_record import first_record, write_first
from search.running.looks_ahead import LooksAhead
from search.running.progress import Board
from search.running.slots import Running, Slot, Turns, given_up, on_worker, one_by_one, refused, released, slots_of
from search.running.trial_end import end_of
from search.running.workers import Team
from search.study.study import Study
from search.tuning.ledger import BEGAN, FINISHED, PROCESSED, SHIPPED, STARTUP, TRAINED, Ledger
from search.tuning.pruner import describe
from search.tuning.tally import SLOT
from search.verdict.disk_cleanup import Tidier
from search.verdict.ranking import IN_DETAIL

_STATES = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}
_NAMES = {state: name for name, state in _STATES.items()}
_MOST_RETRIES = 3
_MOST_SUSPECTS = 3
"""Trials in a row that fail for an unforeseen reason, none reaching a checkpoint meanwhile: then it is the machine."""


class Coordinator:
    """Runs a study to the end of its budget.

    Args:
        study: what to do.
        folder: where its files go.
        team: workers, started or about to be.
        board: what is shown while it runs.
        clock: the time that the study has taken.
        places: trials that each worker has at once; None: its workers will say.
        ledger: the study's Optuna; None opens it without a lease.
        before_tell: called with a trial and its record when its files are there, before Optuna is told (artifacts).

    Attributes:
        optuna_study: for what is published about it at the end.
        ahead: looks of the finals, drawn by workers without a trial.
    """

    def __init__(
        self,
        study: Study,
        folder: StudyFolder,
        team: Team,
        board: Board,
        *,
        clock: Clock,
        places: int | None = 1,
        ledger: Ledger | None = None,
        before_tell: Callable[[Trial, TrialRecord], object] | None = None,
    ) -> None:
        self.study, self.folder, self.team, self.board, self._clock = study, folder, team, board, clock
        self._before_tell = before_tell
        self._ledger = ledger or Ledger.of(study, folder, say=board.note)
        self.optuna_study = self._ledger.study
        self._slots: list[Slot] = []
        self._turns: Turns  # of the slots, once there are any
        self._versions = installed()
        self._waiting: list[int] = []  # running in Optuna, on no slot yet
        self._suspects: list[Running] = []  # failed, not told to Optuna yet: it may be the machine
        most, whole = max(IN_DETAIL, study.num_finalists), study.num_twins > 0
        self._tidier = Tidier(folder, study.keep, most, whole=whole)
        self.ahead = LooksAhead(team, study.num_finalists)
        if places is not None:
            self._open(places)

    def run(self) -> None:
        """Ask, wait, decide, until the budget is spent and every trial has ended.

        Raises:
            StudyError: the workers found that the study's input is wrong.
            WorkerError: the workers cannot work.
        """
        while not self._slots:
            self._hear()
        while True:
            self._fill()
            self.ahead.give(self._slots, self._tidier.contenders, free=self._turns.free() is not None)
            slot = self._turns.due()
            if slot is None:
                break
            event = self._next_event(slot)
            self.check_place()
            with self._unless_ended_elsewhere(slot):
                if isinstance(event, Failed):
                    self._failed(slot, event)
                elif event is not None:
                    self._checkpointed(slot, event)
        if self._suspects and not any(trial.intermediate_values for trial in self._ledger.own()):
            raise given_up(self._suspects, self.folder.workers_log)
        self._clear_suspects()
        if left := sum(1 for _ in self._ledger.queued(self.study.space)):
            self.board.note(f"{left} queued trials are left. Raise budget.trials to run them")

    # --- taking up where an earlier sitting stopped

    def _open(self, places: int) -> None:
        """So many slots on each worker, with what an earlier sitting left on them."""
        self._slots = slots_of(self.team.count, places)
        self._turns = Turns(self._slots)
        self.board.opened(len(self._slots), places)
        self._take_up()

    def _take_up(self) -> None:
        """Rebuild slots and clocks from what Optuna and the trials' folders hold."""
        for trial in self._ledger.own():
            index, began = trial.user_attrs[SLOT], trial.user_attrs.get(BEGAN)
            here = began is not None and index < len(self._slots) and self._slots[index].running is None
            if trial.state in FINISHED:
                record = self._settle(trial)
                if here:
                    self._slots[index].clock = began + (0 if record is None else record.epochs_trained)
            elif here:
                self._slots[index].clock = began
                self._resume(self._slots[index], trial.number)
            else:  # there are fewer slots now
                self._waiting.append(trial.number)

    def _settle(self, trial: FrozenTrial) -> TrialRecord | None:
        """Optuna says that a trial has ended: let its record say so, too, and tidy what a kill left."""
        folder, state = self.folder.trial(trial.number), _NAMES[trial.state]
        if not (folder / "record.json").is_file():
            self.board.note(f"trial {trial.number} is {state}, but it has no record here: it is left out")
            return None
        record = TrialRecord.load(folder)
        if record.state != state:
            fresh = replace(record, epochs_trained=0, timings={}, memory={})
            course = Course(fresh, trial.user_attrs.get(PROCESSED, 0))
            course = course.replayed(folder)
            record = self._write_end(course, course.ended_elsewhere(state, self.study.score.ship))
        self._tidied(record)
        return record

    def _resume(self, slot: Slot, number: int) -> None:
        try:
            trial, params = self._ledger.reattach(number, self.study.space)
            if STARTUP not in trial.user_attrs:
                self._ledger.note(trial, **{STARTUP: self._ledger.starting_up})
            # the slot last: until it is one that exists, a trial waits for one
            self._ledger.note(trial, **{BEGAN: slot.clock, SLOT: slot.index})
            self._place(slot, trial, params)
        except UpdateFinishedTrialError:
            self._settle(self._ledger.trial(number))

    # --- asking and placing

    def _fill(self) -> None:
        while (slot := self._turns.free()) is not None and (self._waiting or self._may_ask()):
            next_ones = self._waiting or [self._ledger.ask(self.study.space, slot.index, slot.clock)]
            self._resume(slot, next_ones.pop(0))

    def _may_ask(self) -> bool:
        return why_not_asked(self.study, *self._ledger.tried, self._clock.seconds) is None

    def _place(self, slot: Slot, trial: Trial, params: dict[str, Any]) -> None:
        folder = self.folder.trial(trial.number)
        record = first_record(self.study, trial, params, self._versions)
        self._ledger.note(trial, **describe(record.config))
        course = Course(record, trial.user_attrs.get(PROCESSED, 0)).replayed(folder)
        self._turns.placed(slot, Running(trial, course))
        self.check_place()
        write_first(course.record, folder)
        self.board.began(slot.index, course.record)
        self._send_spec(slot)

    def _send_spec(self, slot: Slot) -> None:
        assert slot.running is not None
        number, course = slot.running.trial.number, slot.running.course
        folder, params = self.folder.trial(number), course.record.params
        spec = TrialSpec(number, folder, course.config, course.processed, params, slot.place)
        self.team.send(slot.worker, spec)

    # --- events

    def _next_event(self, slot: Slot) -> Checkpointed | Failed | None:
        """Waits for what happens next on a slot; None: its trial has to move to another one."""
        while not slot.events:
            self._hear()
            if slot.running is None:
                return None
        return slot.events.popleft()

    def _hear(self) -> None:
        """Take what workers have said, for a second at most."""
        self._clock.tick()
        messages = self.team.receive(timeout=1.0)
        self.check_place()  # else a worker that finds nothing any more would be to blame
        for worker, message in messages:
            self._take(worker, message)

    def check_place(self) -> None:
        """SQLite would go on in a file that has moved, and everything else be written where it was."""
        if not self._ledger.in_place():
            raise moved(self.folder.path)

    def _take(self, worker: int, message: Any) -> None:
        """Sort one message in, without deciding anything."""
        self.ahead.heard(worker, message)
        if not self._slots and isinstance(message, Prepared):
            self._open(message.places)
        elif not self._slots and isinstance(message, Lost) and not message.replaced:
            self._open(1)  # a worker less, before any could say how many trials it takes
        slots = on_worker(self._slots, worker, self.team.count)
        if isinstance(message, Checkpointed | Failed):
            for slot in slots:
                slot.arrived(message)
            for slot in released(slots):
                self._send_spec(slot)
        elif isinstance(message, Doing):
            for slot in slots:
                self.board.doing(slot.index, message)
        elif isinstance(message, events.Note):
            self.board.note(f"trial {message.number}: {message.notice}")
        elif isinstance(message, Prepared):
            for slot in slots:
                slot.ready = True
            self.board.prepared([slot.index for slot in slots], message)
        elif isinstance(message, Unprepared):
            raise refused(self.study, message)
        elif isinstance(message, Lost):
            self._lost(slots, message)

    def _lost(self, slots: Sequence[Slot], lost: Lost) -> None:
        """The worker is new: it gets the same trials again, which go on from their newest checkpoints. While it was
        loading, they had no part in it."""
        if not lost.replaced:
            self._retire(slots, lost.reason)
            return
        again = []
        for slot in slots:
            in_trial, slot.ready = slot.ready and not slot.held, False
            running = slot.running
            if running is None:
                continue
            slot.events.clear()
            number = running.trial.number
            self.board.note(f"trial {number}: worker lost ({lost.reason}); going on from its last checkpoint")
            running.retries += in_trial
            if running.retries > _MOST_RETRIES:
                error = f"its worker was lost {running.retries} times: {lost.reason}"
                slot.events.append(Failed(number, running.course.due, error, again=True))
            else:
                again.append(slot)
        for slot in one_by_one(again):
            self._send_spec(slot)

    def _retire(self, slots: Sequence[Slot], reason: str) -> None:
        """No worker becomes ready here: its trials go to other slots, if there are any."""
        for slot in slots:
            slot.retired, slot.ready = True, False
        if all(other.retired for other in self._slots):
            raise WorkerError(f"no worker could start: {reason}; details are in {self.folder.workers_log}")
        self.board.note(f"worker {slots[0].worker} cannot start ({reason}); going on without it")
        for slot in slots:
            if slot.running is not None:
                self._waiting.append(slot.running.trial.number)
                self._turns.freed(slot)

    def _failed(self, slot: Slot, event: Failed) -> None:
        running = slot.running
        assert running is not None
        if event.machine:
            raise WorkerError(f"{event.error}; every finished checkpoint is kept: the same command goes on from there")
        if not event.again:
            self._end(slot, "failed", "failed", None, event.error)
        elif running.retries < _MOST_RETRIES:
            running.retries += 1
            self.board.note(f"trial {event.number}: {event.error}; trying again")
            self._send_spec(slot)
        else:
            self._suspect(slot, running, event.error)

    def _suspect(self, slot: Slot, running: Running, error: str) -> None:
        """A trial failed for a reason nobody foresaw: it, or the machine. The next trials tell."""
        record = replace(running.course.record, error=error)
        record.save(self.folder.trial(record.number))
        running.course = replace(running.course, record=record)
        self._suspects.append(running)
        self.board.note(f"trial {record.number}: {error}; given up for now")
        slot.clock += record.epochs_trained
        self._turns.freed(slot)
        if len(self._suspects) >= _MOST_SUSPECTS:
            raise given_up(self._suspects, self.folder.workers_log)

    def _clear_suspects(self) -> None:
        """The machine works, so the trials that failed did so on their own account."""
        while self._suspects:
            running = self._suspects.pop(0)
            try:
                record = self._conclude(running, "failed", "failed", None, running.course.record.error)
            except UpdateFinishedTrialError:
                self._settle(self._ledger.trial(running.trial.number))
            else:
                self._tidied(record)

    def _checkpointed(self, slot: Slot, event: Checkpointed) -> None:
        running = slot.running
        assert running is not None
        running.course = running.course.advanced(event, self.folder.trial(event.number))
        running.retries = 0
        self._clear_suspects()
        if event.epoch > running.course.decided:
            self._ledger.report(running.trial, event.epoch, event.readings.score)
            if self._decided_to_end(slot):
                return
            self._ledger.note(running.trial, **{PROCESSED: event.epoch})
        self.check_place()
        running.course.record.save(self.folder.trial(event.number))
        self.board.checkpointed(slot.index, running.course.record, event.readings)
        self.team.send(slot.worker, GoOn(event.number, event.epoch))

    def _decided_to_end(self, slot: Slot) -> bool:
        """End the trial where its newest checkpoint is a reason to."""
        running = slot.running
        assert running is not None
        end = end_of(running.course, self.study, prune=lambda: self._ledger.should_prune(running.trial))
        if end is not None:
            self._end(slot, *end)
        return end is not None

    def _end(self, slot: Slot, state: str, why: str, onset: Onset | None, error: str | None = None) -> None:
        """Leave every file of the trial behind, tell Optuna, and only then delete what nobody needs any more."""
        running = slot.running
        assert running is not None
        self.team.send(slot.worker, StopTrial(running.trial.number, running.course.processed))
        self._ended(slot, self._conclude(running, state, why, onset, error))

    def _conclude(self, running: Running, state: str, why: str, onset: Onset | None, error: str | None) -> TrialRecord:
        """The trial's last files, and then Optuna; returns its record."""
        record = self._write_end(running.course, running.course.ended(state, why, onset, error))
        self._ledger.note(running.trial, **{TRAINED: record.epochs_trained})
        if record.epoch_shipped is not None:
            self._ledger.note(running.trial, **{SHIPPED: record.epoch_shipped})
        if self._before_tell is not None:
            self._before_tell(running.trial, record)
            self.check_place()
        self._ledger.tell(running.trial, _STATES[record.state], record.score)
        return record

    def _write_end(self, course: Course, record: TrialRecord) -> TrialRecord:
        """The trial's last files; returns its record."""
        self.check_place()
        folder = self.folder.trial(record.number)
        if len(course.trajectory):
            course.trajectory.save(folder)
        record = record.with_average(folder).with_taken(folder)
        record.save(folder)
        return record

    def _ended(self, slot: Slot, record: TrialRecord) -> None:
        """What comes after Optuna has been told."""
        self._tidied(record)
        slot.clock += record.epochs_trained
        self._turns.freed(slot)

    def _tidied(self, record: TrialRecord) -> None:
        self._tidier.ended(record)
        self.board.ended(record)

    @contextlib.contextmanager
    def _unless_ended_elsewhere(self, slot: Slot) -> Iterator[None]:
        """Give a slot's trial up when Optuna refuses to write to it since another process has ended it."""
        try:
            yield
        except UpdateFinishedTrialError:
            running = slot.running
            assert running is not None
            state = _NAMES[self._ledger.trial(running.trial.number).state]
            self.board.note(f"trial {running.trial.number}: another process told Optuna that it is {state}")
            self.team.send(slot.worker, StopTrial(running.trial.number, running.course.processed))
            self._ended(
                slot, self._write_end(running.course, running.course.ended_elsewhere(state, self.study.score.ship))
            )
