"""How many trials of a study share passes, where that was measured or memory was too small for what was asked for."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from search.record.json_files import read_if_whole, write_json
from search.record.record import StudyFolder


@dataclass(frozen=True)
class PackWidth:
    """What a study that goes on keeps to.

    Attributes:
        asked: `workers.pack` when this was found; under another one it does not count.
        trials: of each worker at once.
        width: of each pack.
    """

    asked: int | Literal["auto"]
    trials: int
    width: int

    @staticmethod
    def file(folder: StudyFolder) -> Path:
        """Where a study's folder keeps it."""
        return folder.path / "pack-width.json"

    @classmethod
    def load(cls, folder: StudyFolder, asked: int | str) -> "PackWidth | None":
        """What was found for this `workers.pack`; None where nothing was, or it cannot be read."""
        found = read_if_whole(cls, cls.file(folder))
        return found if found is not None and found.asked == asked and found.trials >= 1 and found.width >= 1 else None

    def save(self, folder: StudyFolder) -> None:
        write_json(self.file(folder), asdict(self))
