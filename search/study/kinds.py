"""The kinds of study beside the search, and which one a study file asks for."""

from search.study.data_check import DataCheckSection
from search.study.delivery import DeliverySection
from search.study.final_run import FinalSection
from search.study.finished_run import CheckpointsSection
from search.study.kind import KindSection
from search.study.read_values import read_section
from search.study.study_file import StudyFile

KINDS: tuple[type[KindSection], ...] = (DataCheckSection, FinalSection, CheckpointsSection, DeliverySection)
"""Where a file asks for two, the one that stands first here says what is wrong with that."""
TAKERS = tuple(kind.key for kind in KINDS if kind.takes)
"""Sections that take something from the study under `from`."""


def asked_kind(file: StudyFile, problems: list[str]) -> KindSection | None:
    """The section of `file` that makes it another kind of study than a search; None where it searches.

    Args:
        problems: gets a line for each mistake in such sections and beside them.
    """
    asked = [kind for kind in KINDS if _asks_for(file, kind)]
    if not asked:
        return None
    first, *_ = [read_section(file, kind.key, kind, file.values[kind.key], problems) for kind in asked]
    problems += asked[0].misplaced(file, [kind.key for kind in asked[1:]])
    return first


def _asks_for(file: StudyFile, kind: type[KindSection]) -> bool:
    return kind.key in file.values if kind.may_be_empty else file.values.get(kind.key) is not None
