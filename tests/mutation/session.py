"""The session of tests in which faults are tried: collected once, then a forked process for each fault."""

import contextlib
import functools
import gc
import json
import math
import os
import re
import resource
import signal
import sys
import time
import types
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from tests.mutation.mutants import Mutant
from tests.mutation.ran import Ran, note, with_calls
from tests.search.shared_server import forget_server

ALONE = 70  # exit code of a process in which a fault could not be planted
MOST_CPU = 15.0  # s of a test while it is noted: it is not used, if it needs more
MOST_IDLE = 20.0  # s of the clock in which nothing works
MOST_TIME = 20  # times as long by the clock: it may wait for other processes, on a machine with other work


class TooLong(BaseException):
    """A test that took too much while it was noted."""


def _functions(code: types.CodeType) -> Iterator[types.CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield constant
            yield from _functions(constant)


def loaded_functions() -> dict[str, list[types.FunctionType]]:
    """All functions there are, by the file they come from."""
    functions: dict[str, list[types.FunctionType]] = {}
    gc.unfreeze()  # what is frozen is not among the objects that it names
    for found in gc.get_objects():
        if type(found) is types.FunctionType:  # without asking objects that stand for others
            functions.setdefault(found.__code__.co_filename, []).append(found)
    return functions


def forget_what_was_made(tree: Path) -> None:
    """Empties the caches of the copy's functions and of its tests': what they hold was made without a fault."""
    for found in gc.get_objects():
        if type(found) is functools._lru_cache_wrapper:
            code = getattr(found.__wrapped__, "__code__", None)
            if code is not None and code.co_filename.startswith(str(tree)):
                found.cache_clear()


def plant(functions: Sequence[types.FunctionType], file: Path, source: str) -> bool:
    """Gives a file's loaded functions the code of `source`, whose lines must be those of the file.

    Returns whether any took it, and none could not: a function keeps the number of its free variables. What only runs
    on import is not run again.
    """
    codes = {(code.co_qualname, code.co_firstlineno): code for code in _functions(compile(source, str(file), "exec"))}
    taken, refused = False, False
    for function in functions:
        code = function.__code__
        new = codes.get((code.co_qualname, code.co_firstlineno))
        if new and len(new.co_freevars) == len(code.co_freevars):
            function.__code__ = new
            taken = True
        elif new:
            refused = True
    return taken and not refused


@dataclass(eq=False)  # pytest keeps plugins in sets
class Session:
    """A pytest plugin in place of the loop over tests."""

    tree: Path
    folder: Path  # of notes and outcomes
    chosen: list[Mutant]  # a fault's place in the notes is its place here
    wanted: list[Mutant]  # of these, the ones to be tried
    seconds: float  # of tests for a fault
    results: dict[str, dict]  # by the fault's name: those that are known are not tried again
    forks: bool = True  # or each fault is to be tried in a process of its own
    most_cpu: float = MOST_CPU
    sources: dict[str, str] = field(default_factory=dict)
    noting: bool = True
    functions: dict[str, list[types.FunctionType]] = field(default_factory=dict)
    sound: set[str] = field(default_factory=set)  # tests that fail with a fault and pass without it in the same way
    unsound: set[str] = field(default_factory=set)

    @contextlib.contextmanager
    def planted_calls(self) -> Iterator[None]:
        """The copy's files with a call of `ran` at each fault's place."""
        self.sources = {mutant.path: (self.tree / mutant.path).read_text() for mutant in self.chosen}
        try:
            for path, source in self.sources.items():
                places = {place: mutant for place, mutant in enumerate(self.chosen) if mutant.path == path}
                (self.tree / path).write_text(with_calls(source, places))
            yield
        finally:
            for path, source in self.sources.items():
                (self.tree / path).write_text(source)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        if session.testsfailed:
            raise session.Interrupted("the tests of the copy cannot be collected")
        items = {item.nodeid: item for item in session.items}
        self._note(list(items.values()))
        self.noting = False
        forget_what_was_made(self.tree)
        self.functions = loaded_functions()
        for path, source in self.sources.items():
            file = self.tree / path
            file.write_text(source)
            plant(self.functions.get(str(file), []), file, source)
        ran = Ran.read(self.folder)
        for mutant in self.wanted:
            if mutant.name in self.results:
                continue
            place, on_import = self.chosen.index(mutant), not mutant.in_function
            tests, seconds = ran.within(place, mutant.path, self.seconds, on_import=on_import)
            known = [items[test] for test in tests if test in items and test not in self.unsound]
            row = self.results[mutant.name] = self._try(mutant, known, 40 + 3 * seconds)
            note(self.folder / "outcomes.jsonl", row)
            print(f"\n{row['outcome']:8} {mutant.name}", flush=True)
        return True

    def _note(self, items: list[pytest.Item]) -> None:
        noted = Ran.read(self.folder)
        items = [item for item in items if item.nodeid not in noted.all_tests]
        # after the last one only the session stays up: a fork has to begin in any file and folder
        sessions = [item.session for item in items[:1]]
        for item, following in zip(items, [*items[1:], *sessions], strict=True):
            try:
                item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            except Exception as error:  # pytest cannot report it: one test does not end the notes of all
                print(f"\n{item.nodeid}: {error!r}", flush=True)
                row = {"test": item.nodeid, "outcome": "failed", "seconds": 0.0, "setup": 0.0}
                note(self.folder / "tests.jsonl", row)
                with contextlib.suppress(Exception):
                    item.config.hook.pytest_runtest_teardown(item=item, nextitem=following)

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Iterator[None]:
        if self.noting:

            def stop(*_: object) -> None:
                raise TooLong

            for number, timer, most in (
                (signal.SIGPROF, signal.ITIMER_PROF, self.most_cpu),
                (signal.SIGALRM, signal.ITIMER_REAL, MOST_TIME * self.most_cpu),
            ):
                signal.signal(number, stop)
                signal.setitimer(timer, most)
        outcome = yield
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        if outcome.excinfo is not None and issubclass(outcome.excinfo[0], TooLong):
            # not with the test's own frames: one that was interrupted between two lines has no line to be reported
            outcome.force_exception(TooLong(item.nodeid))

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        if not self.noting:
            (self.folder / "running").write_text(nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if not self.noting and report.failed:
            why = re.sub(r"(?<!\S)/\S*/", "", report.longreprtext.rstrip().rpartition("\n")[2])  # no path of a machine
            (self.folder / "failed").write_text(f"{report.nodeid}\n{why}")
            os._exit(1)

    def _try(self, mutant: Mutant, items: list[pytest.Item], limit: float) -> dict:
        row = {"mutant": mutant.name, "tests": len(items), "by": "", "why": ""}
        if not items:
            return {**row, "outcome": "survived"}
        if not self.forks:
            return {**row, "outcome": "alone"}
        code, test, why = self._forked(mutant, mutant.planted(self.sources[mutant.path]), items, limit)
        if code is None:  # or do these tests hang by themselves? A fork has none of its parent's threads
            hung = (self.folder / "running").read_text()
            if self._forked(mutant, self.sources[mutant.path], self._until(items, hung), limit)[0] is not None:
                return {**row, "outcome": "timeout", "by": hung}
            self.unsound.add(hung)
            return self._try(mutant, [item for item in items if item.nodeid not in self.unsound], limit)
        if code == ALONE or (code and not test):
            return {**row, "outcome": "alone"}
        if code and test not in self.sound:
            # what fails without the fault, too, has found nothing
            if self._forked(mutant, self.sources[mutant.path], self._until(items, test), limit)[0] != 0:
                self.unsound.add(test)
                return self._try(mutant, [item for item in items if item.nodeid not in self.unsound], limit)
            self.sound.add(test)
        return {**row, "outcome": "found" if code else "survived", "by": test, "why": why}

    @staticmethod
    def _until(items: list[pytest.Item], test: str) -> list[pytest.Item]:
        return items[: next((place for place, item in enumerate(items, 1) if item.nodeid == test), len(items))]

    def _forked(
        self, mutant: Mutant, source: str, items: list[pytest.Item], limit: float
    ) -> tuple[int | None, str, str]:
        """The exit code of the tests with this source (none after `limit` seconds of CPU), which one failed and why."""
        failed = self.folder / "failed"
        failed.unlink(missing_ok=True)
        file = self.tree / mutant.path
        file.write_text(source)  # for processes that the tests start
        process = os.fork()
        if process == 0:
            limit_cpu(limit)
            self._in_child(mutant, file, source, items)
        try:
            code = ended(process, limit)
        finally:
            file.write_text(self.sources[mutant.path])
        test, _, why = (
            failed.read_text().partition("\n") if failed.exists() else ("", "", f"exit code {code}" * bool(code))
        )
        return code, test, why

    def _in_child(self, mutant: Mutant, file: Path, source: str, items: list[pytest.Item]) -> None:
        status = ALONE
        try:
            os.setsid()
            forget_server()
            if kept := sys.modules.get("tests.search.plots_drawn_once"):  # the copy's own, where its tests use it
                kept.forget_what_is_made_by(mutant.path.removesuffix(".py").replace("/", "."))
            out = os.open(os.devnull, os.O_RDWR)
            for stream in (1, 2):
                os.dup2(out, stream)
            if not mutant.in_function or not plant(self.functions.get(str(file), []), file, source):
                return
            for item, following in zip(items, [*items[1:], None], strict=True):
                item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            status = 0
        finally:
            os._exit(status)


def limit_cpu(limit: float) -> None:
    """Ends this process when it has used so many seconds: on a busy machine the clock says little."""
    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(limit), math.ceil(limit)))


def ended(process: int, limit: float, idle: float = MOST_IDLE) -> int | None:
    """The exit code of a process that leads a session, or none if it was ended, with all that it started.

    It is ended after four times `limit` seconds, or when neither it nor what it started has worked for `idle` seconds:
    it waits for what never comes. A process that `limit_cpu` ended gives none, too. Time in which this process was
    stopped as well does not count.
    """
    last = time.monotonic()
    waited = worked = before = 0.0
    while waited < 4 * limit and waited < worked + idle:
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process, signal.SIGKILL)
            code = os.waitstatus_to_exitcode(status)
            return None if code in (-signal.SIGXCPU, -signal.SIGKILL) else code
        time.sleep(0.02)
        now = time.monotonic()
        waited += min(now - last, 1.0)
        last = now
        if waited > worked + 1 and abs((used := _cpu(process)) - before) > 0.05:
            worked, before = waited, used
    os.killpg(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return None


def _cpu(process: int) -> float:
    """Seconds of CPU that a process and what it started, as far as it still lives, have used."""
    seconds = 0.0
    with contextlib.suppress(psutil.Error):
        leader = psutil.Process(process)
        for each in (leader, *leader.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                seconds += sum(each.cpu_times()[:2])
    return seconds


def outcomes(folder: Path) -> dict[str, dict]:
    """What is known already, by the fault's name."""
    path = folder / "outcomes.jsonl"
    rows = map(json.loads, path.read_text().splitlines()) if path.exists() else []
    return {row["mutant"]: row for row in rows}
