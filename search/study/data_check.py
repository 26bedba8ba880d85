"""The section `data_check` of a study file: one short training that looks at its own photos and captions."""

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from search.errors import problem
from search.study.settings import Section
from search.study.study_file import StudyFile


class DataCheckSection(Section):
    """A data check: one short training that ends with a page on which photos and captions to change, and why."""

    seeds: int = Field(default=2, ge=1, le=100)
    """Drawings of each prompt, with and without each tag."""
    captions: int = Field(default=4, ge=1, le=1000)
    """Captions that each tag is tried in, at most."""
    tags: int = Field(default=24, ge=1, le=1000)
    """How many tags are tried, those used most first."""


def beside_data_check(file: StudyFile, values: Mapping[str, Any]) -> list[str]:
    """What a study file says beside `data_check` that has no place there, one line each."""
    others = [key for key in ("search", "checkpoints", "delivery", "final") if values.get(key)]
    return [problem(file, key, "a section", "nothing", "a data check is one training of its own") for key in others]
