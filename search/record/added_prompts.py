"""Prompts that were added after a study had begun: drawn of every checkpoint from then on, never scored.

`prompts.json` keeps them in the order in which their pictures stand beneath the scored ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError

from metrics.subjects.prompt_template import fill
from search.record.json_files import write_json

if TYPE_CHECKING:
    from search.record.record import StudyFolder


@dataclass(frozen=True)
class AddedPrompts:
    """`templates` as the study file has them, `prompts` with the subject's words in place; as many of each."""

    templates: tuple[str, ...] = ()
    prompts: tuple[str, ...] = ()

    @staticmethod
    def file(folder: StudyFolder) -> Path:
        return folder.path / "prompts.json"

    @classmethod
    def load(cls, folder: StudyFolder) -> AddedPrompts:
        """None where there are none, or none that can be read."""
        try:
            return _adapter().validate_json(cls.file(folder).read_bytes())
        except (OSError, ValidationError):
            return cls()

    def save(self, folder: StudyFolder) -> None:
        """Keep them, where they are others than are kept."""
        if self != self.load(folder):
            write_json(self.file(folder), asdict(self))

    def joined_by(self, templates: Sequence[str], subject: tuple[str, str]) -> AddedPrompts:
        """With more of them, the subject's trigger and class word in place."""
        words = dict(zip(("trigger", "class"), subject, strict=True))
        new = [template for template in templates if template not in self.templates]
        return AddedPrompts((*self.templates, *new), (*self.prompts, *(fill(template, words) for template in new)))


NONE_ADDED = AddedPrompts()


@cache  # asked for with every picture that is read
def _adapter() -> TypeAdapter[AddedPrompts]:
    return TypeAdapter(AddedPrompts)
