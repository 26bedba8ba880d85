"""Locks on files: given back by the operating system when their holder dies, however it dies, and they name it."""

import json
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from metrics.files import write_whole

OTHERS_SECONDS = 180.0
"""So long a worker waits for the lock of the one before it: a file server keeps that of a dead machine for 90 s."""


@contextmanager
def locked(path: Path, *, wait_seconds: float = 0.0) -> Iterator[bool]:
    """Hold a lock on `path` (made if it is not there) while the block runs; yields whether it was got in time."""
    from filelock import FileLock, Timeout

    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=wait_seconds, poll_interval=0.02)
    except Timeout:
        yield False
        return
    try:
        # beside the lock: Windows lets nobody read a file that is locked
        about = json.dumps({"pid": os.getpid(), "host": platform.node()})
        write_whole(_about(path), lambda file: file.write(about.encode()), durable=False)
        yield True
    finally:
        lock.release()


def holder(path: Path) -> str:
    """Who holds the lock on `path`, for people: "pid 123", with its machine where that is another one; "" unknown."""
    try:
        about = json.loads(_about(path).read_text(encoding="utf-8"))
        pid, host = int(about["pid"]), str(about["host"])
    except (OSError, ValueError, LookupError, TypeError):
        return ""
    return f"pid {pid}" if host == platform.node() else f"pid {pid} on {host}"


def worker_lock(folder: Path, slot: int) -> Path:
    """The lock that the worker of a slot holds as long as it lives."""
    return folder / ".workers" / f"{slot}.lock"


def workers_alive(folder: Path, *, wait_seconds: float) -> list[str]:
    """Holders (see `holder`) of workers' locks that are still held after `wait_seconds`; empty when all are free."""
    until = time.monotonic() + wait_seconds
    alive = []
    for path in sorted((folder / ".workers").glob("*.lock")):
        with locked(path, wait_seconds=max(0.0, until - time.monotonic())) as free:
            if not free:
                alive.append(holder(path) or "a process that did not leave its pid")
    return alive


def _about(path: Path) -> Path:
    return path.with_suffix(".holder")
