"""Ctrl-C and termination signals: exit code 130 from the first moment on, never a traceback.

`metrics.interrupts` is its twin: the two packages stand alone.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator

INTERRUPTED = 130
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def end_at_once(said: str = "") -> None:
    """From now on a signal says `said` and ends this process: nothing has to be left in order any more, or not yet.
    Signals that whoever started us wants to be ignored stay so (a shell's background job, nohup)."""

    def end(number: int, frame: object) -> None:
        with contextlib.suppress(OSError):
            os.write(2, f"{said}\n".encode("ascii", "backslashreplace") if said else b"")
        os._exit(INTERRUPTED)

    for number in _SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, end)


def ignore_signals() -> None:
    """Everything is done: a late signal shall not change the exit code while Python tidies up (where its own handlers
    no longer hold)."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


@contextlib.contextmanager
def interruptible(said: str) -> Iterator[None]:
    """While the block runs, a first signal raises KeyboardInterrupt, so that files and workers are left in order; a
    second one says `said` and ends the process at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: object) -> None:
        end_at_once(said)
        raise KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in _SIGNALS}
    for number, handler in before.items():
        if handler != signal.SIG_IGN:
            signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
