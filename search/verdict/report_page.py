"""The look of report.html: its style sheet, its small script, and the few pieces of markup that repeat."""

from collections.abc import Callable, Mapping, Sequence
from html import escape

from search.verdict.sheet import Marks

STYLE = """
:root{--ink:#181c24;--muted:#667085;--rule:#e4e7ec;--paper:#fff;--wash:#f6f7f9;--accent:#2f5bd7;--ship:#12805c;
--ship-wash:#e2f5ee;--onset:#c4501b;--onset-wash:#fdf0e6;--bad:#b42318;--radius:10px}
@media (prefers-color-scheme:dark){:root{--ink:#e8eaf0;--muted:#98a2b3;--rule:#2b303b;--paper:#14171d;--wash:#1c2029;
--accent:#8aa8ff;--ship:#4fd1a5;--ship-wash:#12342a;--onset:#ff9e66;--onset-wash:#3a2416;--bad:#ff8a80}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0;background:var(--wash);color:var(--ink);font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,
"Helvetica Neue",Arial,sans-serif}
main{max-width:1240px;margin:0 auto;padding:32px 20px 64px}
section{background:var(--paper);border:1px solid var(--rule);border-radius:var(--radius);padding:24px;margin-top:20px}
h1{font-size:2rem;line-height:1.2;margin:.2rem 0 .4rem;letter-spacing:-.02em;text-wrap:balance}
h2{font-size:1.15rem;margin:0 0 .8rem}
p{margin:.4rem 0}
.eyebrow{color:var(--muted);font-size:.8rem;letter-spacing:.08em;text-transform:uppercase;font-weight:600}
.muted{color:var(--muted)}.small{font-size:.875rem}
.facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(132px,1fr));gap:10px;margin:0 0 12px}
.fact{background:var(--wash);border-radius:8px;padding:12px}
.fact b{display:block;font-size:1.15rem;line-height:1.4;white-space:nowrap;font-variant-numeric:tabular-nums}
.fact span{font-size:.8rem;color:var(--muted)}
.fact.ship{background:var(--ship-wash)}.fact.ship b{color:var(--ship)}
.fact.onset{background:var(--onset-wash)}.fact.onset b{color:var(--onset)}
h3{font-size:.95rem;margin:1.1rem 0 0}ul.said{padding-left:1.1rem;margin:.3rem 0 0}ul.said li{margin:.3rem 0}
img{display:block;max-width:100%;height:auto}
img.wide{width:100%;border-radius:6px;background:#fff}
.scroll{overflow-x:auto;-webkit-overflow-scrolling:touch}
.plot img.wide{min-width:640px}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
.grid{width:auto}
.grid th,.grid td{padding:3px;text-align:center;font-weight:500;font-size:.85rem}
.grid th:first-child{position:sticky;left:0;background:var(--paper);text-align:left;min-width:150px;max-width:230px;
width:210px;padding-right:14px;font-weight:400;z-index:1}
.grid td img{width:96px;max-width:none;border-radius:5px}
.grid thead th{white-space:nowrap}
.swipe,.grid tr.above{display:none}.swipe{color:var(--accent);font-weight:600}
.grid tr.above th{position:static;width:auto;max-width:none;padding-top:10px}
.grid tr.above div{position:sticky;left:0;max-width:min(300px,78vw);font-size:.85rem;line-height:1.35}
a{color:var(--accent)}
.grid .ship{background:var(--ship-wash)}.grid .onset{background:var(--onset-wash)}
.grid thead small{display:block;font-weight:600;min-height:1.3em}
.grid thead .ship small{color:var(--ship)}.grid thead .onset small{color:var(--onset)}
.bars{display:grid;grid-template-columns:max-content 1fr 3.5rem;gap:8px 14px;align-items:center}
.bar{background:var(--wash);border-radius:4px;height:14px;overflow:hidden}
.bar i{display:block;height:100%;background:var(--accent);border-radius:4px}
.trials th,.trials td{padding:7px 5px;text-align:left;border-bottom:1px solid var(--rule);white-space:nowrap;
font-size:.82rem}
.trials th{position:sticky;top:0;background:var(--paper);font-weight:600}
.trials th button{all:unset;cursor:pointer;color:var(--muted)}
.trials th button:hover,.trials th button:focus-visible{color:var(--ink)}
.trials th button:focus-visible,.open:focus-visible,summary:focus-visible{outline:2px solid var(--accent);
outline-offset:2px}
.trials th[aria-sort=ascending] button::after{content:" \\2191";color:var(--accent)}
.trials th[aria-sort=descending] button::after{content:" \\2193";color:var(--accent)}
.trials tbody tr.row:hover{background:var(--wash)}
.trials .best{background:var(--ship-wash)}
.open{all:unset;cursor:pointer;color:var(--accent);font-weight:600}
.detail td{white-space:normal;background:var(--wash)}
.detail pre{white-space:pre-wrap;overflow-wrap:anywhere}
.tag{display:inline-block;border-radius:99px;padding:1px 9px;font-size:.78rem;font-weight:600;background:var(--wash);
color:var(--muted)}
.tag.complete{background:var(--ship-wash);color:var(--ship)}.tag.pruned{background:var(--onset-wash);
color:var(--onset)}.tag.failed{background:var(--onset-wash);color:var(--bad)}
.spark{display:block}.spark polyline{fill:none;stroke:var(--accent);stroke-width:1.6}
.chart .line{fill:none;stroke:var(--muted);stroke-opacity:.35;stroke-width:1.4}
.chart .line.best{stroke:var(--ship);stroke-opacity:1;stroke-width:2.6}
.chart .line:hover{stroke:var(--accent);stroke-opacity:1;stroke-width:2.6}
.chart text{fill:var(--muted);font-size:12px}.chart .axis{stroke:var(--rule)}
input.find{font:inherit;padding:7px 12px;border:1px solid var(--rule);border-radius:8px;background:var(--paper);
color:var(--ink);width:min(320px,100%);margin-bottom:10px}
pre{background:var(--wash);border-radius:8px;padding:14px;overflow-x:auto;font-size:.85rem;line-height:1.45;
margin:.5rem 0}
summary{cursor:pointer;font-weight:600}
dl.files{display:grid;grid-template-columns:max-content 1fr;gap:4px 18px;margin:0}dl.files dd{margin:0;
overflow-wrap:anywhere}
footer{color:var(--muted);font-size:.8rem;margin-top:24px}
@media (max-width:640px){main{padding:18px 12px 40px}section{padding:16px}h1{font-size:1.55rem}
.grid thead th:first-child,.grid tbody th[scope=row]{display:none}.grid tr.above{display:table-row}.swipe{display:block}
.grid td img{width:92px}.grid thead th{font-size:.8rem}
.scroll::-webkit-scrollbar{height:8px}.scroll::-webkit-scrollbar-thumb{background:var(--muted);border-radius:4px}}
@media print{section{break-inside:avoid}.find{display:none}}
"""

SCRIPT = """
(() => {
  const ship = document.querySelector('.grid thead .ship');
  if (ship) {
    const frame = ship.closest('.scroll');
    frame.scrollLeft = ship.offsetLeft + ship.offsetWidth / 2 - frame.clientWidth / 2;
  }
  const table = document.querySelector('table.trials');
  if (!table) return;
  const value = (body, column) => {
    const text = body.rows[0].cells[column].dataset.v ?? body.rows[0].cells[column].textContent.trim();
    const number = parseFloat(text);
    return text === '' ? null : Number.isNaN(number) || /^[^-+.\\d]/.test(text) ? text.toLowerCase() : number;
  };
  table.querySelectorAll('th button').forEach((button) => button.addEventListener('click', () => {
    const head = button.parentElement, column = head.cellIndex;
    const down = head.getAttribute('aria-sort') === 'descending';
    table.querySelectorAll('th').forEach((th) => th.removeAttribute('aria-sort'));
    head.setAttribute('aria-sort', down ? 'ascending' : 'descending');
    const sign = down ? 1 : -1;
    [...table.tBodies].sort((a, b) => {
      const x = value(a, column), y = value(b, column);
      if (x === null || y === null) return (x === null) - (y === null);
      return (x < y ? -1 : x > y ? 1 : 0) * sign;
    }).forEach((body) => table.append(body));
  }));
  table.addEventListener('click', (event) => {
    const button = event.target.closest('button.open');
    if (!button) return;
    const detail = button.closest('tbody').rows[1];
    detail.hidden = !detail.hidden;
    button.setAttribute('aria-expanded', String(!detail.hidden));
  });
  document.querySelector('input.find').addEventListener('input', (event) => {
    const words = event.target.value.toLowerCase().split(/\\s+/).filter(Boolean);
    for (const body of table.tBodies) {
      const text = body.rows[0].textContent.toLowerCase();
      body.hidden = !words.every((word) => text.includes(word));
    }
  });
})();
"""


def page(title: str, body: str) -> str:
    """A whole document; nothing in it is fetched from anywhere."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n"
        f"<body><main>\n{body}\n</main><script>{SCRIPT}</script></body></html>\n"
    )


def section(title: str, content: str, note: str = "") -> str:
    """A card with a heading and, if given, a line in grey under it."""
    under = f'<p class="muted small">{note}</p>' if note else ""
    return f"<section><h2>{escape(title)}</h2>{under}{content}</section>"


def facts(items: Sequence[tuple[str, str, str]]) -> str:
    """Large numbers with a word under each: (number, word, "ship" | "onset" | "")."""
    cells = (f'<div class="fact {kind}"><b>{escape(n)}</b><span>{escape(w)}</span></div>' for n, w, kind in items)
    return f'<div class="facts">{"".join(cells)}</div>'


def bars(shares: Mapping[str, float]) -> str:
    """Horizontal bars for shares of 1."""
    top = max(shares.values()) or 1.0
    rows = (
        f'<span>{escape(name)}</span><div class="bar"><i style="width:{100 * share / top:.1f}%"></i></div>'
        f"<span>{100 * share:.0f} %</span>"
        for name, share in shares.items()
    )
    return f'<div class="bars">{"".join(rows)}</div>'


def spark(epochs: Sequence[float], scores: Sequence[float], shipped: float | None) -> str:
    """A score over its epochs, small enough for a table cell; a dot marks the epoch to ship."""
    points = [(e, s) for e, s in zip(epochs, scores, strict=True) if s == s]
    if len(points) < 2:
        return ""
    last = points[-1][0] or 1

    def place(epoch: float, score: float) -> tuple[float, float]:
        return 3 + 74 * epoch / last, 25 - 22 * min(1.0, max(0.0, score))

    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*p) for p in points))
    dot = ""
    if shipped is not None and (at := [p for p in points if p[0] == shipped]):
        x, y = place(*at[0])
        dot = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="var(--ship)"/>'
    return (
        f'<svg class="spark" width="80" height="28" role="img" aria-label="score over epochs">'
        f'<polyline points="{line}"/>{dot}</svg>'
    )


def score_chart(
    trials: Sequence[tuple[int, Sequence[float], Sequence[float]]], best: int | None, marks: Marks | None = None
) -> str:
    """Every trial's score over its epochs in one picture, the best one drawn over the others.

    Args:
        trials: (number, epochs, scores) each.
        marks: of the best trial: a dot at the epoch to ship, a band over the onset's interval.
    """
    lines = [(n, [(e, s) for e, s in zip(x, y, strict=True) if s == s]) for n, x, y in trials]
    lines = [(n, points) for n, points in lines if len(points) > 1]
    if not lines:
        return ""
    last = max(p[-1][0] for _, p in lines) or 1
    width, height, left, bottom, top = 1080, 300, 44, 30, 18

    def place(epoch: float, score: float) -> str:
        x = left + (width - left - 12) * epoch / last
        return f"{x:.1f},{(height - bottom) - (height - bottom - top) * min(1.0, max(0.0, score)):.1f}"

    parts = []
    if marks is not None and marks.onset is not None:
        parts.append(_band(place, marks, last))
    for score in (0.0, 0.25, 0.5, 0.75, 1.0):
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
                parts.append(f'<text x="{x}" y="{float(y) - 12:.1f}" text-anchor="middle">ship {epoch:g}</text>')
    return (
        f'<div class="scroll"><svg class="chart" viewBox="0 0 {width} {height}" style="width:100%;min-width:520px" '
        f'role="img" aria-label="score of every trial over its epochs">{"".join(parts)}</svg></div>'
    )


def _band(place: Callable[[float, float], str], marks: Marks, last: float) -> str:
    onset = marks.onset or 0.0
    left, top = (float(v) for v in place(onset if marks.low is None else marks.low, 1).split(","))
    right, bottom = (float(v) for v in place(min(last, marks.high or last), 0).split(","))
    line = place(onset, 0).split(",")[0]
    return (
        f'<rect x="{left}" y="{top}" width="{max(2.0, right - left):.1f}" height="{bottom - top:.1f}" '
        f'fill="var(--onset-wash)"/><line x1="{line}" x2="{line}" y1="{top}" y2="{bottom}" stroke="var(--onset)" '
        f'stroke-dasharray="4 4"/><text x="{line}" y="{top - 3:.1f}" text-anchor="middle" '
        f'style="fill:var(--onset)">{escape(marks.onset_name)}</text>'
    )


def _ticks(last: float) -> list[float]:
    step = next(s for s in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1e9) if last / s <= 10)
    return [i * step for i in range(int(last // step) + 1)]
