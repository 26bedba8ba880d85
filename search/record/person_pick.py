"""`pick.json`: the trial and epoch that a person chose by looking, beside the verdict."""

from dataclasses import asdict, dataclass
from pathlib import Path

from search.record.json_files import read_if_whole, write_json
from search.record.record import StudyFolder


@dataclass(frozen=True)
class PersonPick:
    """Attributes:
    trial, epoch: what was chosen. why: in the person's words, or "". day: when, as 2026-11-27.
    """

    trial: int
    epoch: int
    why: str = ""
    day: str = ""

    @staticmethod
    def file(folder: StudyFolder) -> Path:
        return folder.path / "pick.json"

    def save(self, folder: StudyFolder) -> None:
        write_json(self.file(folder), asdict(self))

    @classmethod
    def load(cls, folder: StudyFolder) -> "PersonPick | None":
        """None where nobody has chosen, or the file is damaged."""
        return read_if_whole(cls, cls.file(folder))

    @property
    def sentence(self) -> str:
        """For a person."""
        why = f": {self.why}" if self.why else ""
        return f"Picked by a person on {self.day}: trial {self.trial}, epoch {self.epoch}{why}"
