"""The same run in another trial: how a run is recognised, and what a trial has taken instead of training it again."""

from dataclasses import asdict, dataclass
from pathlib import Path

from search.record.json_files import read_if_whole, write_json


@dataclass(frozen=True)
class RunMark:
    """`run.json` in a trial's folder: what its run is, however its settings were written.

    Attributes:
        settings: digest of all that its numbers follow from, but the course of the learning rate.
        course: that course up to the end of each epoch, as digests: runs are the same as far as these are.
    """

    settings: str
    course: tuple[str, ...]

    @staticmethod
    def file(trial: Path) -> Path:
        return trial / "run.json"

    def save(self, trial: Path) -> None:
        write_json(self.file(trial), asdict(self))

    @classmethod
    def load(cls, trial: Path) -> "RunMark | None":
        """None where there is none, or it is damaged."""
        return read_if_whole(cls, cls.file(trial))

    def shared(self, other: "RunMark") -> int:
        """Epochs over which two runs are one."""
        if self.settings != other.settings:
            return 0
        differs = (n for n, pair in enumerate(zip(self.course, other.course, strict=False)) if pair[0] != pair[1])
        return next(differs, min(len(self.course), len(other.course)))


@dataclass(frozen=True)
class TakenRun:
    """`taken.json` in a trial's folder.

    Attributes:
        study, trial: whose readings it has.
        looked: the last epoch of these. trained: epoch of the checkpoint from which it would go on; 0 without one.
        epoch_seconds, look_seconds: what an epoch of training and a look at a checkpoint took there.
    """

    study: str
    trial: int
    looked: int
    trained: int = 0
    epoch_seconds: float = 0.0
    look_seconds: float = 0.0

    @staticmethod
    def file(trial: Path) -> Path:
        return trial / "taken.json"

    def save(self, trial: Path) -> None:
        write_json(self.file(trial), asdict(self))

    @classmethod
    def load(cls, trial: Path) -> "TakenRun | None":
        """None where nothing was taken, or the file is damaged."""
        return read_if_whole(cls, cls.file(trial))

    @property
    def sentence(self) -> str:
        """For a person."""
        return f"the same run as trial {self.trial} of {self.study}: its readings up to epoch {self.looked} are taken"

    def saved_epochs(self, epochs_trained: int) -> int:
        """Epochs that a trial which came so far did not train."""
        return epochs_trained if epochs_trained <= self.looked else self.trained

    def saved_seconds(self, epochs_trained: int, step: int) -> float:
        """Seconds that it saved; `step`: epochs between checkpoints."""
        looks = -(-min(epochs_trained, self.looked) // step)
        return self.saved_epochs(epochs_trained) * self.epoch_seconds + looks * self.look_seconds
