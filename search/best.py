"""`best/`: the LoRA to ship, the train.yaml to train it again on all photos, its contact sheet and onset plot."""

import logging
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from search.record import StudyFolder, TrialRecord, write_bytes
from search.sheet import Marks, choose_epochs, contact_sheet
from search.words import headline, settings

if TYPE_CHECKING:
    from metrics.onset import Onset
    from search.verdict import Verdict

SHEET, PLOT = "sheet.png", "onset.png"
_LOG = logging.getLogger(__name__)
_MOST_COLUMNS = 20


def write_best(folder: StudyFolder, verdict: "Verdict") -> "Verdict":
    """Fills `best/` and returns the verdict with the paths in `files` (relative to the study's folder).

    The folder is emptied first: a study that went on may have another winner.
    """
    from search.train_yaml import train_yaml
    from trainer.config import parse_train_config

    shutil.rmtree(folder.best_folder, ignore_errors=True)
    files: dict[str, str] = {}
    if verdict.trial is not None:
        epoch = int(verdict.epoch or 0)
        lora = folder.checkpoint(verdict.trial, epoch) / "lora.safetensors"
        if lora.is_file():
            target = folder.best_folder / f"{verdict.study}.safetensors"
            write_bytes(target, lora.read_bytes())
            files["LoRA"] = _relative(folder, target)
        config = parse_train_config(verdict.config)
        shipped = None if verdict.status in ("not_learned", "poor") else verdict.epoch
        about = f"Onset, study {verdict.study}, trial {verdict.trial}. {headline(verdict)}"
        target = folder.best_folder / "train.yaml"
        prompts = novel_prompts(folder)
        text = train_yaml(
            config, folder=folder.best_folder, name=verdict.study, epoch=shipped, about=about, prompts=prompts
        )
        write_bytes(target, text.encode())
        files["train.yaml"] = _relative(folder, target)
        for name, what in ((SHEET, "contact sheet"), (PLOT, "onset plot")):
            made = write_pictures(folder, verdict.trial).get(name)
            if made is not None:
                target = folder.best_folder / name
                write_bytes(target, made.read_bytes())
                files[what] = _relative(folder, target)
    files["report"] = _relative(folder, folder.report)
    return replace(verdict, files={**files, **verdict.files})


def novel_prompts(folder: StudyFolder, most: int = 4) -> list[str]:
    """Prompts of the probe in contexts that the photos do not show; none when the probe is gone."""
    try:
        about = folder.probe()
    except (OSError, ValueError):
        return []
    sets = about.get("sets") or []
    return [p for p, kind in zip(about["prompts"], sets, strict=False) if kind == "C"][:most]


def write_pictures(folder: StudyFolder, number: int) -> dict[str, Path]:
    """Draws a trial's contact sheet and onset plot into its folder, as far as there is something to draw.

    A picture that cannot be drawn is logged and left out: it must not cost the verdict.

    Returns:
        file name to path of what is there now.
    """
    record = TrialRecord.load(folder.trial(number))
    written = (folder.trial(number) / "record.json").stat().st_mtime
    made: dict[str, Path] = {}
    for name, draw in ((SHEET, _draw_sheet), (PLOT, _draw_plot)):
        path = folder.trial(number) / name
        if path.is_file() and path.stat().st_mtime >= written:
            made[name] = path
            continue
        try:
            if draw(folder, record, path):
                made[name] = path
        except Exception as error:
            _LOG.warning("trial %d: %s was not drawn (%s: %s)", number, name, type(error).__name__, error)
    return made


def marks(record: TrialRecord) -> Marks:
    """What a trial's sheet points out: the epoch to ship and the earlier of the two onsets."""
    name, turn = earlier_turn(record.onset)
    unlearned = record.onset is not None and record.onset.get("status") == "never_learned"
    shipped = None if unlearned else record.epoch_shipped
    if turn is None:
        return Marks(shipped=shipped)
    return Marks(shipped, turn.get("epoch"), turn.get("low"), turn.get("high"), f"{name} onset")


def earlier_turn(onset: Mapping[str, Any] | None) -> tuple[str, Mapping[str, Any] | None]:
    """("context" or "memory", that turn) for the earlier turn that has an epoch; ("", None) when none has."""
    found = [
        (name, turn)
        for name in ("context", "memory")
        if onset and (turn := onset.get(name)) and turn.get("epoch") is not None
    ]
    return min(found, key=lambda pair: pair[1]["epoch"]) if found else ("", None)


def onset_of(record: Mapping[str, Any]) -> "Onset":
    """The `metrics.onset.Onset` that `record.json` holds as a dict."""
    from dataclasses import fields

    from metrics.onset import Onset, Turn

    def turn(values: Mapping[str, Any]) -> Turn:
        known = {f.name for f in fields(Turn)}
        kept = {k: v for k, v in values.items() if k in known}
        return Turn(**{**kept, "channels": tuple(kept.get("channels") or ())})

    known = {f.name for f in fields(Onset)}
    kept = {k: v for k, v in record.items() if k in known}
    return Onset(**{**kept, "context": turn(record["context"]), "memory": turn(record["memory"])})


def _draw_sheet(folder: StudyFolder, record: TrialRecord, path: Path) -> bool:
    import io

    epochs = folder.sampled_epochs(record.number)
    if not epochs:
        return False
    about, pointed = folder.probe(), marks(record)
    chosen = choose_epochs(epochs, _MOST_COLUMNS, (pointed.shipped, pointed.onset))
    images = {e: list(_rows(kept)) for e, kept in folder.readable_samples(record.number, chosen).items()}
    if not images:
        return False
    captions = [p for p in about["prompts"] for _ in about["seeds"]]
    score = "" if record.score is None else f" · score {record.score:.3f}"
    sheet = contact_sheet(
        images,
        captions,
        title=f"Trial {record.number} · {folder.path.name}{score}",
        subtitle=settings(record.config),
        marks=pointed,
        cell=_cell(next(iter(images.values()))[0].shape[1]),
    )
    out = io.BytesIO()
    sheet.save(out, format="PNG", compress_level=4)
    write_bytes(path, out.getvalue())
    return True


def _draw_plot(folder: StudyFolder, record: TrialRecord, path: Path) -> bool:
    if record.onset is None or not (folder.trial(record.number) / "trajectory.csv").is_file():
        return False
    from metrics.onset_plot import plot_onset

    trajectory = folder.trajectory(record.number)
    if len(trajectory) < 2:
        return False
    thumbnails = None
    epochs = folder.sampled_epochs(record.number)
    if epochs:
        pointed = marks(record)
        chosen = choose_epochs(epochs, 8, (pointed.shipped, pointed.onset))
        row = _novel_row(folder.probe())
        kept = folder.readable_samples(record.number, chosen)
        thumbnails = (list(kept), np.stack([images[row, 0] for images in kept.values()])) if kept else None
    title = f"Trial {record.number} · {folder.path.name}"
    aside = path.with_name(f".{path.name}")
    plot_onset(aside, trajectory, onset_of(record.onset), thumbnails=thumbnails, title=title)
    write_bytes(path, aside.read_bytes())
    aside.unlink()
    return True


def _rows(samples: np.ndarray) -> np.ndarray:
    """uint8 [prompts, seeds, H, W, 3] -> [prompts × seeds, H, W, 3]."""
    return samples.reshape(-1, *samples.shape[2:])


def _novel_row(about: Mapping[str, Any]) -> int:
    """The first prompt of a context that the photos do not show: where overfitting is seen first."""
    sets = list(about.get("sets", ()))
    return sets.index("C") if "C" in sets else 0


def _cell(width: int) -> int:
    """Width on the sheet: small pictures twice as large, large ones at most 192 pixels."""
    return width * 2 if width <= 96 else min(width, 192)


def _relative(folder: StudyFolder, path: Path) -> str:
    return path.relative_to(folder.path).as_posix()
