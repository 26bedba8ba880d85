"""What pyproject.toml declares and what the code imports, as names of packages on an index."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("onset", "search", "trainer", "metrics", "studies")  # what a user installs
ASIDE = ("tests", "benchmarks")
ELSEWHERE = ROOT / "benchmarks" / "parity" / "theirs"  # runs in the environments of the tools that are compared


def normalised(name: str) -> str:
    """A package's name as indexes compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


@cache
def declared() -> dict[str, dict[str, str]]:
    """Group ("" for the plain installation, or an extra) → package → how it is declared: "torch>=2.9,<3"."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = {"": project["dependencies"], **project["optional-dependencies"]}
    found: dict[str, dict[str, str]] = {}
    for group, requirements in groups.items():
        named = ((re.split(r"[\[<>=!~; ]", each)[0], each) for each in requirements)
        found[group] = {normalised(name): each for name, each in named if name != project["name"]}
    return found


@cache
def imported(folders: tuple[str, ...]) -> dict[str, list[str]]:
    """Package → files below these folders that import it. One that is not installed goes by its module's name."""
    found = defaultdict(list)
    for file in sorted(file for folder in folders for file in (ROOT / folder).rglob("*.py")):
        if not file.is_relative_to(ELSEWHERE):
            for package in {each for module in _modules(file) for each in packages_of(module)}:
                found[package].append(file.relative_to(ROOT).as_posix())
    return dict(found)


def packages_of(module: str) -> list[str]:
    """The packages that bring a top-level module: "PIL" → ["pillow"]; none for Python's own and ours."""
    if module in sys.stdlib_module_names or module in (*PACKAGES, *ASIDE):
        return []
    return sorted({normalised(name) for name in _by_module().get(module, [module])})


@cache
def _by_module() -> dict[str, list[str]]:
    return dict(packages_distributions())


def _modules(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.split(".")[0]
