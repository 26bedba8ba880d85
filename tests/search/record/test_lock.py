"""A lock keeps others out while its holder lives, says who that is, and is free when it is dead; also without fcntl."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from search.record.lock import holder, locked, worker_lock, workers_alive

_HOLD = """
import sys
if sys.argv[2] == "no fcntl":
    sys.modules["fcntl"] = None  # as on Windows, and on some file systems
from pathlib import Path
from search.record.lock import locked
with locked(Path(sys.argv[1])) as got:
    print(got, flush=True)
    sys.stdin.read()
"""


def hold(path: Path, fcntl: str) -> subprocess.Popen[str]:
    """A process that tries for the lock and says whether it got it; it ends when its input is closed."""
    return subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(path), fcntl], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def answer(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.mark.parametrize("fcntl", ["fcntl", "no fcntl"])
def test_only_one_has_it_until_it_dies(tmp_path: Path, fcntl: str) -> None:
    path = tmp_path / "study" / ".coordinator.lock"
    first = hold(path, fcntl)
    assert answer(first) == "True"
    assert holder(path) == f"pid {first.pid}"
    second = hold(path, fcntl)
    assert answer(second) == "False"
    second.communicate()
    first.kill()
    first.wait()
    third = hold(path, fcntl)
    assert answer(third) == "True"
    third.communicate()


def test_workers_that_live_on_are_named(tmp_path: Path) -> None:
    worker = hold(worker_lock(tmp_path, 1), "fcntl")
    assert answer(worker) == "True"
    with locked(worker_lock(tmp_path, 0)):
        alive = workers_alive(tmp_path, wait_seconds=0.0)
    assert alive == [f"pid {os.getpid()}", f"pid {worker.pid}"]
    worker.communicate()
    assert workers_alive(tmp_path, wait_seconds=5.0) == []


def test_a_holder_that_left_no_word_is_not_invented(tmp_path: Path) -> None:
    path = tmp_path / "x.lock"
    assert holder(path) == ""
    path.with_suffix(".holder").write_text("{")
    assert holder(path) == ""
