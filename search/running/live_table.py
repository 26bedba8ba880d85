"""The live table: as many of the trials as fit on the terminal, the running ones and the summary first of all."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from search.record.finished_run import Unit
from search.record.record import TrialRecord
from search.verdict.decision import decide, unit_of
from search.verdict.trial_sentences import onset_short, state_text

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

COLUMNS = ("trial", "settings", "epoch", "score", "best epoch", "onset", "state")
RIGHT = ("trial", "epoch", "score", "best epoch")
_SETTINGS = COLUMNS.index("settings")
_NARROW, _LEAST_SETTINGS = 96, 8  # columns of text: where the settings and the onset's interval make room


@dataclass(frozen=True)
class RunningRow:
    """A trial that runs: its record at the last checkpoint, that checkpoint's score, and what the worker does now."""

    record: TrialRecord
    score: float | None
    doing: str
    epoch: float


@dataclass(frozen=True)
class LiveTable:
    """Something `rich` can print, at most as high and as wide as the terminal.

    Attributes:
        title: above the table; left out where there is no room.
        running: always shown, as far as the terminal has lines at all.
        ended: the best of them are shown, the rest is counted.
        summary: parts of the line below; always shown.
    """

    title: str
    running: Sequence[RunningRow]
    ended: Sequence[TrialRecord]
    summary: Sequence[str]

    def __rich_console__(self, console: "Console", options: "ConsoleOptions") -> "RenderResult":
        from rich.text import Text

        width, height = options.max_width, max(4, console.size.height - 1)  # the cursor stands on the last line
        below = _wrapped(self.summary, width)[: max(1, height - 2)]
        left = height - len(below)
        head = 2 if left >= 4 else 0  # the names of the columns and a line
        titled = left - head >= len(self.running) + 4
        left -= head + titled
        shown, more = self._chosen(left)
        if titled:
            yield Text(self.title, style="bold", overflow="ellipsis", no_wrap=True)
        rows = [*map(_running_row, self.running[:left]), *map(row, shown)]
        records = [*(line.record for line in self.running), *self.ended]
        unit = unit_of(records[0]) if records else "epoch"
        yield from grid(rows, len(self.running), width, head > 0, unit)
        if more:
            yield Text(more, style="dim", overflow="ellipsis", no_wrap=True)
        for line in below:
            yield Text(line, overflow="ellipsis", no_wrap=True)

    def _chosen(self, lines: int) -> tuple[list[TrialRecord], str]:
        """The ended trials that fit into so many lines beside the running ones, and what is said of the others."""
        room = lines - len(self.running)
        if room >= len(self.ended):
            return sorted(self.ended, key=lambda r: r.number), ""
        best = sorted(self.ended, key=_rank)[: max(0, room - 1)]
        shown = {record.number for record in best}
        others = Counter(state_text(r) for r in self.ended if r.number not in shown)
        if room < 1 or not others:
            return [], ""
        kinds = ", ".join(f"{number} {state}" for state, number in others.most_common())
        return best, f"… and {sum(others.values())} more: {kinds}"


def row(record: TrialRecord) -> tuple[str, ...]:
    """A trial as a line of a table, in the order of `COLUMNS`."""
    found = decide(record)
    return (
        str(record.number),
        settings_of(record),
        how_far(record, record.epochs_trained),
        "" if found.score is None else f"{found.score:.3f}",
        "" if not record.has_epochs else "–" if found.shipped is None else str(found.shipped),
        onset_short(found) if record.onset is not None else "",
        state_text(record),
    )


def how_far(record: TrialRecord, epoch: float) -> str:
    """ "12/80"; "" where there is but one look at a finished file."""
    return f"{epoch:g}/{record.epochs}" if record.has_epochs else ""


def settings_of(record: TrialRecord) -> str:
    """The searched values, short."""
    short = {"learning_rate_scale": "lr×", "learning_rate": "lr", "alpha_ratio": "alpha×", "lr_scheduler": "",
             "optimizer": "", "num_cycles": "cycles", "relative_step": None, "epochs": None}  # fmt: skip
    parts = []
    for key, value in record.params.items():
        name = short.get(key, key)
        if name is not None:
            number = f"{value:.3g}" if isinstance(value, float) else str(value)
            parts.append(f"{name} {number}".strip())
    return ", ".join(parts)


def _rank(record: TrialRecord) -> tuple[bool, float, int]:
    found = decide(record)
    return (not found.ships, -(found.score or 0.0), record.number)


def _running_row(line: RunningRow) -> tuple[str, ...]:
    record = line.record
    score = "" if line.score is None else f"{line.score:.3f}"
    return (str(record.number), settings_of(record), how_far(record, line.epoch), score, "", "", line.doing)


def grid(
    rows: Sequence[tuple[str, ...]],
    bold: int,
    width: int,
    headed: bool,
    unit: Unit = "epoch",
    *,
    whole_settings: bool = False,
) -> "RenderResult":
    """Rows of a table, the first `bold` ones in bold. Where it is narrow, settings and intervals make room: a row has
    one line, unless `whole_settings` writes all settings, below each other."""
    from rich.text import Text

    if width < _NARROW:
        rows = [(*r[:5], r[5].split(" ")[0] if r[5][:1].isdigit() else r[5], r[6]) for r in rows]
    widths = [max([len(r[i]) for r in rows] + [len(name) * headed]) for i, name in enumerate(COLUMNS)]
    widths[_SETTINGS] = max(0, min(widths[_SETTINGS], width - sum(widths) + widths[_SETTINGS] - 2 * len(COLUMNS) + 2))
    used = [
        i
        for i, name in enumerate(COLUMNS)
        if (i != _SETTINGS or widths[i] >= _LEAST_SETTINGS)
        and ("epoch" not in name or any(r[i] for r in rows) or not rows)
    ]

    def line(cells: Sequence[str], style: str) -> Text:
        shown = [_cell(cells[i], widths[i], right=COLUMNS[i] in RIGHT) for i in used]
        return Text("  ".join(shown).rstrip(), style=style, no_wrap=True, overflow="ellipsis")

    if headed:
        yield line([name.replace("epoch", unit) for name in COLUMNS], "dim")
        yield Text("─" * min(width, sum(widths[i] for i in used) + 2 * len(used) - 2), style="dim")
    for number, cells in enumerate(rows):
        parts = _between_settings(cells[_SETTINGS], widths[_SETTINGS]) if whole_settings else [cells[_SETTINGS]]
        for place, part in enumerate(parts):
            others = cells if place == 0 else ("",) * len(cells)
            yield line((*others[:_SETTINGS], part, *others[_SETTINGS + 1 :]), "bold" if number < bold else "")


def _cell(text: str, width: int, *, right: bool) -> str:
    short = text if len(text) <= width else text[: max(0, width - 1)] + "…"
    return short.rjust(width) if right else short.ljust(width)


def _between_settings(text: str, width: int) -> list[str]:
    """Settings in lines of that width, which end where a setting does; all in one where the column is left out."""
    lines: list[str] = []
    for setting in text.split(", ") if width >= _LEAST_SETTINGS else [text]:
        if lines and len(lines[-1]) + 2 + len(setting) < width:
            lines[-1] += f", {setting}"
        else:
            lines.append(setting)
    return [f"{line}," for line in lines[:-1]] + lines[-1:]


def _wrapped(parts: Sequence[str], width: int) -> list[str]:
    lines: list[str] = []
    for part in parts:
        if lines and len(lines[-1]) + 3 + len(part) <= width:
            lines[-1] += f" · {part}"
        else:
            lines.append(part)
    return lines
