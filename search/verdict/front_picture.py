"""`front.png`: every trial's checkpoint to ship, how alike it is against how much it obeys, and the front of them."""

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from metrics.images.fonts import drawable
from metrics.onset.plot_page import COLOURS, FAINT, GRID, INK, write_page
from search.record.curve import Curve
from search.record.record import StudyFolder
from search.verdict.front import FRONT_PICTURE, Front, Place, front_sentences, places_of

if TYPE_CHECKING:
    from search.verdict.verdict import Verdict

_SIZE, _LEFT, _RIGHT, _BOTTOM = (9.6, 6.2), 0.085, 0.97, 0.1  # inches, and shares of them
_MOST_NAMED = 12
_WIDE, _TALL = 110.0, 13.0  # points that a name takes
_GREEN, _LINE = COLOURS["score"], COLOURS["heldout_loss"]
_AXES = (
    "likeness (fidelity: 0 as the base, 1 as alike as the photos)",
    "obedience to prompts (change against the base: 0 as the base)",
)


def draw_front(folder: StudyFolder, verdict: "Verdict") -> None:
    """Write the picture of a verdict that has a front, whole or not at all."""
    assert verdict.front is not None
    records = list(folder.records())
    curves = {r.number: Curve.load(folder.trial(r.number)) for r in records if r.epoch_shipped is not None}
    again = [] if verdict.finalists is None else [one.trial for one in verdict.finalists.drawn]
    figure = _figure(verdict.study, " ".join(front_sentences(verdict)))
    _draw(figure.axes[0], places_of(records, curves), verdict.front, again)
    write_page(figure, folder.path / FRONT_PICTURE)


def _figure(study: str, said: str) -> Any:
    """A page with its head, and one axis."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    lines = textwrap.wrap(drawable(said), 112)
    head = 0.55 + 0.19 * len(lines)
    height = _SIZE[1] + head
    figure = Figure(figsize=(_SIZE[0], height), dpi=150, facecolor="white")
    FigureCanvasAgg(figure)
    figure.add_axes((_LEFT, _BOTTOM, _RIGHT - _LEFT, 1 - _BOTTOM - (head + 0.1) / height))
    figure.text(_LEFT, 1 - 0.28 / height, drawable(f"{study}: likeness against obedience"), size=13, weight="bold",
                color=INK, va="center")  # fmt: skip
    for number, text in enumerate(lines):
        figure.text(_LEFT, 1 - (0.55 + 0.19 * number) / height, text, size=9.5, color=INK, va="center")
    return figure


def _draw(axis: Any, places: Sequence[Place], front: Front, finalists: Sequence[int]) -> None:
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axis.spines[side].set_color(FAINT)
    axis.tick_params(colors=INK, labelsize=9, length=3, color=FAINT)
    axis.grid(color=GRID, linewidth=0.8)
    axis.set_axisbelow(True)
    axis.set_xlabel(_AXES[0], color=INK)
    axis.set_ylabel(_AXES[1], color=INK)
    axis.margins(0.09, 0.11)

    def dots(which: Sequence[Place], **how: Any) -> None:
        if which:
            axis.scatter([p.likeness for p in which], [p.obedience for p in which], **how)

    own, again = front.winner, [place for place in places if place.trial in finalists]
    dots(places, s=26, color=FAINT, alpha=0.6, linewidths=0, label="a trial at its epoch to ship")
    axis.plot([p.likeness for p in front.places], [p.obedience for p in front.places], color=_LINE, linewidth=1.4,
              marker="o", markersize=5.5, label="the front", zorder=3)  # fmt: skip
    dots(again, s=110, facecolors="none", edgecolors=INK, linewidths=1.2, label="drawn again as a finalist", zorder=4)
    dots([own], s=150, marker="*", color=_GREEN, label="the winner", zorder=5)
    left, right = axis.get_xlim()
    axis.set_xlim(left, right + 0.14 * (right - left))  # the front leads to the right, and its names stand there
    _names(axis, _named(front), own)
    axis.legend(loc="best", fontsize=8.5, frameon=True, edgecolor=GRID, labelcolor=INK)


def _named(front: Front) -> list[Place]:
    """Those on the front that have their name there: both ends, and of many ones in between evenly."""
    there = list(front.places)
    if len(there) > _MOST_NAMED:
        there = [there[round(k * (len(there) - 1) / (_MOST_NAMED - 1))] for k in range(_MOST_NAMED)]
    return there if front.winner in there else [*there, front.winner]


def _names(axis: Any, named: Sequence[Place], winner: Place) -> None:
    """Names right of their dots, moved down where they would overlap."""
    from matplotlib.patheffects import withStroke

    axis.get_xlim(), axis.get_ylim()  # matplotlib sets limits when they are asked for
    taken: list[tuple[float, float]] = []
    points = 72 / axis.figure.dpi
    for place in sorted(named, key=lambda each: -each.obedience):
        x, y = (float(v) * points for v in axis.transData.transform((place.likeness, place.obedience)))
        above = 7.0
        while any(abs(x - a) < _WIDE and abs(y + above - b) < _TALL for a, b in taken):
            above -= _TALL
        taken.append((x, y + above))
        wins = place == winner
        axis.annotate(
            f"trial {place.trial}, epoch {place.epoch}", (place.likeness, place.obedience), xytext=(9, above),
            textcoords="offset points", size=9, va="center", weight="bold" if wins else "normal",
            color=_GREEN if wins else INK, zorder=6, path_effects=[withStroke(linewidth=2.5, foreground="white")],
        )  # fmt: skip
