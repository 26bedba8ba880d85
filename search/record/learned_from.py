"""What a study's sampler learns from before its own trials: settings that earlier studies of the same base tried, and
how each stood among its own. Kept with the study, so that it goes on with the same."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from search.record.json_files import read_if_whole, write_json
from search.record.record import StudyFolder


@dataclass(frozen=True)
class Example:
    """One trial of an earlier study.

    Attributes:
        fields: the searched ones with their values.
        rank: how it stood in its study, 0 the worst to 1 the best. Its score says nothing here: other photos, other
            prompts.
    """

    fields: Mapping[str, Any]
    rank: float


@dataclass(frozen=True)
class LearnedFrom:
    """Attributes:
    studies: their names, as the study file has them.
    examples: the trials of these studies that fit the search, the earliest study first.
    """

    studies: tuple[str, ...] = ()
    examples: tuple[Example, ...] = field(default=())

    @staticmethod
    def file(folder: StudyFolder) -> Path:
        return folder.path / "learned_from.json"

    def save(self, folder: StudyFolder) -> None:
        """Nothing where it learns from nobody."""
        if self.studies:
            write_json(self.file(folder), asdict(self))

    @classmethod
    def load(cls, folder: StudyFolder) -> "LearnedFrom | None":
        """None where there is none, or none that can be read."""
        return read_if_whole(cls, cls.file(folder))


NOBODY = LearnedFrom()
