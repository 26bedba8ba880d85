"""`report.html`: the verdict, the onset plot, epochs × prompts, what mattered, and every trial, in one offline file."""

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from metrics.errors import MetricsError
from search.record.record import StudyFolder, TrialRecord, write_bytes
from search.tuning.database import storage_url
from search.tuning.importances import parameter_importances
from search.verdict.best_files import PLOT, SHEET, marks, write_pictures
from search.verdict.decision import decide
from search.verdict.private_paths import without_private_paths
from search.verdict.report_page import bars, facts, page, score_chart, section, spark
from search.verdict.sentences import duration, headline, onset_short, size, state_text, trial_sentences, turn_short
from search.verdict.settings_sentences import settings
from search.verdict.sheet import SET_NAMES, choose_epochs
from trainer.config.config import TrainConfig, recorded_config

if TYPE_CHECKING:
    from metrics.trajectory.trajectory import Trajectory
    from search.verdict.verdict import Verdict

_MOST_BYTES = 24_000_000  # pictures beyond this are linked: a report of 500 trials must still open
_GRID_COLUMNS, _GRID_ROWS = 9, 12


def write_report(folder: StudyFolder, verdict: "Verdict", *, storage: str | None = None) -> Path:
    """Writes `report.html` and returns its path.

    Args:
        storage: URL of the Optuna storage for importances; None takes the study's `study.db`, if it is there.
    """
    records = list(folder.records())
    trajectories = {r.number: t for r in records if (t := _trajectory(folder, r)) is not None}
    pictures = {r.number: write_pictures(folder, r.number) for r in records if r.state != "running"}
    best = next((r for r in records if r.number == verdict.trial), None)
    album = _Album(folder)
    parts = [_top(verdict)]
    composites = _composites(folder, album)
    if verdict.decision.disagreement is not None:
        parts.append(composites)  # beside the sentence that asks to look at them
    if best is not None:
        plot = folder.best_folder / PLOT
        if plot.is_file():
            shown = album.picture(plot, "Readings of the best trial over its epochs")
            parts.append(section("Where overfitting begins", f'<div class="scroll plot">{shown}</div>'))
        parts.append(_grid(folder, best))
    curves = [(n, t.epochs.tolist(), t.scores.tolist()) for n, t in trajectories.items()]
    chart = score_chart(curves, verdict.trial, None if best is None else marks(verdict.decision))
    if chart:
        parts.append(section("Every trial's score", chart, "over epochs; the best trial in green, point at a line"))
    parts.append(_importances(folder, storage))
    if verdict.decision.disagreement is None:
        parts.append(composites)
    parts.append(_trials(records, trajectories, pictures, album, verdict))
    parts.append(_files(folder, verdict))
    parts.append(_foot(records))
    text = page(f"{verdict.study}: {headline(verdict)}", "\n".join(p for p in parts if p))
    write_bytes(folder.report, text.encode())
    return folder.report


class _Album:
    """Pictures as data URLs until the page is large enough, then as links to the files beside it."""

    def __init__(self, folder: StudyFolder) -> None:
        self.folder, self.spent = folder, 0

    def picture(self, path: Path, alt: str) -> str:
        try:
            data = _webp(path)
        except (OSError, SyntaxError, ValueError):
            return f'<p class="muted">{escape(path.name)} is damaged.</p>'
        if self.spent + len(data) > _MOST_BYTES:
            source = path.relative_to(self.folder.path).as_posix()
            return f'<p><a href="{escape(source)}">{escape(alt)}</a></p>'
        self.spent += len(data)
        return f'<img class="wide" loading="lazy" src="{_data_url(data)}" alt="{escape(alt)}">'


def _top(verdict: "Verdict") -> str:
    found = verdict.decision
    numbers: list[tuple[str, str, str]] = []
    if found.trial is not None:
        if found.ships:
            numbers.append((str(found.epoch), "epoch to ship", "ship"))
        else:
            numbers.append(("none", "epoch to ship", ""))
        if found.score is not None:
            numbers.append((f"{found.score:.3f}", f"score at epoch {found.epoch}, of 1", ""))
        for name in ("context", "memory"):
            onset = getattr(found, name)
            short, _, between = turn_short(onset).partition(" (")
            said = f"{name} onset" + (f" ({between}" if between else "")
            numbers.append((short if between else turn_short(onset), said, "onset" if onset.epoch is not None else ""))
        numbers.append((f"{verdict.epochs_trained} / {verdict.epochs}", "epochs trained / planned", ""))
        if verdict.lora_bytes:
            numbers.append((size(verdict.lora_bytes), "LoRA file", ""))
    spent = verdict.cost
    numbers.append((str(spent.trials), "trials", ""))
    clock = "on the clock" if spent.wall_seconds else "of work"
    numbers.append((duration(spent.wall_seconds or spent.seconds), clock, ""))
    said = "".join(
        f'<h3>{escape(heading)}</h3><ul class="said">{"".join(f"<li>{escape(each)}</li>" for each in sentences)}</ul>'
        for heading, sentences in verdict.said.parts
    )
    return (
        f'<p class="eyebrow">Onset · study {escape(verdict.study)}</p><h1>{escape(headline(verdict))}</h1>'
        f"<section>{facts(numbers)}{said}</section>"
    )


def _composites(folder: StudyFolder, album: "_Album") -> str:
    path = folder.cache / "probe" / "composites.png"
    if not path.is_file():
        return ""
    shown = album.picture(path, "The composites that the loss on moved subjects is measured on")
    note = "subjects cut out and moved; if the cut-outs are wrong, give masks (score.shifted.masks)"
    return section("New contexts, as they were made", shown, note)


def _grid(folder: StudyFolder, best: TrialRecord) -> str:
    epochs = folder.sampled_epochs(best.number)
    if not epochs:
        return ""
    about, pointed = folder.probe(), marks(decide(best), shipping=True)
    chosen = choose_epochs(epochs, _GRID_COLUMNS, (pointed.shipped, pointed.onset))
    turn = pointed.nearest(chosen)

    def kind(epoch: int) -> str:
        if epoch == pointed.shipped:
            return "ship"
        return "onset" if epoch == turn or pointed.inside(epoch) else ""

    def label(epoch: int) -> str:
        name = "base" if epoch == 0 else f"epoch {epoch}"
        return f'<th scope="col" class="{kind(epoch)}">{name}<small>{pointed.label(epoch, chosen)}</small></th>'

    samples = folder.readable_samples(best.number, chosen)
    rows = []
    for row in _spread(about, _GRID_ROWS):
        prompt = str(about["prompts"][row])
        cells = "".join(
            f'<td class="{kind(e)}"><img loading="lazy" src="{_data_url(_encoded(samples[e][row, 0]))}" '
            f'alt="{escape(prompt)}, epoch {e}"></td>'
            for e in samples
        )
        said = f"{escape(prompt)}{_set(about, row)}"
        # on a phone the prompt stands above its images, not beside them
        rows.append(f'<tr class="above"><th colspan="{len(samples)}"><div>{said}</div></th></tr>')
        rows.append(f'<tr><th scope="row">{said}</th>{cells}</tr>')
    head = "".join(label(e) for e in samples)
    table = f'<table class="grid"><thead><tr><th></th>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
    note = (
        "the same prompts and seeds at every epoch; rows marked “new context” ask for what the photos do not show"
        + ("" if len(about["seeds"]) < 2 else "; other seeds are on the contact sheet")
    )
    hint = f'<p class="swipe small">{len(samples)} epochs: move the images sideways →</p>'
    return section(f"Trial {best.number}, epoch by epoch", f'{hint}<div class="scroll">{table}</div>', note)


def _spread(about: Mapping[str, Any], most: int) -> list[int]:
    """Rows to show: new contexts first, because there overfitting is seen first."""
    sets = list(about.get("sets") or ["C"] * len(about["prompts"]))
    order = sorted(range(len(about["prompts"])), key=lambda row: ("CBA".find(sets[row]), row))
    return order[:most]


def _set(about: Mapping[str, Any], row: int) -> str:
    sets = about.get("sets") or ()
    return f'<br><span class="muted small">{SET_NAMES.get(sets[row], "")}</span>' if row < len(sets) else ""


def _importances(folder: StudyFolder, storage: str | None) -> str:
    url = storage or (storage_url(folder.database) if folder.database.is_file() else None)
    if url is None:
        return ""
    found = parameter_importances(url)
    if not found.shares:
        return section("What mattered", f'<p class="muted">Not shown: {escape(found.reason)}.</p>')
    note = f"share of the score's variance by PED-ANOVA over {found.trials} complete trials; with so few, a hint"
    return section("What mattered", bars(found.shares), note)


def _trials(
    records: Sequence[TrialRecord],
    trajectories: Mapping[int, "Trajectory"],
    pictures: Mapping[int, Mapping[str, Path]],
    album: _Album,
    verdict: "Verdict",
) -> str:
    heads = ["trial", "state", "score", "", "best epoch", "trained", "onset"]
    heads += ["optimizer", "rate", "schedule", "rank", "alpha", "time"]
    head = "".join(f'<th scope="col"><button type="button">{h}</button></th>' if h else "<th></th>" for h in heads)
    ranked = sorted(
        records, key=lambda r: (r.number != verdict.trial, r.state != "complete", -(r.value or -1), r.number)
    )
    bodies = [_trial(r, trajectories.get(r.number), pictures.get(r.number, {}), album, verdict) for r in ranked]
    table = f'<table class="trials"><thead><tr>{head}</tr></thead>{"".join(bodies)}</table>'
    find = '<input class="find" type="search" placeholder="find: Lion cosine …" aria-label="find trials">'
    note = "click a heading to sort, a trial to see its sheet"
    return section("Every trial", f'{find}<div class="scroll">{table}</div>', note)


def _trial(
    record: TrialRecord,
    trajectory: "Trajectory | None",
    pictures: Mapping[str, Path],
    album: _Album,
    verdict: "Verdict",
) -> str:
    config, found = recorded_config(record.config), decide(record)
    _, onset = found.earlier
    state = state_text(record)
    cells = [
        (f'<button type="button" class="open" aria-expanded="false">{record.number}</button>', record.number),
        (f'<span class="tag {record.state}">{escape(state)}</span>', state),
        ("" if found.score is None else f"{found.score:.3f}", found.score),
        ("" if trajectory is None else spark(*_curve(trajectory), found.shipped), ""),
        ("–" if found.shipped is None else str(found.shipped), found.shipped),
        (f"{record.epochs_trained} / {record.epochs}", record.epochs_trained),
        (escape(onset_short(found)), None if onset is None else onset.epoch),
        (escape(config.optimizer), config.optimizer),
        _rate(config),
        (escape(_schedule(config)), _schedule(config)),
        (str(config.rank), config.rank),
        (f"{config.effective_alpha:.3g}", config.effective_alpha),
        (duration(sum(record.timings.values())), sum(record.timings.values())),
    ]
    row = "".join(f'<td data-v="{escape(_bare(v))}">{html}</td>' for html, v in cells)
    kind = "row best" if record.number == verdict.trial else "row"
    inside = [f"<p>{escape(settings(record.config))}</p>"]
    inside.append(f"<p>{escape(' '.join(trial_sentences(found)))}</p>")
    if record.lost:
        inside.append(f'<p class="muted">Damaged and lost: {escape(record.lost)}.</p>')
    if record.error:
        inside.append(f"<pre>{escape(without_private_paths(record.error.strip()))}</pre>")
    for name, what in ((SHEET, "contact sheet"), (PLOT, "onset plot")):
        if name in pictures:
            inside.append(album.picture(pictures[name], f"Trial {record.number}, {what}"))
    detail = f'<tr class="detail" hidden><td colspan="{len(cells)}">{"".join(inside)}</td></tr>'
    return f'<tbody><tr class="{kind}">{row}</tr>{detail}</tbody>'


def _files(folder: StudyFolder, verdict: "Verdict") -> str:
    rows = "".join(
        f'<dt>{escape(name)}</dt><dd><a href="{escape(path)}">{escape(path)}</a></dd>'
        for name, path in verdict.files.items()
    )
    config = folder.path / verdict.files["train.yaml"] if "train.yaml" in verdict.files else None
    shown = ""
    if config is not None and config.is_file():
        text = without_private_paths(config.read_text(encoding="utf-8"))
        shown = f"<details><summary>train.yaml</summary><pre>{escape(text)}</pre></details>"
    return section("Files", f'<dl class="files">{rows}</dl>{shown}', "beside this report")


def _foot(records: Sequence[TrialRecord]) -> str:
    versions = next((r.versions for r in reversed(records) if r.versions), {})
    return f"<footer>{escape(' · '.join(f'{name} {version}' for name, version in versions.items()))}</footer>"


def _rate(config: TrainConfig) -> tuple[str, float | None]:
    if config.relative_step:
        return "its own", None
    return f"{config.effective_learning_rate:.2g}", config.effective_learning_rate


def _schedule(config: TrainConfig) -> str:
    name = str(config.lr_scheduler)
    if name == "cosine_with_restarts":
        return f"{name} / {config.cycle_epochs}" if config.cycle_epochs else f"{name} × {config.num_cycles or 1}"
    return name


def _bare(value: object) -> str:
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


def _trajectory(folder: StudyFolder, record: TrialRecord) -> "Trajectory | None":
    try:
        return folder.trajectory(record.number)
    except MetricsError:  # none was written, or it is damaged
        return None


def _curve(trajectory: "Trajectory") -> tuple[list[float], list[float]]:
    return trajectory.epochs.tolist(), trajectory.scores.tolist()


def _encoded(image: np.ndarray) -> bytes:
    from PIL import Image

    out = io.BytesIO()
    picture = Image.fromarray(np.ascontiguousarray(image))
    if picture.width > 256:
        picture = picture.resize((256, round(256 * picture.height / picture.width)), Image.Resampling.LANCZOS)
    picture.save(out, format="WEBP", quality=88)
    return out.getvalue()


def _webp(path: Path) -> bytes:
    """A picture smaller than its PNG, at most 1,800 pixels wide."""
    from PIL import Image

    picture = Image.open(path).convert("RGB")
    if picture.width > 1800:
        picture = picture.resize((1800, round(1800 * picture.height / picture.width)), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    picture.save(out, format="WEBP", quality=84, method=2)
    return out.getvalue()


def _data_url(data: bytes) -> str:
    return "data:image/webp;base64," + base64.b64encode(data).decode()
