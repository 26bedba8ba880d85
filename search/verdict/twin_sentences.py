"""Cross-fitted twins in a verdict's words: where memorising was read from, what it changed, and what it took."""

from typing import TYPE_CHECKING

from search.verdict.decision import Decision
from search.verdict.quantities import duration

if TYPE_CHECKING:
    from search.verdict.verdict import Verdict

_PARTS = {2: "half", 3: "third", 4: "quarter", 5: "fifth", 6: "sixth", 7: "seventh", 8: "eighth"}


def read_from_twins(found: Decision) -> str:
    """What the memory onset was read from; "" where there were no twins."""
    if not found.twins:
        return ""
    part = "the other half" if found.twins == 2 else f"another {_PARTS[found.twins]}"
    return f"Read from {found.twins} twins: trainings with the same settings, each without {part} of the photos."


def twin_sentences(verdict: "Verdict") -> list[str]:
    """What the twins were, and what ships by them; why there are none, where some were asked for."""
    told, unit = verdict.twins, verdict.decision.unit
    if told is None:
        return []
    if told.onset is None:
        last = told.failed.strip().splitlines()[-1].removesuffix(".")
        return [f"Where memorising begins could not be read from twins: {last}."]
    beside = f", beside the {told.beside} held-out ones" if told.beside else ""
    said = f"Its {told.count} twins read {told.photos} photos{beside}, each by the twin that was trained without it."
    if not told.moved:
        return [f"{said} The {unit} to ship is the same without them."]
    moved = f" By what they read, {unit} {told.onset.best} ships instead of {unit} {told.before}"
    if told.fresh is None:
        return [f"{said}{moved}."]
    score, low, high = told.fresh
    between = f"(90 % interval {low:.3f} to {high:.3f})"
    return [f"{said}{moved}; drawn there with fresh seeds, too, it scores {score:.3f} {between}."]


def twin_cost(verdict: "Verdict") -> list[str]:
    """What they took."""
    told = verdict.twins
    return [] if told is None or not told.seconds else [f"Its twins took {duration(told.seconds)} more."]
