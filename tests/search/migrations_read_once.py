"""Optuna's migrations are read once in a process: each database that is opened is held against all of them, ten Python
files, which alembic runs each time."""

from typing import Any

import pytest
from optuna.storages._rdb.storage import _VersionManager


def read_migrations_once(patch: pytest.MonkeyPatch) -> None:
    """What is read is the same for all databases: a folder of Optuna's."""
    read = _VersionManager._create_alembic_script
    known: list[Any] = []

    def once(manager: _VersionManager) -> Any:
        if not known:
            known.append(read(manager))
        return known[0]

    patch.setattr(_VersionManager, "_create_alembic_script", once)
