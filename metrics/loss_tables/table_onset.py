"""The onset of anybody's table of losses: what `python -m metrics.run --trajectory losses.csv` does."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, astuple
from pathlib import Path
from typing import Any

import numpy as np

from metrics.files import write_whole
from metrics.loss_tables.any_table import from_table
from metrics.onset.onset import find_onset
from metrics.onset.turns import Onset, Turn
from metrics.trajectory.trajectory import Trajectory

MOST_ROWS = 24
MOST_CHECKPOINTS = 400
COLUMNS = ("shifted_loss", "context_loss", "heldout_loss", "fidelity", "prompt", "copying", "own_photo")


def main(path: str | Path, picture: str | Path | None = None, json_path: str | Path | None = None) -> int:
    """Reads a table, prints its checkpoints and its onset, and writes the picture and the JSON that were asked for.

    Args:
        json_path: a file, or "-" for standard output in the place of the table.

    Returns:
        0, the exit code.

    Raises:
        MetricsError: the table cannot be used; one line.
    """
    trajectory = from_table(path).grouped(MOST_CHECKPOINTS)
    onset = find_onset(trajectory)
    if json_path is not None and str(json_path) == "-":
        print(as_text(as_record(trajectory, onset), for_console=True))
    else:
        print(describe(trajectory, onset))
    if picture is not None:
        from metrics.onset.plot import plot_onset
        from metrics.onset.plot_behaviour import plot_behaviour

        drawn, title = Path(picture), Path(path).stem
        plot_onset(drawn, trajectory, onset, title=title)
        beside = drawn.with_name(f"{drawn.stem}-behaviour{drawn.suffix}")
        for each in (drawn, plot_behaviour(beside, trajectory, onset, title=f"{title} · what the images do")):
            if each is not None:
                print(f"picture: {each}", file=sys.stderr)
    if json_path is not None and str(json_path) != "-":
        target = Path(json_path)
        write_json(target, as_record(trajectory, onset))
        print(f"json: {target}", file=sys.stderr)
    return 0


def write_json(path: Path, record: dict[str, Any]) -> None:
    """Whole or not at all."""
    content = f"{as_text(record)}\n".encode("utf-8", "backslashreplace")  # lone surrogates, as JSON writes them
    write_whole(path, lambda file: file.write(content))


def as_text(record: dict[str, Any], *, for_console: bool = False) -> str:
    """JSON; on a console that is not Unicode in plain letters."""
    plain = for_console and not (sys.stdout.encoding or "").lower().startswith("utf")
    return json.dumps(record, indent=2, ensure_ascii=plain)


def describe(trajectory: Trajectory, onset: Onset) -> str:
    """A table of checkpoints, marked where something happens, and the onset's sentence."""
    names = [name for name in COLUMNS if name in trajectory.channels]
    scored = bool(np.isfinite(trajectory.scores).any())
    header = trajectory.unit.rjust(8) + "".join(name.rjust(13) for name in names)
    lines = [header + "score".rjust(7) * scored]
    marks = _marks(trajectory, onset)
    columns = [trajectory.values(name)[:, 0] for name in names]
    rows = _rows(trajectory, set(marks))
    for row in rows:
        cells = [f"{int(trajectory.epochs[row]):8d}"]
        cells += [_cell(name, column[row]).rjust(13) for name, column in zip(names, columns, strict=True)]
        if scored:
            score = trajectory.scores[row]
            cells.append(("" if np.isnan(score) else f"{score:.3f}").rjust(7))
        lines.append("".join([*cells, "  ", marks.get(row, "")]).rstrip())
    if len(rows) < len(trajectory):
        lines += ["", f"{len(rows)} of {len(trajectory)} checkpoints are shown; --json FILE writes them all."]
    if trajectory.checkpoints:
        each = f"{trajectory.checkpoints} checkpoints are read as {len(trajectory)}, each the mean of several in a row"
        lines += ["", f"{each}, at the {trajectory.unit} of the one in their middle."]
    if trajectory.source:
        lines += ["", f"heldout_loss: {trajectory.source}."]
    items = trajectory.items("heldout_loss")
    if items is None and "heldout_loss" in names:
        lines += [
            "",
            "How many photos that loss is of, and how much they disagree, is not known: "
            "the interval is that of two or three photos.",
        ]
    return "\n".join([*lines, "", onset.sentence])


def as_record(trajectory: Trajectory, onset: Onset) -> dict[str, Any]:
    """The onset and what it was read from as plain JSON values; what does not exist is null.

    Keys: those of `Onset`; `unit` ("epoch" or "step": what all epochs here count), `source` (the columns that were
    read), `checkpoints_read` (more than are listed where several in a row were taken for one), and `checkpoints`, a
    list of epoch, score and each channel's [value, low, high].
    """

    def turn(of: Turn) -> dict[str, Any]:
        return {"status": of.status, "epoch": of.epoch, "low": of.low, "high": of.high, "channels": list(of.channels)}

    return {
        "status": onset.status,
        "epoch": onset.epoch,
        "low": onset.low,
        "high": onset.high,
        "context": turn(onset.context),
        "memory": turn(onset.memory),
        "copying": asdict(onset.copying),
        "learned": onset.learned,
        "best": onset.shipped,
        "turned": onset.turned,
        "sentence": onset.sentence,
        "unit": trajectory.unit,
        "source": trajectory.source or None,
        "checkpoints_read": trajectory.checkpoints or len(trajectory),
        "checkpoints": [
            {"epoch": readings.epoch, "score": _plain(readings.score)}
            | {name: [_plain(value) for value in astuple(each)] for name, each in readings.channels.items()}
            for readings in trajectory.readings
        ],
    }


def _plain(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _cell(name: str, value: float) -> str:
    if np.isnan(value):
        return ""
    return f"{100 * (np.exp(value) - 1):+.2f} %" if name.endswith("_loss") else f"{value:.3f}"


def _marks(trajectory: Trajectory, onset: Onset) -> dict[int, str]:
    """Row to the words that stand beside it."""
    said: dict[int, list[str]] = {}

    def mark(epoch: float | None, words: str) -> None:
        if epoch is not None:
            said.setdefault(int(np.abs(trajectory.epochs - epoch).argmin()), []).append(words)

    mark(onset.learned, "learned")
    mark(onset.shipped, "ship")
    mark(onset.context.epoch, "context onset")
    mark(onset.memory.epoch, "memory onset")
    return {row: ", ".join(words) for row, words in said.items()}


def _rows(trajectory: Trajectory, wanted: set[int]) -> list[int]:
    """All rows, or an even selection with those that are marked."""
    count = len(trajectory)
    if count <= MOST_ROWS:
        return list(range(count))
    even = np.unique(np.linspace(0, count - 1, MOST_ROWS).astype(int))
    return sorted(wanted | {int(row) for row in even})
