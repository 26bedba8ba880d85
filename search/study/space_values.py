"""What a space holds: how many configurations there are, and whether values that others chose are among them."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from search.study.choices import every_choice
from search.study.space import Entry, Space, label

_MOST = 4096


@lru_cache(maxsize=4)
def size(space: Space) -> int | None:
    """How many configurations there are; None for more than a study would try, or for ranges without steps."""
    choices = {entry: _choices(entry) for entry in space.entries}
    if any(found is None for found in choices.values()):
        return None
    number = 0
    for _ in every_choice(space.entries, {}, lambda entry: choices[entry] or ()):
        number += 1
        if number > _MOST:
            return None
    return number


def misfit(space: Space, params: Mapping[str, Any]) -> str | None:
    """What of another's values, by parameter, is not searched here; None when all can be chosen."""
    for name, value in params.items():
        entry = next((e for e in space.entries if e.parameter == name), None)
        if entry is None:
            return f"{name}, which is not searched"
        if not _allows(entry, value):
            return f"{name}: {value}, which is outside what is searched"
    return None


def given_values(space: Space, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields that somebody chose, as Optuna stores them by parameter, as far as they count beside each other.

    A field that is searched under conditions counts in the entry whose conditions the other fields meet, or may meet
    where they are left to the sampler.
    """
    stored: dict[str, Any] = {}
    for entry in space.entries:
        if entry.constant or entry.field not in fields:
            continue
        value = fields[entry.field]
        met = all(field not in fields or fields[field] in values for field, values in entry.when)
        if met and _allows(entry, label(value)):
            stored[entry.parameter] = label(value) if entry.values else (int if entry.whole else float)(value)
    return stored


def why_not_given(space: Space, fields: Mapping[str, Any]) -> tuple[str, str] | None:
    """(field, what is expected of it) of the first that cannot be tried; None when all can."""
    for field, value in fields.items():
        entries = [entry for entry in space.entries if entry.field == field]
        if not entries:
            return field, f"a field that is searched ({', '.join(dict.fromkeys(e.field for e in space.entries))})"
        if not any(_allows(entry, label(value)) for entry in entries):
            return field, "one of the values that are searched"
        met = [e for e in entries if all(f not in fields or fields[f] in values for f, values in e.when)]
        if not any(_allows(entry, label(value)) for entry in met):
            return field, "a value that is searched beside the others here (`when:`)"
    return None


def every_value(entry: Entry) -> Sequence[Any]:
    """Every value of an entry that has choices or a range with steps."""
    if entry.values:
        return entry.values
    step, count = _step(entry) or 1, len(_choices(entry) or ())
    return [int(entry.low + i * step) if entry.whole else entry.low + i * step for i in range(count)]


def _choices(entry: Entry) -> Sequence[Any] | None:
    """Every value that can be chosen; None for a range without steps."""
    if entry.values:
        return entry.values
    step = _step(entry)
    return None if step is None else range(int((entry.high - entry.low) / step + 1e-8) + 1)


def _allows(entry: Entry, value: Any) -> bool:
    """Whether Optuna's value of this parameter, as somebody else gives it, is one that can be chosen."""
    if entry.values:
        labels = map(label, entry.values)
        return any(isinstance(value, bool) == isinstance(known, bool) and value == known for known in labels)
    if isinstance(value, bool) or not isinstance(value, int | float) or not entry.low <= value <= entry.high:
        return False
    step = _step(entry)
    return step is None or abs((value - entry.low) / step - round((value - entry.low) / step)) < 1e-8


def _step(entry: Entry) -> float | None:
    return entry.step or (1 if entry.whole else None)
