"""Signals end a process with 130: at once, or after it has left things in order; in both of the twins."""

import importlib
import os
import signal
import threading
from collections.abc import Callable
from types import ModuleType

import pytest

from trainer.interrupts import INTERRUPTED

LATER = 7  # exit code of a child that went on


@pytest.fixture(params=["trainer", "metrics"])
def twin(request: pytest.FixtureRequest) -> ModuleType:
    return importlib.import_module(f"{request.param}.interrupts")


def child(work: Callable[[], None]) -> tuple[int, str]:
    """Exit code and stderr of a process that works and then ends with LATER."""
    reading, writing = os.pipe()
    number = os.fork()
    if number == 0:
        os.dup2(writing, 2)
        try:
            work()
        except KeyboardInterrupt:
            os._exit(LATER + 1)
        finally:
            os._exit(LATER)
    os.close(writing)
    with os.fdopen(reading) as said:
        text = said.read()
    return os.waitstatus_to_exitcode(os.waitpid(number, 0)[1]), text


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(("said", "shown"), [("", ""), ("it is kept", "it is kept\n"), ("é", "\\xe9\n")])
def test_a_signal_ends_a_process_at_once(twin: ModuleType, number: int, said: str, shown: str) -> None:
    def work() -> None:
        signal.signal(number, signal.SIG_DFL)
        twin.end_at_once(said)
        send(number)

    assert child(work) == (INTERRUPTED, shown)


def test_a_signal_that_was_to_be_ignored_stays_so(twin: ModuleType) -> None:
    def at_once() -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        twin.end_at_once("no")
        send(signal.SIGINT)

    def within() -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with twin.interruptible("no"):
            send(signal.SIGINT)

    def late() -> None:
        twin.ignore_signals()
        send(signal.SIGINT)
        send(signal.SIGTERM)

    assert [child(work) for work in (at_once, within, late)] == [(LATER, "")] * 3


def test_a_first_signal_interrupts_and_a_second_one_ends(twin: ModuleType) -> None:
    def once() -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        with twin.interruptible("it is kept"):
            send(signal.SIGTERM)

    def twice() -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        with twin.interruptible("it is kept"):
            try:
                send(signal.SIGTERM)
            finally:
                send(signal.SIGTERM)

    assert child(once) == (LATER + 1, "")
    assert child(twice) == (INTERRUPTED, "it is kept\n")


def test_handlers_are_as_before_afterwards(twin: ModuleType) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with twin.interruptible("x"):
        assert signal.getsignal(signal.SIGTERM) != before[1]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    passed = []

    def elsewhere() -> None:
        with twin.interruptible("x"):
            passed.append(True)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert passed == [True]
