"""Charts of report.html as SVG: a score over its epochs in a table cell, and every trial's score in one picture."""

from collections.abc import Callable, Iterable, Sequence
from math import ceil, floor, inf, log10

from markupsafe import Markup

from search.verdict.sheet import Marks

OWN_SCALE = (0.0, 1.0)
"""Lowest and highest score, as we make it."""


def spark(
    epochs: Sequence[float],
    scores: Sequence[float],
    shipped: float | None,
    scale: tuple[float, float] | None = OWN_SCALE,
) -> Markup:
    """A score over its epochs, small enough for a table cell; a dot marks the epoch to ship.

    Args:
        scale: lowest and highest score of the picture; None takes those that are there.
    """
    points = [(e, s) for e, s in zip(epochs, scores, strict=True) if s == s]
    if len(points) < 2:
        return Markup()
    last = points[-1][0]
    low, high = scale or _range(score for _, score in points)

    def place(epoch: float, score: float) -> tuple[float, float]:
        return 3 + 74 * epoch / last, 25 - 22 * min(1.0, max(0.0, (score - low) / (high - low)))

    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*p) for p in points))
    dot = ""
    if shipped is not None and (at := [p for p in points if p[0] == shipped]):
        x, y = place(*at[0])
        dot = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="var(--ship)"/>'
    return Markup(
        f'<svg class="spark" width="80" height="28" role="img" aria-label="score over epochs">'
        f'<polyline points="{line}"/>{dot}</svg>'
    )


def score_chart(
    trials: Sequence[tuple[int, Sequence[float], Sequence[float]]],
    best: int | None,
    marks: Marks | None = None,
    scale: tuple[float, float] | None = OWN_SCALE,
) -> Markup:
    """Every trial's score over its epochs in one picture, the best one drawn over the others.

    Args:
        trials: (number, epochs, scores) each.
        marks: of the best trial: a dot at the epoch to ship, a band over the onset's interval.
        scale: as in `spark`.
    """
    lines = [(n, [(e, s) for e, s in zip(x, y, strict=True) if s == s]) for n, x, y in trials]
    lines = [(n, points) for n, points in lines if len(points) > 1]
    if not lines:
        return Markup()
    last = max(p[-1][0] for _, p in lines)
    # epoch 0 is the base: with a scale of their own, trials would be one line beside what it reads
    low, high = scale or _range(score for _, points in lines for epoch, score in points if epoch)
    width, height, left, bottom, top = 1080, 300, 44 if scale else 64, 30, 18

    def place(epoch: float, score: float) -> str:
        x = left + (width - left - 12) * epoch / last
        share = min(1.0, max(0.0, (score - low) / (high - low)))
        return f"{x:.1f},{(height - bottom) - (height - bottom - top) * share:.1f}"

    parts: list[str] = []
    if marks is not None and marks.onset is not None:
        parts.append(_band(place, marks, last))
    for score in (0.0, 0.25, 0.5, 0.75, 1.0) if scale else _levels(low, high):
        y = place(0, score).split(",")[1]
        parts.append(f'<line class="axis" x1="{left}" x2="{width - 12}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text x="{left - 8}" y="{float(y) + 4:.1f}" text-anchor="end">{score:g}</text>')
    for epoch in _ticks(last):
        x = place(epoch, 0).split(",")[0]
        parts.append(f'<text x="{x}" y="{height - 8}" text-anchor="middle">{epoch:g}</text>')
    for number, points in sorted(lines, key=lambda one: one[0] == best):
        line = " ".join(place(*p) for p in points)
        kind = "line best" if number == best else "line"
        parts.append(f'<polyline class="{kind}" points="{line}"><title>trial {number}</title></polyline>')
        for epoch, score in points:
            if number == best and marks is not None and epoch == marks.shipped:
                x, y = place(epoch, score).split(",")
                parts.append(f'<circle cx="{x}" cy="{y}" r="6" fill="var(--ship)"/>')
                anchor = "end" if epoch == last else "middle"  # at the edge the middle of it would be cut off
                parts.append(f'<text x="{x}" y="{float(y) - 12:.1f}" text-anchor="{anchor}">ship {epoch:g}</text>')
    return Markup(
        f'<div class="scroll"><svg class="chart" viewBox="0 0 {width} {height}" style="width:100%;min-width:520px" '
        f'role="img" aria-label="score of every trial over its epochs">{"".join(parts)}</svg></div>'
    )


def _band(place: Callable[[float, float], str], marks: Marks, last: float) -> Markup:
    onset = marks.onset or 0.0
    left, top = (float(v) for v in place(onset if marks.low is None else marks.low, inf).split(","))
    right, bottom = (float(v) for v in place(min(last, marks.high or last), -inf).split(","))
    line = place(onset, 0).split(",")[0]
    return Markup(
        f'<rect x="{left}" y="{top}" width="{max(2.0, right - left):.1f}" height="{bottom - top:.1f}" '
        f'fill="var(--onset-wash)"/><line x1="{line}" x2="{line}" y1="{top}" y2="{bottom}" stroke="var(--onset)" '
        f'stroke-dasharray="4 4"/><text x="{line}" y="{top - 3:.1f}" text-anchor="middle" '
        'style="fill:var(--onset)">{}</text>'
    ).format(marks.onset_name)


def _range(scores: Iterable[float]) -> tuple[float, float]:
    """From the lowest to the highest, and not nothing."""
    there = list(scores) or [0.0]
    low, high = min(there), max(there)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _levels(low: float, high: float) -> list[float]:
    """Round numbers within, three to seven of them."""
    rough = (high - low) / 6
    step = next(s for e in (0, 1) for m in (1, 2, 2.5, 5) if (s := m * 10.0 ** (floor(log10(rough)) + e)) >= rough)
    return [round(k * step, 12) for k in range(ceil(low / step - 1e-9), floor(high / step + 1e-9) + 1)]


def _ticks(last: float) -> list[float]:
    step = next(s for s in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1e9) if last / s <= 10)
    return [i * step for i in range(int(last // step) + 1)]
