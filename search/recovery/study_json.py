"""`study.json`: what a study was begun with; and whose study a folder holds."""

import contextlib
import sqlite3
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from search.errors import StudyError, problem
from search.record.json_files import read_if_whole, write_json
from search.record.record import StudyFolder, TrialRecord
from search.study.study import Study
from search.tuning.database import connect
from trainer.config.yaml_file import read_yaml
from trainer.errors import ConfigError

_PLACES = ("base", "data", "reg_data")  # a project may have moved


@dataclass(frozen=True)
class About:
    """Attributes:
    study: its name.
    meaning: what may not change while it goes on (`Study.meaning`).
    """

    study: str
    digest: str
    meaning: Mapping[str, Any] = field(default_factory=dict)

    @property
    def photos(self) -> str | None:
        """Digest of the photos with their captions; None where the file does not say."""
        digest = self.meaning.get("photos")
        return digest if isinstance(digest, str) else None

    @staticmethod
    def file(folder: StudyFolder) -> Path:
        return folder.path / "study.json"

    def save(self, folder: StudyFolder) -> None:
        write_json(self.file(folder), asdict(self))

    @classmethod
    def load(cls, folder: StudyFolder) -> "About | None":
        """None where there is none, or none that can be read."""
        return read_if_whole(cls, cls.file(folder))


def studies_in(database: Path) -> list[str]:
    """Names of the studies in an Optuna database; none where it is not there or is none.

    Raises:
        sqlite3.OperationalError: it is locked.
    """
    if not database.is_file():
        return []
    try:
        with connect(database) as opened:
            return [name for (name,) in opened.execute("SELECT study_name FROM studies")]
    except sqlite3.DatabaseError as error:
        if "locked" in str(error):
            raise
        return []


def check_continues(study: Study, folder: StudyFolder) -> None:
    """Whether what a folder holds is this study's; `search.recovery.continuing` looks at what it was begun with.

    Raises:
        StudyError: the folder holds another study, or trials that were trained with other settings: one line per key.
        VersionError: a later version of Onset has gone on with it.
    """
    check_name(folder, study.name, study.file)
    records = list(folder.records())
    if About.load(folder) is None and records:
        _check_trained(study, records[0])


def _check_trained(study: Study, record: TrialRecord) -> None:
    """`study.json` is lost: what a trial was trained with still tells another study apart, as far as it goes."""
    try:
        now = study.config(record.params).model_dump(mode="json")
    except (ConfigError, TypeError, ValueError):
        return
    then = record.config.model_dump(mode="json", include=record.config.model_fields_set)  # no setting newer than it
    changed = [key for key in then if now[key] != then[key] and key not in _PLACES]
    if changed:
        raise StudyError(
            [
                problem(
                    study.source,
                    f"train.{key}",
                    now[key],
                    f"{then[key]!r}, as trial {record.number} of {study.name!r} was trained",
                    "restore it, or give the changed study another name",
                )
                for key in changed
            ]
        )


def check_name(folder: StudyFolder, name: str, file: Path) -> None:
    """Refuses to run a study in the folder of another one: what that one has trained would be written over.

    Raises:
        StudyError: the folder holds a study of another name.
    """
    held = studies_in(folder.database)
    if name in held:
        return
    about = About.load(folder)
    written: Any = None
    with contextlib.suppress(ConfigError, OSError):
        written = read_yaml(folder.study_file).get("study")
    known = about.study if about else written if isinstance(written, str) else None
    if held and known == name:
        why = "put back the study's own database, or delete this one: it is rebuilt from the trials"
        raise StudyError([problem(folder.database, "study", name, f"{held[0]!r}, which it holds", why)])
    other = held[0] if held else known
    if other not in (None, name):
        expected = f"{other!r}, the study that {folder.path} holds"
        why = "give it that name again, in a folder of that name, or move that folder away"
        raise StudyError([problem(file, "study", name, expected, why)])
