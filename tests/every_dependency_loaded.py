"""A pytest plugin (`-p tests.every_dependency_loaded`): a run that loads no module of a declared package fails."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from tests.dependencies import declared, packages_of

GROUPS = ("", "heic", "tables", "test")
_FILES_ONLY = {"matplotlib-fontja"}  # its typefaces are read; importing it would change settings of matplotlib


def _not_loaded() -> Iterator[str]:
    loaded = {package for module in list(sys.modules) if "." not in module for package in packages_of(module)}
    yield from sorted({package for group in GROUPS for package in declared()[group]} - loaded - _FILES_ONLY)


def pytest_sessionfinish(session: pytest.Session) -> None:
    if list(_not_loaded()) and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for package in _not_loaded():
        terminalreporter.write_line(f"{package} is declared, and no test of this run has loaded it", red=True)
