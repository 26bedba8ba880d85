"""What can go wrong in `trainer`: one root, each error saying what a person has to change."""

import difflib
from collections.abc import Iterable, Sequence
from pathlib import Path

from trainer.other_words import our_name, why_none

_MOST_CHARACTERS = 120
_MOST_LISTED = 30  # names that one line has room for


class TrainerError(Exception):
    """Root of every error that `trainer` raises on purpose; its text is one line for the user."""


class ConfigError(TrainerError):
    """A setting is unknown, of the wrong type or impossible.

    Args:
        file: the YAML file, or None when the config was built in code.
        key: dotted name of the setting; "" where it is about the file as a whole.
        value: what was given; None for nothing.
        expected: what would have been right, in words.
        why: what has to be added to be understood, or "".
    """

    def __init__(self, file: str | Path | None, key: str, value: object, expected: str, why: str = "") -> None:
        self.file, self.key, self.value, self.expected, self.why = file, key, value, expected, why
        super().__init__(mistake(file, key, value, expected, why))

    @property
    def all(self) -> "tuple[ConfigError, ...]":
        """Each wrong setting by itself."""
        return (self,)


class ConfigErrors(ConfigError):
    """Several settings are wrong: one line for each. As a ConfigError it is the first of them."""

    def __init__(self, errors: Sequence[ConfigError]) -> None:
        first = errors[0]
        super().__init__(first.file, first.key, first.value, first.expected, first.why)
        self._all = tuple(errors)
        self.args = ("\n".join(map(str, errors)),)

    @property
    def all(self) -> "tuple[ConfigError, ...]":
        return self._all


class DataError(TrainerError):
    """A training folder, image or caption cannot be used."""


class ModelError(TrainerError):
    """A base model or a LoRA file cannot be loaded, or is of another family."""


def refuse(errors: Sequence[ConfigError]) -> None:
    """Raises ConfigError where there are errors, with all of them."""
    if errors:
        raise errors[0] if len(errors) == 1 else ConfigErrors(errors)


def refuse_data(errors: Sequence[DataError]) -> None:
    """Raises DataError where there are errors: one line for each."""
    if errors:
        raise errors[0] if len(errors) == 1 else DataError("\n".join(map(str, errors)))


def _given(value: object) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool | Plain):
        return str(value).lower() if isinstance(value, bool) else value
    return shown(value)


def shown(value: object) -> str:
    """A value as Python writes it, in one line; the middle of a long one is left out."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a whole number of more digits than Python prints; a list in itself
        text = f"a {type(value).__name__} that cannot be shown"
    half = _MOST_CHARACTERS // 2
    return text if len(text) <= _MOST_CHARACTERS else f"{text[:half]} … {text[-half:]}"


def mistake(file: str | Path | None, key: str, value: object, expected: str, why: str = "") -> str:
    """The one form in which a wrong input is told: `file: key: expected …, got …`, then `: why` where there is more.

    >>> mistake("train.yaml", "rank", 0, "at least 1")
    'train.yaml: rank: expected at least 1, got 0'
    """
    parts = ("" if file is None else str(file), key, f"expected {expected}, got {_given(value)}", why)
    return ": ".join(part for part in parts if part)


class Plain(str):
    """What was given, in words instead of as a value: it stands in a message as it is."""


def unknown(file: str | Path | None, key: str, known: Iterable[str]) -> ConfigError:
    """The error for a key that there is not: it names the nearest known one, or all.

    Args:
        key: dotted; its last part is the unknown one.
    """
    last = key.rpartition(".")[2]
    return ConfigError(file, key, last, known_key(last, known))


def known_key(name: str, known: Iterable[str]) -> str:
    """What is expected instead of an unknown key: ours for another trainer's name, the nearest known one, or all."""
    known = list(known)
    if ours := our_name(name, known):
        return ours
    if "learning_rate" in known and (none := why_none(name)):
        return none
    near = nearest(name, known)
    if len(known) > _MOST_LISTED and not near:
        return "a known key (docs/fields.md has them all)"
    return f"a known key{near}" if near else f"one of {', '.join(sorted(known))}"


def nearest(name: object, known: Iterable[str]) -> str:
    """` (did you mean rank?)`: the known name most like this one; "" when none is like it."""
    spelt = {each.lower(): each for each in known}  # cases are what people mix up first
    found = difflib.get_close_matches(str(name)[:_MOST_CHARACTERS].lower(), list(spelt), n=1, cutoff=0.6)
    return f" (did you mean {spelt[found[0]]}?)" if found else ""
