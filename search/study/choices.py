"""Every way in which the entries of a search space can be chosen together."""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from search.study.space import Entry


def every_choice(
    entries: "tuple[Entry, ...]",
    chosen: dict[str, Any],
    values: "Callable[[Entry], Sequence[Any]]" = lambda entry: entry.corners,
) -> Iterator[dict[str, Any]]:
    """What can be chosen beside `chosen`; entries come after those that they depend on.

    Args:
        values: those of an entry, its corners (ranges by their ends) unless given.
    """
    if not entries:
        yield chosen
        return
    first, rest = entries[0], entries[1:]
    if not first.active(chosen):
        yield from every_choice(rest, chosen, values)
        return
    for value in values(first):
        yield from every_choice(rest, {**chosen, first.field: value}, values)
