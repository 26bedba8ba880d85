"""What is made once for all processes of a test session (pytest-xdist): who asks first makes it, the others wait.

`ONSET_TESTS_MADE` may name a folder where several sessions of the same code share it (`.ci/run`).
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock


def session_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that all processes of this session share."""
    if "ONSET_TESTS_MADE" in os.environ:
        return Path(os.environ["ONSET_TESTS_MADE"])
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


def made_once(tmp_path_factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """The folder `name`, which `make` has filled in this process or another one. Nobody may change what is in it."""
    root = session_folder(tmp_path_factory) / "made"
    folder, whole = root / name, root / f"{name}.whole"
    root.mkdir(exist_ok=True)
    with FileLock(root / f"{name}.lock"):
        if not whole.exists():
            shutil.rmtree(folder, ignore_errors=True)  # of a process that ended meanwhile
            make(folder)
            whole.touch()
    return folder
