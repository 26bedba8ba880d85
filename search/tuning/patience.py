"""A storage that is gone for a while is waited for: a server that starts again costs a study a pause, and no trial."""

import time
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

from search.errors import SearchError

T = TypeVar("T")
GIVES_UP_SECONDS = 3600.0
_PAUSES = (0.2, 0.5, 1.0, 2.0, 5.0)
"""Seconds before each further try; the last one again and again."""


class Patience:
    """Calls what needs the storage, again where the storage was gone.

    Args:
        say: told once that it is gone, and once that it is back; None: nothing is waited for.
    """

    def __init__(self, say: Callable[[str], None] | None) -> None:
        self._say = say

    def call(self, ask: Callable[[], T], *, again: Callable[[], T] | None = None) -> T:
        """What `ask` returns, or `again` after a pause: the first one may have been done although no answer came.

        Raises:
            SearchError: the storage did not come back within an hour.
        """
        gone: float | None = None
        tries = 0
        while True:
            try:
                found = (ask if gone is None else again or ask)()
            except Exception as error:
                if self._say is None or not is_gone(error):
                    raise
                if gone is None:
                    gone = time.monotonic()
                    self._say(f"the storage does not answer: waiting for it ({reason_of(error)})")
                elif time.monotonic() - gone > GIVES_UP_SECONDS:
                    raise SearchError(
                        f"the storage has not answered for an hour ({reason_of(error)}); every finished checkpoint is "
                        "kept: the same command goes on from there"
                    ) from error
                time.sleep(_PAUSES[min(tries, len(_PAUSES) - 1)])
                tries += 1
            else:
                if gone is not None and self._say is not None:
                    self._say(f"the storage answers again after {time.monotonic() - gone:.0f} s: going on")
                return found


def is_gone(error: BaseException) -> bool:
    """Whether an error says that the server cannot be reached, or ended the connection."""
    at: BaseException | None = error
    while at is not None:
        if isinstance(at, OperationalError | InterfaceError) or (
            isinstance(at, DBAPIError) and at.connection_invalidated
        ):
            return True
        at = at.__cause__
    return False


def reason_of(error: BaseException) -> str:
    """The driver's first line."""
    at: BaseException | None = error
    while at is not None and not isinstance(at, DBAPIError):
        at = at.__cause__
    said = str(at.orig if isinstance(at, DBAPIError) else error).strip().splitlines()
    return said[0][:160] if said else type(error).__name__
