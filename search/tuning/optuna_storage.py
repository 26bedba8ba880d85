"""An Optuna storage by its URL: a SQLite file, or a server."""

import contextlib
import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
from sqlalchemy.engine import make_url
from sqlalchemy.exc import IntegrityError, ProgrammingError

from search.errors import StudyError
from search.tuning.database import BUSY_SECONDS, check_database


def open_storage(url: str) -> optuna.storages.RDBStorage:
    """The Optuna storage behind a URL; waits where another program has locked a SQLite file.

    Raises:
        StudyError: another version of Optuna wrote it.
        sqlite3.DatabaseError: the URL is that of a file which is no SQLite database.
    """
    file = sqlite_file(url)
    if file is not None:
        check_database(file)
    engine: dict[str, Any] = {}
    if url.startswith("sqlite"):
        engine = {"connect_args": {"timeout": BUSY_SECONDS}}
    elif url.startswith("postgresql"):  # connections are tried before they are used: the server may have been restarted
        engine = {"connect_args": {"connect_timeout": 10}, "pool_pre_ping": True}
    try:
        with contextlib.suppress(ProgrammingError, IntegrityError):  # two studies that make the tables at once
            return optuna.storages.RDBStorage(url, engine_kwargs=engine)
        return optuna.storages.RDBStorage(url, engine_kwargs=engine)
    except RuntimeError as error:  # Optuna's word for tables of another version
        if "storage upgrade" not in str(error) and "schema" not in str(error):
            raise
        raise StudyError([f"{url}: {_other_version(url, str(error))}"]) from error


def amend(storage: optuna.storages.RDBStorage, trial_id: int, attributes: Mapping[str, Any]) -> None:
    """Set user attributes of a trial, though it may have ended, when Optuna takes no more; in one commit. None: there
    is to be none of that name."""
    from optuna.storages._rdb.models import TrialModel, TrialUserAttributeModel
    from optuna.storages._rdb.storage import _create_scoped_session

    with _create_scoped_session(storage.scoped_session) as session:
        trial = TrialModel.find_or_raise_by_id(trial_id, session)
        for key, value in attributes.items():
            kept = TrialUserAttributeModel.find_by_trial_and_key(trial, key, session)
            if value is None and kept is not None:
                session.delete(kept)
            elif value is not None and kept is not None:
                kept.value_json = json.dumps(value)
            elif value is not None:
                session.add(TrialUserAttributeModel(trial_id=trial_id, key=key, value_json=json.dumps(value)))


def sqlite_file(url: str) -> Path | None:
    """The file of a SQLite storage; None where the URL is of something else.

    Raises:
        sqlalchemy.exc.ArgumentError: it is no URL of a database.
    """
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite" or parsed.database in (None, "", ":memory:"):
        return None
    return Path(parsed.database.removeprefix("file:") if "uri" in parsed.query else parsed.database)


def _other_version(url: str, said: str) -> str:
    if "storage upgrade" in said:
        command = f"optuna storage upgrade --storage {shlex.quote(url)}"
        return f"written by an older Optuna; bring it up to date with: {command}"
    return f"written by a newer Optuna than {optuna.__version__}, which runs here: update it (pip install -U optuna)"
