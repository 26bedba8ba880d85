"""The processes of a study that is to be killed: told by a mark in their environment, which whatever they start has,
too."""

import contextlib
import ctypes
import importlib
import multiprocessing.context
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol

import psutil

from search.record.lock import worker_lock
from tests.search.shared_server import own_server
from tests.search.study_processes import STUDIES

_MARK = "ONSET_CHAOS"
_PR_SET_PDEATHSIG = 1
GONE_SECONDS = 60.0
"""So long may what is left of a killed study take to end; how long it took is noted."""


class Coordinating(Protocol):
    """A study at work, as `subprocess.Popen` has it."""

    pid: int

    @property
    def returncode(self) -> Any: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def kill(self) -> None: ...


def started(module: str, study: Path, runs: Path, token: str, log: Path) -> Coordinating:
    """The study at work, under a mark. It ends with us."""
    with log.open("ab") as said:
        return subprocess.Popen(
            [sys.executable, "-m", module, str(study), "--runs", str(runs)],
            stdout=said,
            stderr=subprocess.STDOUT,
            env={**os.environ, **_about(token)},
            preexec_fn=_end_with_parent,
        )


class Forked(multiprocessing.context.ForkProcess):
    """The same, of a process that has imported everything, which saves seconds."""

    def __init__(self, module: str, study: Path, runs: Path, token: str, log: Path) -> None:
        super().__init__()
        self._module, self._about, self._log = module, _about(token), log
        self._arguments = [str(study), "--runs", str(runs)]
        self.start()

    @property
    def returncode(self) -> int | None:
        return self.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self.join(timeout)
        if self.exitcode is None:
            raise subprocess.TimeoutExpired(self._module, timeout or 0.0)
        return self.exitcode

    def run(self) -> None:
        _end_with_parent()
        os.environ.update(self._about)
        said = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for stream in (1, 2):
            os.dup2(said, stream)
        with own_server():
            os._exit(importlib.import_module(self._module).main(self._arguments))


def _about(token: str) -> dict[str, str]:
    paths = [str(STUDIES.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths), _MARK: token}


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def marked(token: str) -> list[psutil.Process]:
    """All living processes under a mark."""
    found, mark = [], f"{_MARK}={token}\0".encode()
    for process in psutil.process_iter():
        try:
            if mark in Path(f"/proc/{process.pid}/environ").read_bytes():
                found.append(process)
        except OSError:  # it has just ended
            continue
    return found


def servers(coordinator: int) -> list[psutil.Process]:
    """The process that starts a coordinator's workers."""
    return _of(lambda: [child for child in psutil.Process(coordinator).children() if _is_server(child)])


def workers(coordinator: int) -> list[psutil.Process]:
    """A coordinator's workers on this machine, in the order in which they began."""
    return _of(lambda: [worker for server in servers(coordinator) for worker in server.children()])


def placed(folder: Path, count: int, coordinator: int) -> list[psutil.Process]:
    """The workers that somebody else started (Ray), by what they left beside their locks; the coordinator holds these
    for a moment when it begins."""
    found = []
    for slot in range(count):
        with contextlib.suppress(OSError, LookupError, psutil.Error):
            pid = int(worker_lock(folder, slot).with_suffix(".holder").read_text().split('"pid": ')[1].split(",")[0])
            found.append(psutil.Process(pid))
    return [process for process in found if process.is_running() and process.pid != coordinator]


def left_of(processes: Iterable[psutil.Process], token: str) -> tuple[list[str], float]:
    """Which of these, and of those under a mark, do not end, and the seconds that the others took."""
    began, watched = time.monotonic(), list(processes)
    while time.monotonic() - began < GONE_SECONDS:
        alive = [process for process in watched if process.is_running() and not _is_zombie(process)]
        if not alive and not marked(token):
            return [], time.monotonic() - began
        time.sleep(0.02)
    return [" ".join(_of(process.cmdline))[:200] for process in (*alive, *marked(token))], GONE_SECONDS


def _is_server(process: psutil.Process) -> bool:
    return any("multiprocessing.forkserver" in word for word in process.cmdline())


def _is_zombie(process: psutil.Process) -> bool:
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def _of(found: Callable[[], list[Any]]) -> list[Any]:
    try:
        return found()
    except psutil.Error:
        return []
