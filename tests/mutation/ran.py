"""Which tests run which faults' places.

A copy of the code calls `ran` there, in whatever process: pytest's own, a worker that a server forked, a command.
As a pytest plugin this module says which test is running, and notes how long each takes.
"""

import contextlib
import json
import os
import resource
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.mutation.mutants import Mutant

MOST_TESTS = 60
"""For a fault. Where more come to it, those that are nearest find it or the others hardly do."""
_HERE = os.getpid()  # in which tests are noted; forks of it try faults
_NOW, _PYTEST = "now", "RAN_PYTEST"  # a file beside the notes: the running test; pytest's process
_LOOKS_SECONDS = 0.1
_looked: tuple[float, str] = (float("-inf"), "")
_told: set[tuple[int, str]] = set()
_seconds: dict[str, dict[str, float]] = defaultdict(lambda: {"setup": 0.0, "call": 0.0, "teardown": 0.0})


def ran(place: int) -> None:
    """Notes that the running test came to this place. Outside tests (on import) it notes no test."""
    if "RAN" in os.environ and (place, test := _running()) not in _told:
        _told.add((place, test))
        note(Path(os.environ["RAN"]) / "places.jsonl", {"place": place, "test": test})


def _running() -> str:
    """The running test, as pytest says it: "path::test (setup)"."""
    global _looked
    if os.environ.get(_PYTEST, str(os.getpid())) == str(os.getpid()):
        return os.environ.get("PYTEST_CURRENT_TEST", "")
    # another process may have begun in another test, whose name it keeps: all workers come from one server
    if (now := time.monotonic()) > _looked[0] + _LOOKS_SECONDS:
        with contextlib.suppress(OSError):
            _looked = now, (Path(os.environ["RAN"]) / _NOW).read_text()
    return _looked[1]


def pytest_configure() -> None:
    os.environ[_PYTEST] = str(os.getpid())


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    say_what_runs(f"{item.nodeid} (setup)")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> None:
    say_what_runs(f"{item.nodeid} (call)")


def say_what_runs(test: str) -> None:
    """To processes that are not pytest's."""
    aside = Path(os.environ["RAN"]) / f".{_NOW}"
    aside.write_text(test)
    aside.replace(aside.with_name(_NOW))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if os.getpid() != _HERE:
        return  # a test that finds a fault is no failed one
    spent = _seconds[report.nodeid]
    spent[report.when] += report.duration
    if report.when == "teardown" or report.outcome != "passed":
        row = {
            "test": report.nodeid,
            "outcome": report.outcome,
            "seconds": round(spent["call"] + spent["teardown"], 3),
            "setup": round(spent["setup"], 3),
        }
        note(Path(os.environ["RAN"]) / "tests.jsonl", row)


def note(path: Path, row: dict) -> None:
    """Adds a line to a file of JSON lines, also while a test plays a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (before[1], before[1]))
    try:
        with path.open("a") as file:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def with_calls(source: str, places: dict[int, Mutant]) -> str:
    """The file's text with a call of `ran` at each of these faults."""
    inserted = []  # at the same byte ends come first, then a statement's start, then the outer expressions' starts
    for number, mutant in places.items():
        call = f'__import__("tests.mutation.ran", fromlist=["ran"]).ran({number})'
        if mutant.statement:
            inserted.append((mutant.start, 1, -mutant.end, f"{call}; "))
        else:
            inserted.append((mutant.start, 2, -mutant.end, f"({call} or ("))
            inserted.append((mutant.end, 0, -mutant.start, "))"))
    text = source.encode()
    for at, _, _, words in sorted(inserted, reverse=True):
        text = text[:at] + words.encode() + text[at:]
    return text.decode()


@dataclass
class Ran:
    """The seconds of each passed test, and the tests that came to each place.

    setup: by file and parameters, the longest set-up: what these tests share, and each needs if the others do not run.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    setup: dict[str, float] = field(default_factory=dict)
    tests: dict[int, set[str]] = field(default_factory=dict)
    all_tests: set[str] = field(default_factory=set)

    @classmethod
    def read(cls, folder: Path) -> "Ran":
        noted = cls()
        failed = set()
        for row in _rows(folder / "tests.jsonl"):
            shared = _shared(row["test"])
            noted.setup[shared] = max(noted.setup.get(shared, 0.0), row["setup"])
            if row["outcome"] == "passed":
                noted.seconds[row["test"]] = row["seconds"]
            else:
                failed.add(row["test"])
        noted.all_tests = failed | noted.seconds.keys()
        noted.seconds = {test: seconds for test, seconds in noted.seconds.items() if test not in failed}
        of_file: dict[str, set[str]] = {}
        for test in noted.seconds:
            of_file.setdefault(test.split("::")[0], set()).add(test)
        for row in _rows(folder / "places.jsonl"):
            test, _, phase = row["test"].rpartition(" ")
            # what one test's set-up came to, the others of its file may use
            came = of_file.get(test.split("::")[0], set()) if phase == "(setup)" else {test}
            noted.tests.setdefault(row["place"], set()).update(came & noted.seconds.keys())
        return noted

    def within(self, place: int, path: str, limit: float, *, on_import: bool = False) -> tuple[list[str], float]:
        """The tests that came to a place of the file `path`, as many as `limit` seconds hold, and their seconds.

        Tests in the file's own test file come first, then those of the same room and of the same package; of these the
        quick ones. If only imports come to the place, all that are near do; if nothing does, there are none.

        Args:
            on_import: the place runs on import only. Tests that start processes are seen to come there, and for all
                the others it lies behind them: all that are near count as well.
        """
        if place not in self.tests:
            return [], 0.0
        package, (room, _, name) = path.split("/")[0], path.rpartition("/")

        def distance(test: str) -> tuple[int, float]:
            own, here, beside = f"tests/{room}/test_{name}::", f"tests/{room}/", f"tests/{package}/"
            near = next((far for far, start in enumerate((own, here, beside)) if test.startswith(start)), 3)
            return near, self.seconds[test] + self.setup[_shared(test)]

        came = self.tests[place]
        if on_import or not came:
            came = came | {test for test in self.seconds if distance(test)[0] < 3}
        chosen: list[str] = []
        begun: set[str] = set()
        spent = 0.0
        for test in sorted(came, key=distance):
            shared = _shared(test)
            more = self.seconds[test] + (0.0 if shared in begun else self.setup[shared])
            if not chosen or (spent + more <= limit and len(chosen) < MOST_TESTS):
                chosen.append(test)
                begun.add(shared)
                spent += more
        return chosen, spent


def _rows(path: Path) -> list[dict]:
    return [json.loads(row) for row in path.read_text().splitlines()] if path.exists() else []


def _shared(test: str) -> str:
    """The file of a test with its parameters: tests alike in both share what was set up."""
    return test.split("::")[0] + "[" + test.partition("[")[2]
