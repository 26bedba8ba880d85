"""A trial on a worker: how far it is, and what of its folder it goes on from."""

from pathlib import Path
from typing import TYPE_CHECKING

from search.record.events import Checkpointed, TrialSpec
from search.verdict.disk_cleanup import delete
from trainer.checkpoint import checkpoints
from trainer.errors import TrainerError

if TYPE_CHECKING:
    from trainer.packing.pack import Pack
    from trainer.packing.training_run import Run

AHEAD = 2
"""Checkpoints that a trial may be trained beyond the last one decided on."""


class TrialAtWork:
    """A trial that a worker has.

    Attributes:
        spec: what the coordinator gave.
        told, decided: the last epochs whose checkpoint was told to the coordinator, and decided on by it.
        seats: its run, and the twin of a final run behind it, each with the pack that it is in; empty where finished
            files are looked at.
        looked: the epoch whose checkpoint has been seen to since it took its seats.
        trained: seconds of training since the last checkpoint; of a step that is shared, its share.
        apart: whether it sits in a pack by itself, so that what goes wrong there is its own.
    """

    def __init__(self, spec: TrialSpec) -> None:
        self.spec = spec
        self.told = self.decided = spec.processed
        self.seats: list[tuple[Pack, Run]] = []
        self.looked = -1
        self.trained = 0.0
        self.apart = False

    @property
    def number(self) -> int:
        return self.spec.number

    @property
    def run(self) -> "Run":
        """What is trained, and what counts."""
        return self.seats[0][1]

    @property
    def twin(self) -> "Run | None":
        """The run beside a final one."""
        return self.seats[1][1] if len(self.seats) > 1 else None

    @property
    def due(self) -> int:
        """Epoch of the checkpoint that is told next."""
        step = self.spec.config.save_every_n_epochs
        return min(self.told // step * step + step, self.spec.config.epochs)

    @property
    def rests(self) -> bool:
        """Whether it waits for a decision: its horizon is reached, or it is too far ahead of them."""
        return self.run.finished or self.told - self.decided > AHEAD * self.spec.config.save_every_n_epochs

    def leave(self) -> None:
        """Give up its seats; also between two steps."""
        for pack, run in self.seats:
            if run in pack.runs:
                pack.leave(run)
        self.seats = []


def rewind(spec: TrialSpec) -> None:
    """Drop checkpoints behind one whose readings are missing, so that it is trained and measured again."""
    step, measured = spec.config.save_every_n_epochs, set(Checkpointed.epochs(spec.folder))
    for path in checkpoints(spec.folder / "checkpoints"):
        epoch = int(path.name)
        between = range(spec.processed // step * step + step, epoch, step)
        if not measured.issuperset(between):
            delete(path)


def check_there(folder: Path) -> None:
    """Writing into a folder that has moved would make half of it again, where it was.

    Raises:
        TrainerError: it is not there any more.
    """
    if not folder.is_dir():
        raise TrainerError(f"{folder} is gone: moved or deleted while it was trained in")
