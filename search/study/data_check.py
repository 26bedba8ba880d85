"""The section `data_check` of a study file: one short training that looks at its own photos and captions."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from pydantic import Field

from search.errors import problem
from search.study.kind import NEVER_STOPPED, ONE_TRIAL, Draft, Kind, KindSection
from search.study.study_file import StudyFile


class DataCheckSection(KindSection):
    """A data check: one short training that ends with a page on which photos and captions to change, and why."""

    key: ClassVar[str] = "data_check"
    about: ClassVar[str] = "A short training that says which photos and captions to change ([how](data-check.md))."
    may_be_empty: ClassVar[bool] = True

    seeds: int = Field(default=2, ge=1, le=100)
    """Drawings of each prompt, with and without each tag."""
    captions: int = Field(default=4, ge=1, le=1000)
    """Captions that each tag is tried in, at most."""
    tags: int = Field(default=24, ge=1, le=1000)
    """How many tags are tried, those used most first."""

    @classmethod
    def misplaced(cls, file: StudyFile, others: Sequence[str]) -> list[str]:
        """Another kind of study, or a search."""
        found = [key for key in ("search", *others) if file.values.get(key)]
        return [problem(file, key, "a section", "nothing", "a data check is one training of its own") for key in found]

    def planned(self, draft: Draft) -> Draft:
        """One trial, which no onset ends."""
        return replace(draft, budget=ONE_TRIAL, stop=NEVER_STOPPED, kind=DataCheck(self))


@dataclass(frozen=True)
class DataCheck(Kind):
    """A data check; `settings`: what it looks at."""

    settings: DataCheckSection

    @property
    def meaning(self) -> dict[str, Any]:
        """The section."""
        return {DataCheckSection.key: self.settings.model_dump(mode="json")}
