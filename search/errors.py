"""What can go wrong in `search`: one root, its text is for the user, one line for each mistake."""

import errno
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

from trainer.errors import known_key, mistake


class SearchError(Exception):
    """Root of every error that `search` raises on purpose. Commands print it and exit with 1."""


class StudyError(SearchError):
    """A study file, or what it points at, is wrong. Commands print it and exit with 2.

    Args:
        problems: one line each: file, key, value and what is allowed.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class VersionError(StudyError):
    """A file of the study was written by a later version, in a form that this one does not know."""


class BusyError(SearchError):
    """Another coordinator is running this study."""


class DamagedError(SearchError):
    """A file of the study is not as it was written, and nothing here can mend it."""


class WorkerError(SearchError):
    """The workers cannot go on: the base does not load, or they die again and again."""


MACHINE_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE})
"""Faults of the machine: a full disk says nothing about what was being written."""


class KeyedFiles(Protocol):
    """Settings that stand in several files (`search.study.study_file.StudyFile`)."""

    def file_of(self, key: str) -> Path:
        """The file in which a key stands."""


def problem(file: str | Path | KeyedFiles, key: str, value: object, expected: str, why: str = "") -> str:
    """One line that says where, what would have been right, and what was given instead (`trainer.errors.mistake`)."""
    where = file if isinstance(file, str | Path) else file.file_of(key)
    return mistake(where, key, value, expected, why)


def unknown_problem(file: str | Path | KeyedFiles, key: str, known: Iterable[str]) -> str:
    """The same for a key that there is not; `key` is dotted, and its last part is the unknown one."""
    last = key.rpartition(".")[2]
    return problem(file, key, last, known_key(last, known))
