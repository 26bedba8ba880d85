"""`report.html` of a delivery study: the verdict, before and after, and every set of weights that was tried."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from metrics.errors import MetricsError
from search.record.json_files import write_bytes
from search.record.judgement import SHEET_FILE, Judgement
from search.record.page_template import page_template
from search.record.record import StudyFolder, TrialRecord
from search.verdict.sentences import headline

if TYPE_CHECKING:
    from search.verdict.verdict import Verdict

_READ = {"subject": "likeness", "background": "background", "prompt": "obedience", "copying": "copying"}
"""Channels of the table, and what they are called there."""


@dataclass(frozen=True)
class _Row:
    """One set of weights: `cells` are its number, its worth, its weights and what was read."""

    chosen: bool
    cells: Sequence[str]


def write_delivery_report(
    folder: StudyFolder, verdict: "Verdict", judgement: Judgement, records: Sequence[TrialRecord]
) -> None:
    """Writes `report.html`, which opens offline."""
    sheet = folder.path / SHEET_FILE
    picture = ""
    if judgement.images and sheet.is_file():
        picture = "data:image/png;base64," + base64.b64encode(sheet.read_bytes()).decode()
    groups = list(records[0].params) if records else []
    scored = sorted((r for r in records if r.score is not None), key=lambda r: (-(r.score or 0.0), r.number))
    text = page_template("search.verdict", "delivery.html").render(
        title=f"{verdict.study}: {headline(verdict)}",
        study=verdict.study,
        heading=headline(verdict),
        said=verdict.said.parts,
        picture=picture,
        columns=["trial", "worth", *groups, *_READ.values()],
        rows=[_row(folder, record, groups, chosen=record.number == judgement.trial) for record in scored],
        files=verdict.files,
    )
    write_bytes(folder.report, text.encode())


def _row(folder: StudyFolder, record: TrialRecord, groups: Sequence[str], *, chosen: bool) -> _Row:
    try:
        channels = folder.trajectory(record.number).readings[-1].channels
    except MetricsError:  # none was written, or it is damaged
        channels = {}
    read = [f"{channels[name].value:.2f}" if name in channels else "–" for name in _READ]
    weights = [f"{record.params[group]:g}" for group in groups]
    return _Row(chosen, [str(record.number), f"{record.score or 0.0:.3f}", *weights, *read])
