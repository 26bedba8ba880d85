"""A worker's end with its coordinator. Imports no torch."""

import os
from multiprocessing import parent_process
from multiprocessing.connection import wait


def die_with_parent() -> None:
    """End with the coordinator, however it ended: a worker that outlives it could write into a resumed trial."""
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
