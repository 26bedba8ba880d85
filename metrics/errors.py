"""What can go wrong in `metrics`: one root, its text is one line for the user."""

import difflib
from collections.abc import Iterable


class MetricsError(Exception):
    """Images, a table or an encoder cannot be used as asked."""


def mistake(where: str, value: object, expected: str, why: str = "") -> MetricsError:
    """The error for a wrong input, in the one form: `where: expected …, got …`, then `: why` where there is more.

    `trainer.errors.mistake` is its twin: the two packages stand alone.

    >>> print(mistake("--epoch", 3, "an epoch that was drawn (0, 10)"))
    --epoch: expected an epoch that was drawn (0, 10), got 3
    """
    got = "nothing" if value is None else repr(value)
    return MetricsError(": ".join([where, f"expected {expected}, got {got}", *([why] if why else [])]))


def nearest(name: str, known: Iterable[str]) -> str:
    """` (did you mean prompt?)`: the known name most like this one; "" when none is like it."""
    spelt = {each.lower(): each for each in known}
    found = difflib.get_close_matches(name.lower(), list(spelt), n=1, cutoff=0.6)
    return f" (did you mean {spelt[found[0]]}?)" if found and spelt[found[0]] != name else ""
