"""`best/`: the LoRA to ship, the train.yaml to train it again on all photos, its contact sheet and plots."""

import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from search.errors import MACHINE_ERRNOS
from search.record.finalists import BY_TWINS_FILE
from search.record.json_files import write_bytes
from search.record.record import StudyFolder, TrialRecord
from search.record.twin_curve import plotted
from search.record.twins import TWINS_FILE
from search.verdict.all_photos import in_passes, on_all_photos
from search.verdict.best_folder import replacing_best
from search.verdict.copying_sentences import copying_note
from search.verdict.decision import Decision, decide, lora_to_ship
from search.verdict.sentences import headline
from search.verdict.settings_sentences import settings_of
from search.verdict.sheet import SET_NAMES, Marks, choose_epochs, contact_sheet
from search.verdict.trial_sentences import plot_caption, trial_sentences
from search.verdict.twin_sentences import words_of

if TYPE_CHECKING:
    from metrics.onset.turns import Onset
    from metrics.trajectory.trajectory import Trajectory
    from search.verdict.verdict import Verdict

SHEET, PLOT, BEHAVIOUR, NOTHING = "sheet.png", "onset.png", "behaviour.png", "SHIP-NOTHING-YET.txt"
SHIP_WORDS, BEST_WORDS = "ship this", "its best"
_LOG = logging.getLogger(__name__)
_MOST_COLUMNS, _MOST_HEIGHT = 12, 1600
_LEAST_CELL, _HEADS_HEIGHT = 64, 180  # pixels: of an image, and of all that is not an image


def write_best(folder: StudyFolder, verdict: "Verdict") -> "Verdict":
    """Replaces `best/` as a whole: a study that went on may have another winner.

    Where nothing ships it holds no LoRA, and `SHIP-NOTHING-YET.txt` says why.

    Returns:
        the verdict with the paths in `files` (relative to the study's folder).
    """
    with replacing_best(folder) as aside:
        return _fill(folder, verdict, aside)


def _fill(folder: StudyFolder, verdict: "Verdict", aside: Path) -> "Verdict":
    files: dict[str, str] = {}
    found = verdict.decision
    if found.trial is not None:
        record = TrialRecord.load(folder.trial(found.trial))
        lora = lora_to_ship(folder, found)
        if not lora.is_file():
            lora = _shipped_before(folder, verdict)
        if found.ships and lora.is_file():
            target = aside / f"{verdict.study}.safetensors"
            write_bytes(target, lora.read_bytes())
            files["LoRA"] = f"{folder.best_folder.name}/{target.name}"
        if record.finished_run is None:
            files["train.yaml"] = _write_train_yaml(folder, verdict, record, aside)
        for name, what, draw in PICTURES:
            target = aside / name
            if _drawn(folder, record, target, partial(draw, shipping=headline(verdict))):
                files[what] = f"{folder.best_folder.name}/{target.name}"
    if not found.ships:
        target = aside / NOTHING
        write_bytes(target, "\n".join([headline(verdict), "", *verdict.said.do, *verdict.said.why, ""]).encode())
        files["why nothing"] = f"{folder.best_folder.name}/{target.name}"
    files["report"] = _relative(folder, folder.report)
    return replace(verdict, files={**files, **verdict.files})


def _write_train_yaml(folder: StudyFolder, verdict: "Verdict", record: TrialRecord, aside: Path) -> str:
    """Returns its place in the study's folder."""
    from search.study.config_yaml import train_yaml

    target = aside / "train.yaml"
    config, shipped = record.config, verdict.decision.shipped
    if record.final is not None:
        config, shipped = in_passes(config, shipped, verdict.photos)
    else:
        config = on_all_photos(config, verdict.photos)
    text = train_yaml(
        config,
        folder=folder.best_folder,
        name=verdict.study,
        epoch=shipped,
        about=f"Onset, study {verdict.study}, trial {record.number}. {headline(verdict)}",
        prompts=novel_prompts(folder),
    )
    write_bytes(target, text.encode())
    return f"{folder.best_folder.name}/{target.name}"


def _shipped_before(folder: StudyFolder, verdict: "Verdict") -> Path:
    """The LoRA in the `best/` of an earlier sitting, where that shipped the same epoch of the same trial; its own
    checkpoint may have been deleted since."""
    from search.verdict.verdict import known_verdict

    before = known_verdict(folder)
    found = verdict.decision
    was = None if before is None else before.decision
    same = was is not None and (was.trial, was.epoch, was.average) == (found.trial, found.epoch, found.average)
    return folder.path / before.files.get("LoRA", "") if before is not None and same else folder.path


def novel_prompts(folder: StudyFolder, most: int = 4) -> list[str]:
    """Prompts of the probe in contexts that the photos do not show; none when the probe is gone."""
    try:
        about = folder.probe()
    except (OSError, ValueError):
        return []
    return [p for p, kind in zip(about.prompts, about.sets, strict=False) if kind == "C"][:most]


def write_pictures(folder: StudyFolder, number: int) -> dict[str, Path]:
    """Draws a trial's contact sheet and plots into its folder, as far as there is something to draw.

    A picture that cannot be drawn is logged and left out: it must not cost the verdict. A disk that is full raises.

    Returns:
        file name to path of what is there now.
    """
    record = TrialRecord.load(folder.trial(number))
    trial = folder.trial(number)
    written = max(path.stat().st_mtime for path in (trial / "record.json", trial / TWINS_FILE) if path.is_file())
    made: dict[str, Path] = {}
    for name, _, draw in PICTURES:
        path = folder.trial(number) / name
        fresh = path.is_file() and path.stat().st_mtime >= written
        if fresh or _drawn(folder, record, path, draw):
            made[name] = path
    return made


def without_twins(folder: StudyFolder, but: int | None = None) -> None:
    """Forget what twins of trials said, which the study asks no more or which won before, and the pictures that
    tell it. What each twin read is kept among the looks of the finals. `but`: the trial whose twins' word stays."""
    if but is None:
        (folder.path / BY_TWINS_FILE).unlink(missing_ok=True)
    for number in folder.numbers():
        trial = folder.trial(number)
        if number != but and (trial / TWINS_FILE).is_file():
            for name, *_ in PICTURES:
                (trial / name).unlink(missing_ok=True)
            (trial / TWINS_FILE).unlink()


def marks(found: Decision, *, shipping: bool = False) -> Marks:
    """What a trial's sheet points out: its best epoch (`shipping`: the one to ship) and the earlier of its onsets."""
    name, onset = found.earlier
    word = SHIP_WORDS if shipping else BEST_WORDS
    safe, alike = (None if choice is None else choice.epoch for choice in (found.safe, found.alike))
    shown = Marks(shipped=found.shipped, shipped_name=word, unit=found.unit, safe=safe, alike=alike)
    if onset is None:
        return shown
    return replace(shown, onset=onset.epoch, low=onset.low, high=onset.high, onset_name=f"{name} onset")


def _drawn(
    folder: StudyFolder, record: TrialRecord, path: Path, draw: Callable[[StudyFolder, TrialRecord, Path], bool]
) -> bool:
    try:
        return draw(folder, record, path)
    except Exception as error:
        if isinstance(error, OSError) and error.errno in MACHINE_ERRNOS:
            raise  # a disk that is full for a moment would leave the picture out for good
        _LOG.warning("trial %d: %s was not drawn (%s: %s)", record.number, path.name, type(error).__name__, error)
        return False


def _draw_sheet(folder: StudyFolder, record: TrialRecord, path: Path, *, shipping: str | None = None) -> bool:
    """`shipping`: the verdict's headline, on the sheet of the trial that it is about."""
    import io

    from PIL.PngImagePlugin import PngInfo

    from metrics.images.sample_notes import FIGURE_NOTE

    epochs = folder.sampled_epochs(record.number)
    if not epochs:
        return False
    found = decide(record)
    about, pointed = folder.probe(), marks(found, shipping=shipping is not None)
    chosen = choose_epochs(epochs, _MOST_COLUMNS, pointed.epochs)
    samples = folder.readable_samples(record.number, chosen)
    if not samples:
        return False
    height, width = next(iter(samples.values())).shape[2:4]
    cell, seeds = fitting(len(about.prompts), len(about.seeds), height, width)
    images = {e: list(_rows(kept[:, :seeds])) for e, kept in samples.items()}
    captions = [p for p in about.prompts for _ in range(seeds)]
    kinds = [SET_NAMES.get(kind, "") for kind in about.sets for _ in range(seeds)]
    sheet = contact_sheet(
        images,
        captions,
        kinds=kinds,
        title=f"{folder.path.name} · {shipping or f'trial {record.number} · {trial_sentences(found)[0]}'}",
        subtitle=" · ".join([settings_of(record), *copying_note(found)]),
        marks=pointed,
        cell=cell,
    )
    out = io.BytesIO()
    inside = PngInfo()
    for name, text in FIGURE_NOTE.items():
        inside.add_text(name, text)
    sheet.save(out, format="PNG", compress_level=4, pnginfo=inside)
    write_bytes(path, out.getvalue())
    return True


def _draw_plot(folder: StudyFolder, record: TrialRecord, path: Path, *, shipping: str | None = None) -> bool:
    trajectory = _plotted(folder, record)
    if trajectory is None:
        return False
    from metrics.onset.plot import plot_onset

    found = decide(record)
    thumbnails = None
    epochs = folder.sampled_epochs(record.number)
    if epochs:
        pointed = marks(found)
        chosen = choose_epochs(epochs, 8, pointed.epochs)
        row = folder.probe().first_new_context
        kept = folder.readable_samples(record.number, chosen)
        thumbnails = (list(kept), np.stack([images[row, 0] for images in kept.values()])) if kept else None
    return _kept(
        path,
        lambda aside: plot_onset(
            aside, trajectory, _told(record, found), thumbnails=thumbnails, title=_plot_title(folder, record),
            caption=plot_caption(found, shipping), best=_best_word(found, shipping), words=words_of(found),
        ),
    )  # fmt: skip


def _draw_behaviour(folder: StudyFolder, record: TrialRecord, path: Path, *, shipping: str | None = None) -> bool:
    trajectory = _plotted(folder, record)
    if trajectory is None:
        return False
    from metrics.onset.plot_behaviour import plot_behaviour

    found = decide(record)
    title, word = f"{_plot_title(folder, record)} · what its images do", _best_word(found, shipping)
    return _kept(
        path, lambda aside: plot_behaviour(aside, trajectory, _told(record, found), title=title, said=shipping or "",
                                           best=word, words=words_of(found)),
    )  # fmt: skip


def _plotted(folder: StudyFolder, record: TrialRecord) -> "Trajectory | None":
    """What a trial's plots show; None where there is nothing to plot."""
    if record.onset is None or not (folder.trial(record.number) / "trajectory.csv").is_file():
        return None
    trajectory = plotted(folder, record)
    return trajectory if len(trajectory) >= 2 else None


def _told(record: TrialRecord, found: Decision) -> "Onset":
    """The onset as the decision tells it: of a subject that was not learned there is none."""
    from metrics.onset.turns import Copying, Turn

    assert record.onset is not None
    if found.context.status != "not_learned":
        return record.onset
    return replace(record.onset, context=Turn("unmeasured"), memory=Turn("unmeasured"), copying=Copying("unmeasured"))


def _best_word(found: Decision, shipping: str | None) -> str | None:
    return None if not found.ships else "best" if shipping is None else "ship"


def _plot_title(folder: StudyFolder, record: TrialRecord) -> str:
    return f"{folder.path.name} · trial {record.number}"


def _kept(path: Path, draw: Callable[[Path], Path | None]) -> bool:
    """Draws beside `path` and moves the picture there."""
    aside = path.with_name(f".{path.name}")
    path.parent.mkdir(parents=True, exist_ok=True)
    if draw(aside) is None:
        return False
    write_bytes(path, aside.read_bytes())
    aside.unlink()
    return True


def _rows(samples: np.ndarray) -> np.ndarray:
    """uint8 [prompts, seeds, H, W, 3] -> [prompts × seeds, H, W, 3]."""
    return samples.reshape(-1, *samples.shape[2:])


def fitting(prompts: int, seeds: int, height: int, width: int) -> tuple[int, int]:
    """(width of an image, seeds shown) so that a sheet of so many prompts is not too high: smaller images, then
    fewer seeds."""

    def widest(shown: int) -> int:
        free = (_MOST_HEIGHT - _HEADS_HEIGHT - 12 * prompts) / (prompts * shown) - 6
        return min(_cell(width), int(free * width / height))

    shown = next((count for count in range(seeds, 0, -1) if widest(count) >= min(_LEAST_CELL, _cell(width))), 1)
    return max(16, widest(shown)), shown


def _cell(width: int) -> int:
    """Width on the sheet: small pictures twice as large, large ones at most 192 pixels."""
    return width * 2 if width <= 96 else min(width, 192)


def _relative(folder: StudyFolder, path: Path) -> str:
    return path.relative_to(folder.path).as_posix()


PICTURES = (
    (SHEET, "contact sheet", _draw_sheet),
    (PLOT, "onset plot", _draw_plot),
    (BEHAVIOUR, "behaviour plot", _draw_behaviour),
)
