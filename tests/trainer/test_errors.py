"""The one form in which wrong inputs are told, with the name that was meant."""

from typing import Any

import pytest

from trainer.errors import (
    ConfigError,
    ConfigErrors,
    DataError,
    Plain,
    known_key,
    mistake,
    nearest,
    refuse,
    refuse_data,
    shown,
    unknown,
)

ITSELF: list[Any] = []
ITSELF.append(ITSELF)


@pytest.mark.parametrize(
    ("parts", "line"),
    [
        (("a.yaml", "rank", 0, "at least 1"), "a.yaml: rank: expected at least 1, got 0"),
        ((None, "rank", "x", "a number"), "rank: expected a number, got 'x'"),
        (("a.yaml", "", [], "a mapping"), "a.yaml: expected a mapping, got []"),
        ((None, "--base", None, "a base"), "--base: expected a base, got nothing"),
        ((None, "flip", True, "a number"), "flip: expected a number, got true"),
        ((None, "flip", False, "a number"), "flip: expected a number, got false"),
        ((None, "n", Plain("3 Things"), "two"), "n: expected two, got 3 Things"),
        ((None, "n", 1, "two", "it takes two"), "n: expected two, got 1: it takes two"),
    ],
)
def test_a_mistake_is_told_in_one_form(parts: tuple[Any, ...], line: str) -> None:
    assert mistake(*parts) == line
    error = ConfigError(*parts)
    assert str(error) == line
    assert (error.file, error.key, error.value, error.expected) == parts[:4]
    assert error.why == (parts[4] if len(parts) > 4 else "")
    assert error.all == (error,)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("x" * 118, "'" + "x" * 118 + "'"),
        ("x" * 119, "'" + "x" * 59 + " … " + "x" * 59 + "'"),
        (ITSELF, "[[...]]"),
        ({"a": 1.5}, "{'a': 1.5}"),
    ],
)
def test_long_values_are_shown_by_their_ends(value: object, text: str) -> None:
    assert shown(value) == text
    assert shown(10**5000) == "a int that cannot be shown"


def test_several_mistakes_are_a_line_each() -> None:
    one, other = ConfigError("a", "b", 1, "c", "why"), ConfigError(None, "d", 2, "e")
    refuse([])
    with pytest.raises(ConfigError) as alone:
        refuse([one])
    assert alone.value is one
    with pytest.raises(ConfigErrors) as both:
        refuse([one, other])
    assert str(both.value) == f"{one}\n{other}"
    assert both.value.all == (one, other)
    assert (both.value.file, both.value.key, both.value.value, both.value.expected, both.value.why) == (
        "a", "b", 1, "c", "why"
    )  # fmt: skip
    refuse_data([])
    first, second = DataError("one"), DataError("two")
    with pytest.raises(DataError) as data:
        refuse_data([first])
    assert data.value is first
    with pytest.raises(DataError, match=r"^one\ntwo$"):
        refuse_data([first, second])


@pytest.mark.parametrize(
    ("name", "known", "expected"),
    [
        ("Rank", ["rank", "alpha"], " (did you mean rank?)"),
        ("rnak", ["rank", "alpha"], " (did you mean rank?)"),
        ("ADAMW", ["AdamW", "Lion"], " (did you mean AdamW?)"),
        ("zzz", ["rank", "alpha"], ""),
        (7, ["rank"], ""),
        ("rank", [], ""),
        ("rank" + "x" * 10**6, ["rank"], ""),
    ],
)
def test_the_nearest_name_is_named(name: object, known: list[str], expected: str) -> None:
    assert nearest(name, known) == expected


MANY = [f"key{number}" for number in range(31)]


@pytest.mark.parametrize(
    ("name", "known", "expected"),
    [
        ("network_dim", ["rank"], "rank, as network_dim is called here"),
        ("network_dim", ["alpha"], "one of alpha"),
        ("rnak", ["rank", "alpha"], "a known key (did you mean rank?)"),
        ("zzz", ["rank", "alpha"], "one of alpha, rank"),
        ("zzz", MANY, "a known key (docs/fields.md has them all)"),
        ("zzz", MANY[:30], f"one of {', '.join(sorted(MANY[:30]))}"),
        ("key3x", MANY, "a known key (did you mean key3?)"),
        ("xformers", ["learning_rate"], "nothing, because it needs no setting here"),
        ("xformers", ["rank"], "one of rank"),
        ("vae", ["learning_rate"], "nothing, because there is nothing like it here"),
    ],
)
def test_what_is_expected_instead_of_an_unknown_key(name: str, known: list[str], expected: str) -> None:
    assert known_key(name, known) == expected
    error = unknown("a.yaml", f"output.{name}", known)
    assert (error.file, error.key, error.value, error.expected) == ("a.yaml", f"output.{name}", name, expected)
