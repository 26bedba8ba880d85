"""A worker's end with its coordinator, and that of the process that workers are forked from. Imports no torch."""

import contextlib
import os
import threading
from collections.abc import Iterator
from multiprocessing import parent_process
from multiprocessing.connection import wait

_LOOKS_SECONDS = 0.2


def die_with_parent() -> None:
    """End with the coordinator, however it ended: a worker that outlives it could write into a resumed trial."""
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


@contextlib.contextmanager
def ending_with_starter() -> Iterator[None]:
    """While the block runs, end as soon as whoever started this process is gone. For imports that take long: the server
    of processes itself looks only after them. No thread is left behind, so that it can fork."""
    starter, done = os.getppid(), threading.Event()

    def watch() -> None:
        while not done.wait(_LOOKS_SECONDS):
            if os.getppid() != starter:
                os._exit(1)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()
