"""The LoRA that ships at other strengths, at the epochs beside its own, and on other bases: one picture for a person's
eye. Nothing is decided by it."""

import hashlib
import json
import shutil
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from search.probe.drawing import drawing_of, precision_of
from search.probe.fresh_probe import FreshProbe
from search.record.finalists import STRENGTHS_SHEET, StrengthsShown
from search.record.record import StudyFolder
from search.study.study import Study
from trainer.base_model.load import load_base
from trainer.checkpoint import LORA_FILE
from trainer.families import Base
from trainer.files import write_whole
from trainer.inference.picture_grid import INK, MUTED, Column, cell_width, picture_grid
from trainer.inference.sample import sample
from trainer.inference.sample_files import write_figure
from trainer.lora.kohya_file import load_lora

_PROMPTS = 4
_NAME = 14  # letters of another base above its column


@dataclass(frozen=True)
class _Cell:
    """A column of the sheet: which checkpoint, how strong, on which other base."""

    epoch: int
    strength: float
    base: str | None = None

    def heading(self, shipped: int) -> Column:
        ships = self.epoch == shipped and self.strength == 1 and self.base is None
        if self.base is not None:
            name = Path(self.base).stem
            return Column("other base", name if len(name) <= _NAME else f"{name[: _NAME - 1]}…")
        label = "ships" if ships else f"at {self.strength:g}"
        return Column(f"epoch {self.epoch}", label, ink=INK if ships else MUTED, bold=ships)


def show_strengths(
    study: Study,
    folder: StudyFolder,
    fresh: FreshProbe,
    trial: int,
    epoch: int,
    say: Callable[[str], None],
    part: slice | None = None,
) -> None:
    """Draws `strengths.png`, unless it is there as it would be drawn.

    Args:
        part: draw only these columns, and keep them for whoever draws the picture; None draws the picture.

    Rows are some of the fresh prompts, each under its first seed; columns the epoch to ship and the kept checkpoints
    before and behind it at `finalists.strengths`, then the epoch to ship at 1 on each of `finalists.transfer_bases`.

    Raises:
        TrainerError: a LoRA or another base that cannot be loaded, or that do not go together.
    """
    rows = _rows(fresh)
    prompts = [fresh.prompts.labels.prompts[row] for row in rows]
    seeds = [fresh.prompts.labels.seeds[row] for row in rows]
    cells = list(cells_of(study, folder, trial, epoch))
    asked = hashlib.sha256(json.dumps([fresh.asked, rows, [vars(cell) for cell in cells]]).encode()).hexdigest()
    shown = StrengthsShown(trial, epoch, asked)
    if StrengthsShown.load(folder) == shown and (folder.path / STRENGTHS_SHEET).is_file():
        return
    say("drawing at other strengths")
    aside = folder.cache / f"strengths-{asked[:16]}"
    drawn = [
        _kept(aside / f"{column}.npz", partial(_drawn, study, folder, fresh, trial, cell, prompts, seeds))
        for column, cell in list(enumerate(cells))[part or slice(None)]
    ]
    if part is not None:
        return
    grid = picture_grid(
        [list(column) for column in drawn],
        [cell.heading(epoch) for cell in cells],
        prompts,
        title=f"{folder.path.name}: what ships, at other strengths",
        subtitle="and at the kept epochs before and behind it; seeds and prompts that the search never used",
        cell=cell_width(drawn[0][0].shape[1]),
    )
    write_figure(folder.path / STRENGTHS_SHEET, grid)
    shown.save(folder)  # last: with it the picture is there
    shutil.rmtree(aside, ignore_errors=True)


def _kept(file: Path, draw: Callable[[], np.ndarray]) -> np.ndarray:
    """A column, uint8 `[rows, H, W, 3]`, as it was drawn before, or drawn now."""
    try:
        with np.load(file, allow_pickle=False) as kept:
            return np.array(kept["images"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):  # not drawn yet, or damaged
        images = draw()
    write_whole(file, lambda out: np.savez(out, images=images), durable=False)
    return images


def _rows(fresh: FreshProbe) -> list[int]:
    """Up to `_PROMPTS` images: one of a photo's caption, the others of new contexts, the first seed of each prompt."""
    labels = fresh.prompts.labels
    first = [row for row, prompt in enumerate(labels.prompts) if labels.prompts.index(prompt) == row]
    new = [row for row in first if labels.sets[row] == "C"]
    own = [row for row in first if labels.sets[row] != "C"]
    return [*own[: max(1, _PROMPTS - len(new))], *new][:_PROMPTS]


def cells_of(study: Study, folder: StudyFolder, trial: int, epoch: int) -> Iterator[_Cell]:
    """The columns, from left to right."""
    files = (folder.trial(trial) / "checkpoints").glob(f"[0-9]*/{LORA_FILE}")
    kept = sorted({epoch, *(int(file.parent.name) for file in files)})
    place = kept.index(epoch)
    for near in kept[max(0, place - 1) : place + 2]:
        for strength in study.finalists.strengths:
            yield _Cell(near, strength)
    for base in study.transfer_bases:
        yield _Cell(epoch, 1.0, base)


def _drawn(
    study: Study, folder: StudyFolder, fresh: FreshProbe, trial: int, cell: _Cell, prompts: list[str], seeds: list[int]
) -> np.ndarray:
    probe = fresh.probe
    base = probe.base if cell.base is None else _other(study, probe.base, cell.base)
    lora = load_lora(folder.checkpoint(trial, cell.epoch) / LORA_FILE, family=base.family.name)
    return sample(
        base,
        lora,
        prompts,
        seeds,
        **drawing_of(probe.score, probe.config),
        precision=probe.precision if cell.base is None else precision_of(probe.score, base),
        cache=probe.cache if cell.base is None else None,
        strength=cell.strength,
    )


def _other(study: Study, base: Base, source: str) -> Base:
    """Another base, of the same family, as the study's own was loaded."""
    config = study.config(next(study.space.combinations()))
    name = base.family.name
    return load_base(source, family=name, device=base.device, precision=config.precision, quantize=config.quantize)
