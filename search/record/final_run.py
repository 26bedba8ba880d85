"""A final run as a trial's record knows it: trained on all photos, beside a twin without those held out."""

from dataclasses import asdict, dataclass
from pathlib import Path

from search.record.json_files import read_if_whole, write_json

TWIN = "twin"
"""Folder in a trial's own, with the checkpoints of the run that is not trained on the photos held out."""
AVERAGE = "average"
"""Folder in a trial's own, with the average of its best checkpoints."""


@dataclass(frozen=True)
class Average:
    """The average of the checkpoints around the best one.

    Attributes:
        epochs: of the checkpoints.
        score: in [0, 1], measured as that of a checkpoint.
        best: score of the best checkpoint by itself.
        noise: the score's jitter between neighbouring checkpoints, one standard deviation.
        lost: share of the mean change that the LoRA's rank could not hold.
    """

    epochs: tuple[int, ...]
    score: float
    best: float
    noise: float
    lost: float = 0.0

    @property
    def better(self) -> bool:
        """Whether it is better than the best checkpoint by more than the noise."""
        return self.score > self.best + self.noise

    @staticmethod
    def lora(trial: Path) -> Path:
        return trial / AVERAGE / "lora.safetensors"

    @staticmethod
    def samples(trial: Path) -> Path:
        return trial / AVERAGE / "samples.png"

    def save(self, trial: Path) -> None:
        """Written last: an average without this file is none."""
        write_json(trial / AVERAGE / "average.json", asdict(self))

    @classmethod
    def load(cls, trial: Path) -> "Average | None":
        """None where none was made, or it is damaged."""
        return read_if_whole(cls, trial / AVERAGE / "average.json")


@dataclass(frozen=True)
class FinalRun:
    """Attributes:
    epoch: the epoch to ship, as it was found before. study: by which study; "" where the file says it.
    average: None where there is none, or not yet.
    """

    epoch: int
    study: str = ""
    average: Average | None = None
