"""Samplers and pruners by name: what is made with which keywords, and what is told of a wrong one."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from search.tuning.classes import made
from trainer.errors import ConfigError

OWN = """
class Sized(dict):
    def __init__(self, size=1):
        if size < 0:
            raise ValueError("a size  is\\nnever negative " + "x" * 300)
        super().__init__(size=size)
"""


def broken() -> dict:
    raise ModuleNotFoundError("No module named 'cmaes'", name="cmaes")


@pytest.fixture(autouse=True)
def _own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sized_things.py").write_text(OWN)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])


def make(name: str, arguments: Mapping[str, Any], **ours: Any) -> dict:
    return made(("kind.name", "kind.arguments"), name, arguments, {"plain": dict, "broken": broken}, dict, **ours)


def test_keywords_of_the_user_go_before_ours_which_a_class_need_not_know() -> None:
    assert make("plain", {"a": 1}, a=2, seed=3) == {"a": 1, "seed": 3}
    assert make("sized_things:Sized", {"size": 4}, seed=3) == {"size": 4}
    assert "" in sys.path, "a module beside where the command is called"


@pytest.mark.parametrize(
    ("name", "arguments", "key", "expected", "why"),
    [
        ("sized_things:Sized", {"shape": 1}, "kind.arguments", "keywords of sized_things:Sized", "unexpected keyword"),
        ("sized_things:Sized", {"size": -1}, "kind.arguments", "values that sized_things:Sized takes",
         "a size is never negative xxx"),
        ("broken", {}, "kind.name", "one that is installed: pip install cmaes", ""),
        ("no_such_thing:Sized", {}, "kind.name", "a class that can be imported",
         "ModuleNotFoundError: No module named 'no_such_thing'"),
        ("sized_things:Other", {}, "kind.name", "a class that can be imported", "AttributeError: "),
        ("sized_things:OWN", {}, "kind.name", "a class that can be imported", "AttributeError: "),
        ("collections:OrderedDict", {"a": 1}, "", "", ""),
        ("pathlib:Path", {}, "kind.name", "a class of Optuna's kind (builtins.dict)", ""),
        ("pathlib:os", {}, "kind.name", "a class of Optuna's kind (builtins.dict)", ""),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_where_it_stands(name: str, arguments: Any, key: str, expected: str, why: str) -> None:
    if not key:
        assert make(name, arguments) == arguments
        return
    with pytest.raises(ConfigError) as caught:
        make(name, arguments)
    error = caught.value
    assert (error.key, error.expected) == (key, expected)
    assert error.value == (arguments if key == "kind.arguments" else name)
    assert why in error.why
    assert len(error.why) <= 250
    assert bool(error.why) == bool(why)
