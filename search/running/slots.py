"""Where trials run: a slot is a place on a worker, with the trial that is on it."""

from collections import deque
from dataclasses import dataclass, field

from optuna.trial import Trial

from search.record.events import Checkpointed, Failed
from search.record.trial_progress import Course


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
        clock: epochs of the trials that ended here.
        events: what has arrived and is not yet due.
        ready: whether its worker has loaded everything.
        retired: no worker becomes ready here.
    """

    index: int
    clock: int = 0
    running: Running | None = None
    events: deque[Checkpointed | Failed] = field(default_factory=deque)
    ready: bool = False
    retired: bool = False

    @property
    def time(self) -> tuple[int, int]:
        """Logical time of the next event."""
        assert self.running is not None
        return self.clock + self.running.course.due, self.running.trial.number

    def free(self) -> None:
        """Take its trial off."""
        self.running = None
        self.events.clear()
