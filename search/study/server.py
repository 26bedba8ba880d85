"""The server that a study's trials are kept on instead of `study.db`: its address, as file or environment say it.

Nothing here loads SQLAlchemy or a driver, unless a server is named.
"""

import contextlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from search.errors import KeyedFiles, StudyError, problem
from search.record.json_files import read_json, write_json
from search.record.record import StudyFolder
from trainer.errors import ConfigError, Plain, mistake

STORAGE, VARIABLE = "storage", "ONSET_STORAGE"
"""Where an address is named: in a study file, in the environment."""
EXPECTED = "the address of a PostgreSQL database, such as postgresql+psycopg://me@host/name"
_ADDRESS = re.compile(r"postgresql(\+psycopg)?://[^\s/?#]*(/[^\s/?#]+)?(\?[^\s#]*)?", re.ASCII)
_ANSWERS_SECONDS = 10


@dataclass(frozen=True)
class Server:
    """A database server that several studies may share.

    Attributes:
        url: its address as SQLAlchemy takes it; it may hold a password.
        where: the file that names it, or the environment variable.
        key: of the study file; "" for the environment.
    """

    url: str
    where: str
    key: str = ""

    @property
    def shown(self) -> str:
        """Its address as it may be shown and kept: without a password."""
        return without_password(self.url)

    def refused(self, expected: str, why: str = "") -> StudyError:
        """What to raise when it cannot be used."""
        file, key = (Path(self.where), self.key) if self.key else (None, self.where)
        return StudyError([mistake(file, key, Plain(self.shown), expected, why)])


def named_server(file: KeyedFiles, value: object, problems: list[str]) -> Server | None:
    """The server that a study file names, else the one of the environment; None for neither."""
    where, key = VARIABLE, ""
    if value is None:
        value = os.environ.get(VARIABLE) or None
        if value is None:
            return None
    else:
        where, key = str(file.file_of(STORAGE)), STORAGE
    if not isinstance(value, str) or not _ADDRESS.fullmatch(value) or "/" not in value.split("://")[1]:
        shown = Plain(without_password(value)) if isinstance(value, str) else value
        problems.append(problem(file, STORAGE, shown, EXPECTED) if key else mistake(None, where, shown, EXPECTED))
        return None
    return Server(_with_driver(value), where, key)


def check_server(server: Server) -> None:
    """Ask the server for an answer.

    Raises:
        StudyError: its driver is not installed, or nothing answers there.
    """
    try:
        import psycopg
    except ImportError:
        raise server.refused("one whose driver is installed", "pip install 'psycopg[binary]'") from None
    address = server.url.replace("+psycopg", "", 1)
    try:
        psycopg.connect(address, connect_timeout=_ANSWERS_SECONDS).close()
    except psycopg.Error as error:
        why = " ".join(str(error).split())[:200] or type(error).__name__
        raise server.refused("a server that answers", without_password(why)) from None


def without_password(text: str) -> str:
    """An address without what stands between the user's name and the host, nor in its `password=`."""
    text = re.sub(r"(://[^/@\s]*?):[^/\s]*@", r"\1@", text)
    return re.sub(r"(password=)[^&\s]*", r"\1***", text)


@dataclass(frozen=True)
class Kept:
    """What a study's folder says of the server that its trials are on: `storage.json`.

    Attributes:
        study_id: tells this folder's study from others of its name.
        shown: the address at the last start, without password.
    """

    study_id: str
    shown: str

    @staticmethod
    def file(folder: StudyFolder) -> Path:
        return folder.path / "storage.json"

    @classmethod
    def load(cls, folder: StudyFolder) -> "Kept | None":
        """None where the study's trials are in `study.db`, or nothing was begun."""
        try:
            values = read_json(cls.file(folder))
            return cls(str(values["study_id"]), str(values["storage"]))
        except (OSError, ValueError, LookupError, TypeError):
            return None

    def save(self, folder: StudyFolder) -> None:
        write_json(self.file(folder), {"study_id": self.study_id, "storage": self.shown})


def check_same_place(server: Server | None, folder: StudyFolder) -> Server | None:
    """The server that a study goes on with; one that only the environment names does not count for a study that has
    begun in `study.db`.

    Raises:
        StudyError: the study has begun elsewhere.
    """
    kept = Kept.load(folder)
    if server is None and kept is not None:
        why = f"name it under {STORAGE}, or in the environment variable {VARIABLE}"
        raise StudyError([mistake(None, STORAGE, None, f"{kept.shown}, where this study has begun", why)])
    if server is not None and kept is None and folder.database.is_file():
        if not server.key:
            return None
        raise server.refused(f"none: this study has begun in {folder.database}", "give the new study another name")
    return server


def known_server(folder: StudyFolder) -> Server | None:
    """The server of a study that has begun, for those who only look; None for one in `study.db`.

    Raises:
        StudyError: nobody says how to reach it.
    """
    if Kept.load(folder) is None:
        return None
    from trainer.config.yaml_file import read_yaml

    written: object = None
    with contextlib.suppress(ConfigError, OSError):
        written = read_yaml(folder.study_file).get(STORAGE)
    if isinstance(written, str):
        return Server(_with_driver(written), str(folder.study_file), STORAGE)
    named = os.environ.get(VARIABLE)
    return check_same_place(Server(_with_driver(named), VARIABLE) if named else None, folder)


def _with_driver(address: str) -> str:
    return re.sub(r"^postgresql://", "postgresql+psycopg://", address)
