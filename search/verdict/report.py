"""`report.html`: the verdict, its plots, epochs × prompts, what mattered, and every trial, in one offline file."""

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from search.errors import StudyError
from search.record.curve import Curve
from search.record.data_check import DATA_CHECK_PAGE
from search.record.finalists import FINALISTS_SHEET, STRENGTHS_SHEET
from search.record.json_files import write_bytes
from search.record.page_template import page_template
from search.record.person_pick import PersonPick
from search.record.probe_description import ProbeDescription
from search.record.record import StudyFolder, TrialRecord
from search.record.votes import Votes
from search.study.server import known_server
from search.tuning.database import storage_url
from search.tuning.importances import Importances, parameter_importances
from search.verdict.album import Album, Picture, data_url
from search.verdict.ballot import vote_sentences
from search.verdict.best_files import BEHAVIOUR, PLOT, SHEET, marks, write_pictures
from search.verdict.charts import OWN_SCALE, score_chart
from search.verdict.decision import decide
from search.verdict.finalists import finalist_columns, finalist_rows, finalist_sentences
from search.verdict.front import FRONT_PICTURE, front_sentences
from search.verdict.private_paths import without_private_paths
from search.verdict.report_facts import facts_of
from search.verdict.sentences import headline
from search.verdict.settings_sentences import settings_of
from search.verdict.sheet import SET_NAMES, choose_epochs
from search.verdict.trial_cells import cells
from search.verdict.trial_sentences import trial_sentences

if TYPE_CHECKING:
    from search.verdict.verdict import Verdict

_MOST_TOLD = 1000
"""Trials of which everything is told, best first; of the others only their row stands there."""
_MOST_LINES = 500  # curves in the picture of all trials: more are one grey patch
_PICTURES = {SHEET: "contact sheet", PLOT: "onset plot", BEHAVIOUR: "behaviour plot"}
_GRID_COLUMNS, _GRID_ROWS = 9, 12
_TRIAL_COLUMNS = ("trial", "state", "score", "", "best {}", "{}s trained", "onset")
_SETTING_COLUMNS = ("optimizer", "rate", "schedule", "rank", "alpha", "time")
_IMPORTANCES_NOTE = (
    "How much of the difference in score each setting explains (PED-ANOVA over {} complete trials). With so few trials "
    "it is only a hint."
)


def write_report(folder: StudyFolder, verdict: "Verdict", *, storage: str | None = None) -> Path:
    """Writes `report.html` (`templates/report.html`, filled in) and returns its path.

    Args:
        storage: URL of the Optuna storage for importances; None takes the study's `study.db`, if it is there.
    """
    records, pick = list(folder.records()), PersonPick.load(folder)
    ranked = sorted(
        records, key=lambda r: (r.number != verdict.trial, r.state != "complete", *_by_value(r.value), r.number)
    )
    curves = {r.number: curve for r in ranked[:_MOST_TOLD] if (curve := Curve.load(folder.trial(r.number))) is not None}
    best = next((r for r in records if r.number == verdict.trial), None)
    album = Album(folder)
    composites = album.picture(
        folder.cache / "probe" / "composites.png", "Subjects, cut out of the photos and put elsewhere"
    )
    plots: list[Picture | None] = []
    if best is not None:
        over = f"of the best trial over its {verdict.decision.unit}s"
        plots = [
            album.picture(folder.best_folder / PLOT, f"Losses and score {over}"),
            album.picture(folder.best_folder / BEHAVIOUR, f"What the images do, {over}"),
        ]
    lines = [(r.number, *curves[r.number].line) for r in ranked[:_MOST_LINES] if r.number in curves]
    scale = None if any(r.objective for r in records) else OWN_SCALE
    importances, unit = _importances(folder, verdict.study, storage), verdict.decision.unit
    text = page_template("search.verdict", "report.html").render(
        title=f"{verdict.study}: {headline(verdict)}",
        study=verdict.study,
        heading=headline(verdict),
        facts=facts_of(verdict),
        said=verdict.said.parts,
        pick=None if pick is None else pick.sentence,
        composites=composites,
        disagreement=verdict.decision.disagreement is not None,
        plots=[plot for plot in plots if plot is not None],
        finalist_columns=finalist_columns(verdict),
        finalists=finalist_rows(verdict),
        finalists_note=" ".join(finalist_sentences(verdict)),
        votes=" ".join(vote_sentences(verdict.finalists, Votes.load(folder))),
        front=album.picture(folder.path / FRONT_PICTURE, "Likeness against obedience of every trial that ships"),
        front_said=" ".join(front_sentences(verdict)),
        finalists_picture=None
        if verdict.finalists is None
        else album.picture(folder.path / FINALISTS_SHEET, "The finalists on fresh seeds and prompts"),
        strengths_picture=None
        if "strengths" not in verdict.files
        else album.picture(folder.path / STRENGTHS_SHEET, "What ships at other strengths, and the epochs beside"),
        grid=None if best is None else _grid(folder, best),
        chart=score_chart(sorted(lines), verdict.trial, None if best is None else marks(verdict.decision), scale=scale),
        importances=importances,
        importances_note="" if importances is None else _IMPORTANCES_NOTE.format(importances.trials),
        trial_columns=[name.format(unit) for name in _TRIAL_COLUMNS + _SETTING_COLUMNS],
        unit=unit,
        in_chart=min(len(records), _MOST_LINES),
        told=min(len(records), _MOST_TOLD),
        trials=[
            *(_trial(r, curves.get(r.number), _pictures(folder, r, album), verdict) for r in ranked[:_MOST_TOLD]),
            *(_trial(r, None, None, verdict) for r in ranked[_MOST_TOLD:]),
        ],
        files=verdict.files,
        data_check=DATA_CHECK_PAGE if (folder.path / DATA_CHECK_PAGE).is_file() else "",
        train_yaml=_train_yaml(folder, verdict),
        versions=_versions(records),
    )
    write_bytes(folder.report, text.encode())
    return folder.report


@dataclass(frozen=True)
class _Column:
    """An epoch of the grid; `kind` is "ship", "onset" or ""."""

    epoch: int
    name: str
    label: str
    kind: str


@dataclass(frozen=True)
class _Row:
    """A prompt of the grid, with one image for each column as a data URL."""

    prompt: str
    set: str
    images: Sequence[str]


@dataclass(frozen=True)
class _Grid:
    trial: int
    note: str
    columns: Sequence[_Column]
    rows: Sequence[_Row]


def _grid(folder: StudyFolder, best: TrialRecord) -> _Grid | None:
    epochs = folder.sampled_epochs(best.number)
    if not epochs:
        return None
    about, pointed = folder.probe(), marks(decide(best), shipping=True)
    chosen = choose_epochs(epochs, _GRID_COLUMNS, pointed.epochs)
    turn = pointed.nearest(chosen)

    def kind(epoch: int) -> str:
        if epoch == pointed.shipped:
            return "ship"
        return "onset" if epoch == turn or pointed.inside(epoch) else ""

    samples = folder.readable_samples(best.number, chosen)
    columns = [
        _Column(epoch, "base" if epoch == 0 else f"{pointed.unit} {epoch}", pointed.label(epoch, chosen), kind(epoch))
        for epoch in samples
    ]
    rows = [
        _Row(about.prompts[row], _set(about, row), [data_url(_encoded(samples[e][row, 0])) for e in samples])
        for row in _spread(about, _GRID_ROWS)
    ]
    note = (
        f"Prompts and seeds are the same at every {pointed.unit}. Rows marked “new context” ask for what the photos do "
        "not show." + ("" if len(about.seeds) < 2 else " The contact sheet has the other seeds, too.")
    )
    return _Grid(best.number, note, columns, rows)


def _spread(about: ProbeDescription, most: int) -> list[int]:
    """Rows to show: new contexts first, because there overfitting is seen first."""
    sets = about.sets or ("C",) * len(about.prompts)
    order = sorted(range(len(about.prompts)), key=lambda row: ("CBA".find(sets[row]), row))
    return order[:most]


def _set(about: ProbeDescription, row: int) -> str:
    return SET_NAMES.get(about.sets[row], "") if row < len(about.sets) else ""


def _importances(folder: StudyFolder, study: str, storage: str | None) -> Importances | None:
    url = storage or (storage_url(folder.database) if folder.database.is_file() else None)
    if url is None:
        with contextlib.suppress(StudyError):  # nobody says how its server is reached
            server = known_server(folder)
            url = None if server is None else server.url
    return None if url is None else parameter_importances(url, study)


@dataclass(frozen=True)
class _Trial:
    """A row of the table of trials: `cells` hold what is shown and what it is sorted by. The rest opens below it,
    unless `pictures` is None."""

    best: bool
    cells: Sequence[tuple[str, str]]
    settings: str
    said: str
    lost: str
    error: str
    pictures: Sequence[Picture] | None


def _pictures(folder: StudyFolder, record: TrialRecord, album: Album) -> list[Picture]:
    """A trial's pictures, drawn now where one is missing and there is room for it."""
    home, drawn = folder.trial(record.number), not album.full and record.state != "running"
    there = write_pictures(folder, record.number) if drawn else {name: home / name for name in _PICTURES}
    return album.pictures(
        {there[name]: f"Trial {record.number}, {what}" for name, what in _PICTURES.items() if name in there}
    )


def _trial(record: TrialRecord, curve: Curve | None, pictures: Sequence[Picture] | None, verdict: "Verdict") -> _Trial:
    """`pictures`: None for a trial of which only its row is shown."""
    return _Trial(
        best=record.number == verdict.trial,
        cells=cells(record, curve, opens=pictures is not None),
        settings=settings_of(record),
        said=" ".join(trial_sentences(decide(record))),
        lost=record.lost,
        error=without_private_paths((record.error or "").strip()),
        pictures=pictures,
    )


def _train_yaml(folder: StudyFolder, verdict: "Verdict") -> str:
    config = folder.path / verdict.files["train.yaml"] if "train.yaml" in verdict.files else None
    if config is None or not config.is_file():
        return ""
    return without_private_paths(config.read_text(encoding="utf-8"))


def _versions(records: Sequence[TrialRecord]) -> str:
    versions = next((r.versions for r in reversed(records) if r.versions), {})
    return " · ".join(f"{name} {version}" for name, version in versions.items())


def _by_value(value: float | None) -> tuple[bool, float]:
    """The highest first, those without a value last."""
    return value is None, -(value or 0.0)


def _encoded(image: np.ndarray) -> bytes:
    from PIL import Image

    out = io.BytesIO()
    picture = Image.fromarray(np.ascontiguousarray(image))
    if picture.width > 256:
        picture = picture.resize((256, round(256 * picture.height / picture.width)), Image.Resampling.LANCZOS)
    picture.save(out, format="WEBP", quality=88)
    return out.getvalue()
