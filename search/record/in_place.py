"""A study's folder that is moved or deleted while the study runs: that is said, and nobody makes half of it again.

Whatever writes makes the folders it needs, in three packages and their libraries. Python tells before it makes one
(audit events), so that there is one place to refuse it.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from search.errors import SearchError

_KEPT: set[str] = set()
_HOOKS: list[object] = []


@contextmanager
def in_place(folder: Path) -> Iterator[None]:
    """While the block runs, this process does not make the folder, which is there, a second time.

    Raises:
        SearchError: the folder was moved or deleted meanwhile, and the block failed.
    """
    if not _HOOKS:
        sys.addaudithook(_audited)  # for the life of the process
        _HOOKS.append(_audited)
    place = os.path.abspath(folder)
    _KEPT.add(place)
    try:
        yield
    except Exception as error:
        if os.path.isdir(place):
            raise
        raise moved(folder) from error
    finally:
        _KEPT.discard(place)


def moved(folder: Path) -> SearchError:
    """What is told then."""
    return SearchError(
        f"{folder}: the study's folder was moved or deleted while it ran; put it back, and the same command goes on"
    )


def _audited(event: str, arguments: tuple[Any, ...]) -> None:
    if event != "os.mkdir" or not _KEPT or not isinstance(arguments[0], str | Path):
        return
    made = os.path.abspath(arguments[0])
    for place in _KEPT:
        if (place == made or place.startswith(made + os.sep)) and not os.path.isdir(made):
            raise moved(Path(place))
