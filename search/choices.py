"""Every way in which the entries of a search space can be chosen together."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from search.space import Entry


def every_choice(entries: "tuple[Entry, ...]", chosen: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What can be chosen beside `chosen`, ranges by their ends; entries come after those that they depend on."""
    if not entries:
        yield chosen
        return
    first, rest = entries[0], entries[1:]
    if not first.active(chosen):
        yield from every_choice(rest, chosen)
        return
    for value in first.corners:
        yield from every_choice(rest, {**chosen, first.field: value})
