"""Cross-fitted twins in a verdict's words: where memorising was read from, what it changed, and what it took."""

from typing import TYPE_CHECKING

from search.record.record import TrialRecord
from search.verdict.decision import Decision
from search.verdict.quantities import duration

if TYPE_CHECKING:
    from search.verdict.verdict import Verdict

_PARTS = {2: "half", 3: "third", 4: "quarter", 5: "fifth", 6: "sixth", 7: "seventh", 8: "eighth"}


def words_of(found: Decision) -> dict[str, str]:
    """What to call channels, where twins read them; none without twins."""
    return {"heldout_loss": "photos that its twins left out"} if found.twins else {}


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
        again = (
            " Another number of them (finalists.twins) tries it with other parts of the photos." if told.broken else ""
        )
        return [f"Where memorising begins could not be read from twins: {last}.{again}"]
    beside = f", beside the {told.beside} held-out ones" if told.beside else ""
    said = f"Its {told.count} twins read {told.photos} photos{beside}, each by the twin that was trained without it."
    if not told.moved:
        return [f"{said} The {unit} to ship is the same without them."]
    is_it = "ships" if verdict.decision.ships else "is to ship, which scores too little,"
    said += f" By what they read, {unit} {told.shipped} {is_it} instead of {unit} {told.before}."
    if verdict.finalists is not None and not verdict.scored_afresh:
        return [f"{said} It could not be drawn again there: what fresh images say is of {unit} {told.before}."]
    return [said]


def from_twins(record: TrialRecord, epoch: int) -> list[str]:
    """That an epoch of a trial ships by what its twins read; nothing of any other epoch."""
    told = record.twins
    if told is None or told.onset is None or told.shipped != epoch:
        return []
    before = f"Without them it would be epoch {told.before}" if told.moved else "Without them it would be the same"
    return [f"Where memorising begins was read from {told.count} twins. {before}."]


def twin_cost(verdict: "Verdict") -> list[str]:
    """What they took."""
    told = verdict.twins
    return [] if told is None or not told.seconds else [f"Its twins took {duration(told.seconds)} more."]
