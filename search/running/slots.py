"""Where trials run: a slot is a place on a worker, with the trial that is on it. A worker that trains several trials at
once has as many slots."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush, heapreplace
from pathlib import Path

from optuna.trial import Trial

from search.errors import SearchError, StudyError, WorkerError
from search.record.events import Checkpointed, Failed, Unprepared
from search.record.trial_progress import Course
from search.study.study import Study


@dataclass
class Running:
    """A trial on a slot. `retries`: how often it was begun again since its last checkpoint."""

    trial: Trial
    course: Course
    retries: int = 0


@dataclass
class Slot:
    """A place on a worker.

    Attributes:
        worker, place: which worker, and which of its places, from 0.
        clock: epochs of the trials that ended here.
        events: what has arrived and is not yet due.
        ready: whether its worker has loaded everything.
        retired: no worker becomes ready here.
        held: its worker has its trial only once another one there has reached a checkpoint (`one_by_one`).
    """

    index: int
    worker: int
    place: int = 0
    clock: int = 0
    running: Running | None = None
    events: deque[Checkpointed | Failed] = field(default_factory=deque)
    ready: bool = False
    retired: bool = False
    held: bool = False

    @property
    def time(self) -> tuple[int, int]:
        """Logical time of the next event."""
        assert self.running is not None
        return self.clock + self.running.course.due, self.running.trial.number

    def arrived(self, event: Checkpointed | Failed) -> None:
        """Keep an event of its trial until it is due, unless that has been taken already."""
        running = self.running
        if running is not None and event.number == running.trial.number and event.epoch > running.course.processed:
            self.events.append(event)

    def free(self) -> None:
        """Take its trial off."""
        self.running, self.held = None, False


class Turns:
    """Whose turn it is among slots, found without looking at all of them at each event.

    What may have changed is put on a heap and looked at again once it comes to the top. That is enough, since the time
    of a trial's next event only rises while it is on its slot.

    Args:
        slots: all of them, none with a trial.
    """

    def __init__(self, slots: Sequence[Slot]) -> None:
        self._slots = slots
        self._free = list(range(len(slots)))
        self._due: list[tuple[int, int, int]] = []  # time of the next event, as it was noted; its trial; its slot

    def placed(self, slot: Slot, running: Running) -> None:
        """Put a trial on a slot."""
        slot.running = running
        slot.events.clear()
        heappush(self._due, (*slot.time, slot.index))

    def freed(self, slot: Slot) -> None:
        """Take a slot's trial off."""
        slot.free()
        heappush(self._free, slot.index)

    def free(self) -> Slot | None:
        """The first slot that can be given a trial."""
        while self._free:
            slot = self._slots[self._free[0]]
            if slot.running is None and not slot.retired:
                return slot
            heappop(self._free)
        return None

    def due(self) -> Slot | None:
        """The slot with the earliest event; None where no trial runs."""
        while self._due:
            noted, number, index = self._due[0]
            slot = self._slots[index]
            if slot.running is None or slot.running.trial.number != number:
                heappop(self._due)
            elif slot.time == (noted, number):
                return slot
            else:
                heapreplace(self._due, (*slot.time, index))
        return None


def slots_of(workers: int, places: int) -> list[Slot]:
    """The slots of so many workers with so many places each: every worker's first place, then every one's second, so
    that few trials are spread over all workers."""
    return [Slot(index, index % workers, index // workers) for index in range(workers * places)]


def on_worker(slots: Sequence[Slot], worker: int, workers: int) -> Sequence[Slot]:
    """The slots of one worker, of those that `slots_of` made."""
    return slots[worker::workers]


def one_by_one(slots: Sequence[Slot]) -> Sequence[Slot]:
    """Of the slots whose trials a new worker gets again, those that it gets at once: all of them after a first loss.
    After a second one in a row only the first, so that whoever ends its worker each time does so alone."""
    apart = any(slot.running is not None and slot.running.retries > 1 for slot in slots)
    for place, slot in enumerate(slots):
        slot.held = apart and place > 0
    return [slot for slot in slots if not slot.held]


def released(slots: Sequence[Slot]) -> Sequence[Slot]:
    """The slot whose turn it is, now that a trial of its worker has reached a checkpoint or failed; none or one."""
    turn = [slot for slot in slots if slot.held][:1]
    for slot in turn:
        slot.held = False
    return turn


def given_up(suspects: Sequence[Running], log: Path) -> WorkerError:
    """What is said when trial after trial fails for a reason that nobody foresaw."""
    count = len(suspects)
    trials = f"{count} trials in a row" if count > 1 else "every trial"
    return WorkerError(
        f"{trials} failed: {suspects[-1].course.record.error}; details are in {log}. "
        "These trials are kept. Fix the cause, then run the same command: it goes on with them"
    )


def refused(study: Study, message: Unprepared) -> SearchError:
    """What is said when a worker cannot begin."""
    return StudyError([f"{study.file}: {message.error}"]) if message.wrong_input else WorkerError(message.error)
