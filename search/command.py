"""What the commands of `search` have in common: how they name a study, and how they tell what goes wrong."""

from __future__ import annotations

import argparse
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from metrics.errors import MetricsError
from search.errors import SearchError, StudyError
from trainer.arguments import folder, folder_to_write
from trainer.command import FAILED, WRONG_INPUT, Command, Told, one_line
from trainer.errors import ConfigError, DataError, ModelError, TrainerError

_DATABASE = (  # what SQLite says, and what it means
    ("locked", "is in use by another program (a dashboard, a backup, a sync tool?): close it and run this again"),
    ("is full", "cannot be written: the disk is full"),
    ("readonly", "cannot be written: no permission, or a read-only file system"),
    ("unable to open", "cannot be opened: the folder is gone, or there is no permission"),
    ("disk i/o", "cannot be read or written: the disk fails, is full, or the file was replaced meanwhile"),
    ("not a database", "is damaged, or no database: search.run sets it aside and rebuilds it from the trials' records"),
    ("malformed", "is damaged: search.run sets it aside and rebuilds it from the trials' records"),
)


def study_command(name: str, *, interrupted: str = "interrupted") -> Command:
    """The command of that name; set its `folder` to the study's as soon as it is known."""
    command = Command(
        name,
        refused=(StudyError, ConfigError, DataError, ModelError),
        failed=(SearchError, TrainerError, MetricsError),
        interrupted=interrupted,
    )
    command.explain = lambda error: _explain(error, command)
    return command


def add_study(parser: argparse.ArgumentParser, *, to_run: bool = False) -> None:
    """The argument that names a study, and `--runs`. `to_run`: only a study file will do, and files are written."""
    if to_run:
        parser.add_argument("study", type=Path, metavar="STUDY.yaml", help="the study file, or a flow file")
    else:
        parser.add_argument(
            "study",
            metavar="STUDY.yaml",
            help="the study file, or its folder under runs/; a flow file, where that can be meant",
        )
    parser.add_argument(
        "--runs",
        type=folder_to_write if to_run else folder,
        default=Path("runs"),
        metavar="DIR",
        help="where studies leave files (default: runs)",
    )


def _explain(error: BaseException, command: Command) -> Told | None:
    where = "the database" if command.folder is None else one_line(command.folder / "study.db")
    chain = list(_chain(error))
    for each in chain:
        if isinstance(each, sqlite3.Error):
            said = one_line(str(each))
            why = next((words for sign, words in _DATABASE if sign in said.lower()), None)
            return Told(f"{where} {why}" if why else f"{where}: {said}", FAILED, why is None)
    for each in chain:
        kind = type(each)
        if kind.__module__.startswith("sqlalchemy."):
            wrong = kind.__name__ in ("ArgumentError", "NoSuchModuleError")
            said = " ".join(one_line(str(each)).split())[:200]
            return Told(f"the storage cannot be used: {said}", WRONG_INPUT if wrong else FAILED, not wrong)
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what it came from; SQLAlchemy keeps the database's own beside it."""
    while error is not None:
        yield error
        original = getattr(error, "orig", None)
        if isinstance(original, BaseException):
            yield original
        error = error.__cause__ or error.__context__
