"""One thing that the gate has found in a LoRA file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Attributes:
        passes: whether the file may be passed on as it is.
        do: what to do about it.
        what: what was found.
    """

    passes: bool
    do: str
    what: str

    @property
    def line(self) -> str:
        """As it is shown: `fault: run again with --clean: …`."""
        return f"{'note' if self.passes else 'fault'}: {self.do}: {self.what}"


def fault(do: str, what: str) -> Finding:
    """With which the file does not pass."""
    return Finding(False, do, what)


def note(do: str, what: str) -> Finding:
    """Worth knowing; the file passes."""
    return Finding(True, do, what)


def some(things: Sequence[object]) -> str:
    """The first three of them, and how many more there are."""
    more = f" and {len(things) - 3} more" if len(things) > 3 else ""
    return ", ".join(str(thing) for thing in things[:3]) + more
