"""What a study did not train, since the same run was there."""

from typing import TYPE_CHECKING

from search.verdict.quantities import duration

if TYPE_CHECKING:
    from search.verdict.verdict import Cost


def saved(spent: "Cost") -> str:
    """A sentence to go behind what was spent; "" where nothing was saved."""
    if not spent.taken:
        return ""
    who = f"{spent.taken} trials have" if spent.taken > 1 else "1 trial has"
    return (
        f" {who} readings of the same run in another trial: that saved "
        f"{spent.saved_epochs} trained epoch{'s' * (spent.saved_epochs != 1)} and {duration(spent.saved_seconds)}."
    )
