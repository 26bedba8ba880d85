"""`votes.json`: which finalists people found better than which, by looking at their images alone."""

from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path

from search.record.json_files import read_if_whole, write_json
from search.record.record import StudyFolder

Shown = tuple[int, int]
"""What was looked at: a trial's number, and its epoch."""


@dataclass(frozen=True)
class Votes:
    """Attributes:
    preferences: of two finalists the better one, then the worse one; each vote says this of several pairs.
    """

    preferences: tuple[tuple[Shown, Shown], ...] = ()

    @staticmethod
    def file(folder: StudyFolder) -> Path:
        """Where a study's folder keeps them."""
        return folder.path / "votes.json"

    def save(self, folder: StudyFolder) -> None:
        """Write them."""
        write_json(self.file(folder), asdict(self))

    @classmethod
    def load(cls, folder: StudyFolder) -> "Votes":
        """None of them where nobody has voted, or the file is damaged."""
        return read_if_whole(cls, cls.file(folder)) or cls()

    def among(self, shown: Collection[Shown]) -> "Votes":
        """Those between two of these."""
        return Votes(tuple(pair for pair in self.preferences if set(pair) <= set(shown)))
