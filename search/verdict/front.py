"""Likeness against obedience: what each trial's checkpoint to ship reads of the two, and which trials are on the front,
where none is more alike and obeys more at once."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from search.record.curve import LIKENESS, OBEDIENCE, Curve
from search.record.record import TrialRecord
from search.verdict.decision import decide

if TYPE_CHECKING:
    from search.verdict.verdict import Verdict

FRONT_PICTURE = "front.png"


@dataclass(frozen=True)
class Place:
    """A trial's checkpoint to ship.

    Attributes:
        likeness: `fidelity`, 0 as the base to 1 as the photos.
        obedience: `prompt`, the change against the base, 0 as the base.
    """

    trial: int
    epoch: int
    likeness: float
    obedience: float

    @property
    def numbers(self) -> str:
        return f"likeness {self.likeness:.2f}, obedience {self.obedience:+.2f}"


@dataclass(frozen=True)
class Front:
    """What a verdict says of the two.

    Attributes:
        places: those on the front, the most alike first.
        winner: the trial to ship, on the front or not.
        beaten_by: number of a trial that is as alike as the winner and obeys as much, and does better in one of them;
            None where the winner is on the front.
        trials: how many were compared.
    """

    places: tuple[Place, ...]
    winner: Place
    beaten_by: int | None
    trials: int


def places_of(records: Iterable[TrialRecord], curves: Mapping[int, Curve | None]) -> list[Place]:
    """Every trial that ships something and has both readings there, as the search read them; by number."""
    found = []
    for record in records:
        shipped, curve = decide(record).shipped, curves.get(record.number)
        read = None if curve is None or shipped is None else curve.at(shipped)
        if shipped is not None and read is not None and LIKENESS in read and OBEDIENCE in read:
            found.append(Place(record.number, shipped, read[LIKENESS], read[OBEDIENCE]))
    return found


def front_of(places: Sequence[Place], winner: int | None) -> Front | None:
    """None where there is nothing to compare, or the winner has no place."""
    own = next((place for place in places if place.trial == winner), None)
    if own is None or len(places) < 2:
        return None
    there = [places[row] for row in non_dominated([(p.likeness, p.obedience) for p in places])]
    there.sort(key=lambda place: (-place.likeness, -place.obedience, place.trial))
    better = [place for place in there if _dominates(place, own)]
    nearest = min(better, key=lambda place: (place.likeness + place.obedience, place.trial), default=None)
    return Front(tuple(there), own, None if nearest is None else nearest.trial, len(places))


def non_dominated(points: Sequence[tuple[float, float]]) -> list[int]:
    """Rows of the points for which no other is as large in both coordinates and larger in one; rising.

    >>> non_dominated([(1, 3), (2, 2), (2, 1), (3, 0), (0, 3)])
    [0, 1, 3]
    """
    order = sorted(range(len(points)), key=lambda row: (-points[row][0], -points[row][1]))
    kept, best, last = list[int](), float("-inf"), None
    for row in order:
        if points[row][1] > best or points[row] == last:
            kept.append(row)
            best, last = points[row][1], points[row]
    return sorted(kept)


def _dominates(one: Place, other: Place) -> bool:
    at_least = one.likeness >= other.likeness and one.obedience >= other.obedience
    return at_least and (one.likeness, one.obedience) != (other.likeness, other.obedience)


def front_sentences(verdict: "Verdict") -> list[str]:
    """What the picture shows, in words."""
    front = verdict.front
    if front is None:
        return []
    first, last, own = front.places[0], front.places[-1], front.winner
    count = f"the {front.trials} trials that ship something"
    if len(front.places) == 1:
        said = f"Of {count}, {_named(first, own)} is most alike and obeys prompts most ({first.numbers})."
    else:
        said = (
            f"{len(front.places)} of {count} are on the front of likeness and obedience: no other trial is both more "
            f"alike and more obedient. Of these {_named(first, own)} is most alike ({first.numbers}), and "
            f"{_named(last, own)} obeys prompts most ({last.numbers})."
        )
    if own in (first, last):
        return [said]
    wins = f"The winner, trial {own.trial} (epoch {own.epoch}; {own.numbers}), is"
    if front.beaten_by is None:
        return [f"{said} {wins} on the front."]
    return [f"{said} {wins} not on the front: trial {front.beaten_by} is as alike or more, and obeys as much or more."]


def _named(place: Place, winner: Place) -> str:
    return f"trial {place.trial} ({'the winner, ' if place == winner else ''}epoch {place.epoch})"
