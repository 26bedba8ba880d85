"""What can go wrong in `trainer`: one root, each error saying what a person has to change."""

import difflib
from collections.abc import Iterable, Sequence
from pathlib import Path

_MOST_CHARACTERS = 120


class TrainerError(Exception):
    """Root of every error that `trainer` raises on purpose; its text is one line for the user."""


class ConfigError(TrainerError):
    """A setting is unknown, of the wrong type or impossible.

    Args:
        file: the YAML file, or None when the config was built in code.
        key: dotted name of the setting.
        value: what was given.
        allowed: what would have been right, in words.
    """

    def __init__(self, file: str | Path | None, key: str, value: object, allowed: str) -> None:
        self.file, self.key, self.value, self.allowed = file, key, value, allowed
        where = f"{file}: " if file is not None else ""
        super().__init__(f"{where}{key}: {shown(value)} is not allowed: {allowed}")

    @property
    def all(self) -> "tuple[ConfigError, ...]":
        """Each wrong setting by itself."""
        return (self,)


class ConfigErrors(ConfigError):
    """Several settings are wrong: one line for each. As a ConfigError it is the first of them."""

    def __init__(self, errors: Sequence[ConfigError]) -> None:
        first = errors[0]
        super().__init__(first.file, first.key, first.value, first.allowed)
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


def shown(value: object) -> str:
    """A value as Python writes it, in one line; the middle of a long one is left out."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a whole number of more digits than Python prints; a list in itself
        text = f"a {type(value).__name__} that cannot be shown"
    half = _MOST_CHARACTERS // 2
    return text if len(text) <= _MOST_CHARACTERS else f"{text[:half]} … {text[-half:]}"


def unknown_key(key: str, known: Iterable[str]) -> str:
    """What is allowed instead of an unknown key: the nearest known one, or all."""
    near = difflib.get_close_matches(key[:_MOST_CHARACTERS], list(known), n=1, cutoff=0.6)
    return f"unknown key, did you mean {near[0]}?" if near else f"unknown key; known are {', '.join(sorted(known))}"
