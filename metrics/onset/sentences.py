"""An onset in words: epochs and intervals have one form everywhere, and a whole onset has a sentence or two."""

from __future__ import annotations

from math import expm1
from typing import TYPE_CHECKING

from metrics.onset.behaviour import LEARNED_FLOOR

if TYPE_CHECKING:
    from metrics.onset.turns import Disagreement, Onset, Turn

OPEN = "open"
"""The upper end of an interval that may lie beyond the last checkpoint."""


def epoch_text(epoch: float) -> str:
    """`16`, `17.3`, `132`: an epoch between two checkpoints has one decimal below 100.

    >>> [epoch_text(value) for value in (16, 17.26, 131.8)]
    ['16', '17.3', '132']
    """
    whole = abs(epoch - round(epoch)) < 0.05 or epoch >= 100
    return f"{epoch:.0f}" if whole else f"{epoch:.1f}"


def interval_text(low: float | None, high: float | None) -> str:
    """`8.3–17`, or `8.3–open` when it may end beyond the last checkpoint; "" without an interval.

    >>> interval_text(8.25, None)
    '8.2–open'
    """
    if low is None:
        return ""
    return f"{epoch_text(low)}–{OPEN if high is None else epoch_text(high)}"


def percent_text(log_ratio: float) -> str:
    """`+150 %`, `−55 %`: a ln ratio to the base as people say it.

    >>> percent_text(0.5), percent_text(-0.8)
    ('+65 %', '−55 %')
    """
    percent = round(100 * expm1(log_ratio))
    return f"{'−' if percent < 0 else '+'}{abs(percent)} %"


def disagreement_text(found: Disagreement, unit: str = "epoch") -> str:
    """What the two witnesses of new contexts say against each other, and which of them is believed.

    Levels are the loss against the base's at the last checkpoint; the directions are those since the onset that one of
    them claims.
    """
    moved, real = ("gets worse", "gets better") if found.moved_rises else ("gets better", "gets worse")
    return (
        f"The two measures of new contexts disagree: after {unit} {found.since} the loss {moved} on subjects that were "
        f"cut out and moved ({percent_text(found.moved)} against the base at {unit} {found.until}) and {real} on real "
        f"photos of held-out contexts ({percent_text(found.real)}). The real photos decide."
    )


def sentence(onset: Onset, best: int, note: str, unit: str, last: int) -> str:
    """Both onsets and the epoch to ship.

    Args:
        note: why it is that epoch, where that is not plain; else "".
        unit: "epoch" or "step". last: the last one looked at.
    """
    if onset.status == "never_learned":
        if onset.likeness is not None and onset.likeness >= LEARNED_FLOOR:
            return f"Within {last} {unit}s the subject was learned only after overfitting had begun."
        return f"The subject was not learned within {last} {unit}s, so there is nothing to overfit yet."
    ship = f"Ship {unit} {best}" + (f" ({note})." if note else ".")
    said = [_turn(onset.context, "new contexts", unit, last)]
    if onset.memory.by_behaviour:
        said.append(_copies(onset.memory, unit, last))
    else:
        said.append(_turn(onset.memory, "photos of the same shoots", unit, last))
    said = [f"{each[0].upper()}{each[1:]}." for each in said if each]
    if onset.disagreement is not None:
        said.append(disagreement_text(onset.disagreement, unit))
    return " ".join([*(said or ["Nothing here says when overfitting begins."]), ship])


def _copies(turn: Turn, unit: str, last: int) -> str:
    """Memory as copies alone tell of it."""
    if turn.epoch is None:
        return (
            f"no copies of photos turned up within {last} {unit}s (whether photos of the same shoots get worse is not "
            "known, because none are held out)"
        )
    return f"photos are copied from {unit} {epoch_text(turn.epoch)} on{_interval(turn)}"


def _turn(turn: Turn, subject: str, unit: str, last: int) -> str:
    if turn.status == "unmeasured":
        return ""
    if turn.epoch is None:
        return f"{subject} do not get worse within {last} {unit}s"
    if turn.status == "at_start":
        return f"{subject} get worse from the first checkpoint on"
    return f"{subject} get worse from {unit} {epoch_text(turn.epoch)} on{_interval(turn)}"


def _interval(turn: Turn) -> str:
    said = interval_text(turn.low, turn.high)
    return f" (90 % interval {said})" if said else ""
