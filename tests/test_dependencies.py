"""What is imported is declared in pyproject.toml, and what is declared is imported or says why not."""

from __future__ import annotations

import pytest

from tests.dependencies import ASIDE, PACKAGES, ROOT, declared, imported

OPTIONAL = ("heic", "masks", "postgres", "ray", "slurm", "tables")  # extras that the packages use when they are there
TESTED = ("", *OPTIONAL, "test")


def _declared(groups: tuple[str, ...]) -> set[str]:
    return {package for group in groups for package in declared()[group]}


@pytest.mark.parametrize(
    ("folders", "groups"), [(PACKAGES, ("", *OPTIONAL)), (ASIDE, (*TESTED, "benchmarks"))], ids=["packages", "aside"]
)
def test_everything_imported_is_declared(folders: tuple[str, ...], groups: tuple[str, ...]) -> None:
    undeclared = {package: files for package, files in imported(folders).items() if package not in _declared(groups)}
    assert undeclared == {}


def test_everything_declared_is_imported_or_says_beside_it_what_it_is_for() -> None:
    by_users, by_tests = imported(PACKAGES).keys(), imported(ASIDE).keys()
    idle = {
        requirement
        for group, requirements in declared().items()
        for package, requirement in requirements.items()
        if package not in by_users and not (group in ("test", "dev") and package in by_tests)
    }
    lines = (ROOT / "pyproject.toml").read_text(encoding="utf-8").splitlines()
    explained = {each for each in idle if any(f'"{each}",  # ' in line for line in lines)}
    assert idle - explained == set()


def test_each_declared_package_has_a_lowest_version() -> None:
    assert [each for group in TESTED for each in declared()[group].values() if ">=" not in each] == []
