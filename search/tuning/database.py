"""The study's SQLite database as a file: its address for Optuna, whether it is whole, and what is wrong with it.

Nothing here loads Optuna or SQLAlchemy.
"""

import sqlite3
from contextlib import closing
from pathlib import Path, PurePath
from urllib.parse import quote

from search.errors import StudyError
from trainer.errors import Plain, mistake
from trainer.files import shown

BUSY_SECONDS = 60.0
"""How long one waits for a database that another program has locked."""
_MAGIC = b"SQLite format 3\0"  # https://www.sqlite.org/fileformat.html, 1.2


def storage_url(database: PurePath) -> str:
    """The Optuna storage URL of a SQLite file: absolute, and every character of the path stands for itself.

    Raises:
        StudyError: the path is not text (bytes that are not UTF-8).
    """
    path = database.resolve() if isinstance(database, Path) else database
    try:
        return "sqlite:///" + quote(path.as_posix(), safe="/:")  # C:/Users/… on Windows
    except UnicodeEncodeError:
        given, why = Plain(shown(str(path.parent))), "a database's address is UTF-8: rename it, or take another folder"
        raise StudyError([mistake(None, "--runs", given, "a folder whose name is text", why)]) from None


def connect(database: Path) -> closing[sqlite3.Connection]:
    """The database, to look into; closed at the end of a `with` block.

    Raises:
        sqlite3.DatabaseError: the file is something else.
    """
    check_database(database)
    return closing(sqlite3.connect(database, timeout=BUSY_SECONDS))


def check_database(path: Path) -> None:
    """SQLite takes any file of less than a page for an empty database and writes over it.

    Raises:
        sqlite3.DatabaseError: the file holds something else. One that is empty or not there is not refused.
    """
    if path.exists() and not path.is_file():
        raise sqlite3.DatabaseError("file is not a database")
    try:
        with path.open("rb") as file:
            begins = file.read(len(_MAGIC))
    except OSError:  # SQLite says what is the matter with it
        return
    if begins not in (b"", _MAGIC):
        raise sqlite3.DatabaseError("file is not a database")


def outer_trouble(error: BaseException) -> str | None:
    """What keeps SQLite from working with the file, in its words, when the file itself is not to blame: a lock, a full
    disk, missing permission. None: it is damaged, or the error is no matter of SQLite's.

    Args:
        error: what Optuna, SQLAlchemy or sqlite3 raised; what it was raised from is looked at, too.
    """
    at: BaseException | None = error
    while at is not None:
        if isinstance(at, sqlite3.OperationalError) and not str(at).startswith("no such"):
            return str(at)
        at = at.__cause__ or at.__context__
    return None
