"""Locks on files, given back by the operating system when their holder dies, however it dies."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def locked(path: Path, *, shared: bool = False, wait_seconds: float = 0.0) -> Iterator[bool]:
    """Hold a lock on `path` (made if it is not there) while the block runs; yields whether it was got in time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+b") as file:
        until = time.monotonic() + wait_seconds
        got = _try(file.fileno(), shared)
        while not got and time.monotonic() < until:
            time.sleep(0.02)
            got = _try(file.fileno(), shared)
        yield got


def _try(descriptor: int, shared: bool) -> bool:
    try:
        import fcntl
    except ImportError:  # no POSIX locks: two coordinators are then not kept apart
        return True
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
