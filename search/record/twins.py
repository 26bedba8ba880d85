"""Cross-fitted twins: small trainings at the winner's settings, each without other photos, that say where memorising
begins although no photo was held out. What one of them read, and what all of them say of a trial."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from metrics.onset.turns import Onset
from search.record.json_files import read_if_whole, write_bytes, write_json

if TYPE_CHECKING:
    import numpy as np

TWINS_FILE = "twins.json"
"""In a trial's folder."""


def trainings(twins: int) -> int:
    """How many trials have as many steps as so many twins: each of k has (k - 1)/k of the photos, and as many passes
    over them as its trial."""
    return max(0, twins - 1)


@dataclass(frozen=True)
class TwinLosses:
    """What a twin read of the photos that it leaves out, as it lies in the study's folder.

    Attributes:
        asked: digest of how it was trained and what was measured.
        rows: `[n]`, of these photos among those trained on.
        epochs: `[T]`, rising, 0 (the base) first.
        ratios: `[T, n, levels, draws]`, ln of the losses against the base's.
        seconds: that it took.
    """

    asked: str
    rows: np.ndarray
    epochs: np.ndarray
    ratios: np.ndarray
    seconds: float

    @staticmethod
    def file(looks: Path, trial: int, count: int, twin: int) -> Path:
        """Where it lies in the folder of the finals' looks: of a trial's `count` twins the one numbered `twin`."""
        return looks / f"{trial:04d}" / f"twins-{count}" / f"{twin}.npz"

    @staticmethod
    def training(looks: Path, trial: int, count: int, twin: int) -> Path:
        """The folder of its training while that lasts."""
        return TwinLosses.file(looks, trial, count, twin).with_suffix("")

    def save(self, path: Path) -> None:
        """Write it whole or not at all."""
        import io

        import numpy as np

        out = io.BytesIO()
        head = {"asked": np.array(self.asked), "seconds": np.array(self.seconds)}
        np.savez(out, allow_pickle=False, **head, rows=self.rows, epochs=self.epochs, ratios=self.ratios)
        write_bytes(path, out.getvalue())

    @classmethod
    def load(cls, path: Path) -> TwinLosses | None:
        """None where it is not there, or damaged."""
        import numpy as np

        try:
            with np.load(path, allow_pickle=False) as kept:
                arrays = {name: kept[name] for name in ("rows", "epochs", "ratios")}
                return cls(str(kept["asked"]), **arrays, seconds=float(kept["seconds"]))
        except Exception:  # zip and numpy each raise kinds of their own
            return None


@dataclass(frozen=True)
class Twins:
    """What its twins say of a trial.

    Attributes:
        asked: how many twins `finalists.twins` says. count: how many there were: not more than different photos.
        photos: read by them, all that the trial was trained on. beside: photos that were held out of the trial as well.
        trained: epochs of the trial. They have as many passes over their photos.
        onset: the trial's, with the losses on these photos; None where they could not be read.
        before: the epoch to ship as the search found it.
        score, own_score: what the search read at the epoch to ship by `onset`.
        failed: why they could not be read. broken: whether one could not be trained, or what it read is lost: another
            number of them is another try.
        seconds: that they took the workers.
    """

    asked: int
    trained: int
    before: int
    count: int = 0
    photos: int = 0
    beside: int = 0
    onset: Onset | None = None
    score: float | None = None
    own_score: float | None = None
    failed: str = ""
    broken: bool = False
    seconds: float = 0.0

    @property
    def moved(self) -> bool:
        """Whether another epoch ships by what they read."""
        return self.shipped != self.before

    @property
    def shipped(self) -> int:
        """The epoch to ship by what they read."""
        return self.before if self.onset is None else self.onset.best

    def save(self, trial: Path) -> None:
        """Write it into a trial's folder, whole or not at all."""
        write_json(trial / TWINS_FILE, asdict(self))

    @classmethod
    def load(cls, trial: Path) -> Twins | None:
        """None where the trial has none, or the file is damaged."""
        return read_if_whole(cls, trial / TWINS_FILE)
