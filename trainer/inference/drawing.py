"""A picture of own prompts: a row for each prompt and seed, a column for each LoRA file and strength."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.errors import ModelError
from trainer.inference.checkpoint_choice import Chosen

if TYPE_CHECKING:
    import numpy as np

    from trainer.families import Base

_CELLS = (96, 256)  # pixels of an image's width in the picture, at least and at most
_WIDEST = 2400


@dataclass(frozen=True)
class Drawing:
    """What is drawn, and how.

    Attributes:
        base: hub id, diffusers folder or .safetensors file.
        prompts, strengths: at least one each. seeds: of each prompt.
        size: (width, height) in pixels; None takes what the base was made for.
        precision: of the base; None takes fp32 on a CPU and bf16 elsewhere.
        with_base: whether the first column shows the base without LoRA.
    """

    base: str
    prompts: tuple[str, ...]
    strengths: tuple[float, ...] = (1.0,)
    seeds: tuple[int, ...] = (0,)
    size: tuple[int, int] | None = None
    steps: int = 20
    guidance: float = 6.0
    scheduler: str = "dpmpp_2m"
    negative: str = ""
    precision: str | None = None
    clip_skip: int | None = None
    with_base: bool = True


def draw(
    files: Sequence[Chosen],
    drawing: Drawing,
    *,
    device: str = "auto",
    to: Path | None = None,
    images: Path | None = None,
    say: Callable[[str], None] = print,
) -> Path:
    """Draws it, writes the picture, and returns where it is.

    Args:
        to: the picture's file, replaced if it is there; None takes a new `drawn-N.png` in the working folder.
        images: a folder for each image in a file of its own; None writes none.
        say: takes a line for each column, and one for the picture.

    Raises:
        ModelError: a file that is no LoRA, is damaged or does not fit the base, all told before anything is drawn.
    """
    import numpy as np

    from trainer.base_model.load import load_base
    from trainer.devices import find_device
    from trainer.inference.picture_grid import Column, picture_grid
    from trainer.inference.sample import sample
    from trainer.inference.sample_files import write_figure
    from trainer.lora.kohya_file import load_lora
    from trainer.lora.merge import check_fits

    place = find_device(device, key="--device")
    precision = drawing.precision or ("fp32" if place.type == "cpu" else "bf16")
    base = load_base(drawing.base, device=place, precision=precision)
    for file in files:
        try:
            check_fits(base, load_lora(file.path, family=base.family.name))
        except ModelError as error:
            told = str(error)
            raise ModelError(told if str(file.path) in told else f"{file.path}: {told}") from None
    size = drawing.size or native_size(base)
    rows = [(prompt, seed) for prompt in drawing.prompts for seed in drawing.seeds]
    columns, drawn = list[Column](), list[np.ndarray]()

    def column(file: Chosen | None, strength: float) -> None:
        title = Column("base") if file is None else Column(file.name, _label(file, strength, drawing.strengths))
        lora = None if file is None else load_lora(file.path, family=base.family.name)
        picture = sample(
            base,
            lora,
            [prompt for prompt, _ in rows],
            [seed for _, seed in rows],
            size=size,
            steps=drawing.steps,
            guidance=drawing.guidance,
            scheduler=drawing.scheduler,
            negative=drawing.negative,
            strength=strength,
            clip_skip=drawing.clip_skip,
        )
        columns.append(title)
        drawn.append(picture)
        say(f"{title.name}{f' · {title.label}' if title.label else ''}: {len(rows)} drawn")
        if images is not None:
            _write_each(images, picture, rows, file, strength, drawing)

    if drawing.with_base:
        column(None, 0.0)
    for file in files:
        for strength in drawing.strengths:
            column(file, strength)
    grid = picture_grid([list(each) for each in drawn], columns, [prompt for prompt, _ in rows], cell=_cell(columns))
    target = _new_name() if to is None else to
    write_figure(target, grid)
    say(f"{target}: {_count(len(columns), 'column')}, {_count(len(rows), 'row')}; {_seeds(drawing.seeds)}")
    return target


def native_size(base: Base) -> tuple[int, int]:
    """(width, height) in pixels that a base was made for: 512 for SD 1.x, 1024 for SDXL and SD3."""
    side = int(base.denoiser.config.sample_size) * base.latent_factor
    return side, side


def _label(file: Chosen, strength: float, strengths: Sequence[float]) -> str:
    shown = f"× {strength:g}" if len(strengths) > 1 or strength != 1 else ""
    return " ".join(filter(None, (file.of, shown)))


def _cell(columns: Sequence[object]) -> int:
    least, most = _CELLS
    return max(least, min(most, _WIDEST // len(columns)))


def _seeds(seeds: Sequence[int]) -> str:
    return f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {seeds[0]} to {seeds[-1]}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _new_name() -> Path:
    return next(path for number in count(1) if not (path := Path(f"drawn-{number}.png")).exists())


def _write_each(
    folder: Path,
    pictures: np.ndarray,
    rows: Sequence[tuple[str, int]],
    file: Chosen | None,
    strength: float,
    drawing: Drawing,
) -> None:
    """Each image with what a WebUI shows of it, in a folder for its column."""
    from trainer.inference.sample_files import SampleNote, sample_name, write_image

    name = "base" if file is None else f"{file.of} {file.name} {strength:g}".strip()
    for number, ((prompt, seed), picture) in enumerate(zip(rows, pictures, strict=True)):
        note = SampleNote(
            epoch=0,
            prompt=prompt,
            seed=seed,
            negative=drawing.negative,
            steps=drawing.steps,
            guidance=drawing.guidance,
            scheduler=drawing.scheduler,
        )
        write_image(folder / name.replace(" ", "_") / sample_name(number, note)[5:], picture, note)
