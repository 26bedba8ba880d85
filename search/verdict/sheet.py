"""A trial at a glance: its probe images laid out with epochs across and prompts down."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from trainer.inference.picture_grid import Column, picture_grid

if TYPE_CHECKING:
    from PIL import Image

SHIP, ONSET, BAND = (18, 128, 92), (204, 84, 30), (253, 240, 230)
SHIP_PAPER = (226, 245, 238)

SET_NAMES = {"A": "caption of a training photo", "B": "caption of a held-out photo", "C": "new context"}
"""What a prompt's set is called wherever its images are shown."""
RANGE_WORDS, SAFE_WORDS, ALIKE_WORDS = "onset range", "safe", "most alike"


@dataclass(frozen=True)
class Marks:
    """What a sheet points out.

    Attributes:
        shipped: the epoch to ship, or None.
        onset: the epoch where overfitting begins, or None.
        low, high: the onset's interval in epochs; `low` is None when there is none, `high` also when it is open.
        onset_name: which onset it is, in a word or two ("context onset").
        shipped_name: what to call the epoch to ship.
        unit: what epochs are counted in, "epoch" or "step".
        safe, alike: the safe and the most alike epoch, or None.
    """

    shipped: int | None = None
    onset: float | None = None
    low: float | None = None
    high: float | None = None
    onset_name: str = "onset"
    shipped_name: str = "ship this"
    unit: str = "epoch"
    safe: int | None = None
    alike: int | None = None

    @property
    def epochs(self) -> tuple[float | None, ...]:
        """All that are pointed out."""
        return self.shipped, self.onset, self.safe, self.alike

    def inside(self, epoch: int) -> bool:
        """Whether a trained epoch lies in the onset's interval."""
        return self.low is not None and epoch > 0 and self.low <= epoch <= (epoch if self.high is None else self.high)

    def label(self, epoch: int, epochs: Sequence[int]) -> str:
        """What stands above an epoch's images among those of `epochs`; the onset's range is named once."""
        turn = self.nearest(epochs)
        if epoch == self.shipped:
            return self.shipped_name
        if epoch == turn:
            return self.onset_name
        if epoch in (self.safe, self.alike):
            return SAFE_WORDS if epoch == self.safe else ALIKE_WORDS
        unnamed = [
            each
            for each in sorted(epochs)
            if self.inside(each) and each not in (self.shipped, turn, self.safe, self.alike)
        ]
        return RANGE_WORDS if epoch in unnamed[:1] else ""

    def nearest(self, epochs: Sequence[int]) -> int | None:
        """The one of `epochs` nearest to the onset; None without one."""
        onset = self.onset
        trained = [epoch for epoch in epochs if epoch > 0]
        return None if onset is None or not trained else min(trained, key=lambda epoch: abs(epoch - onset))


def contact_sheet(
    images: Mapping[int, Sequence[np.ndarray]],
    captions: Sequence[str],
    *,
    kinds: Sequence[str] = (),
    title: str = "",
    subtitle: str = "",
    marks: Marks | None = None,
    cell: int = 128,
) -> "Image.Image":
    """Lays images out with epochs across and prompts down.

    Args:
        images: epoch to that checkpoint's images, uint8 `[H, W, 3]`, one per row, in the order of `captions`.
        captions: the prompt of each row; equal neighbours share one caption.
        kinds: what each row is, under its caption ("new context"); empty: nothing is said.
        title: one line above the grid.
        subtitle: a smaller line under the title.
        marks: the epochs to point out.
        cell: width of one image on the sheet, in pixels; heights keep the first image's aspect.

    Raises:
        ValueError: no images, or a checkpoint with another number of images than captions.
    """
    if not images or not captions:
        raise ValueError("a contact sheet needs at least one checkpoint and one prompt")
    for epoch, row in images.items():
        if len(row) != len(captions):
            raise ValueError(f"epoch {epoch} has {len(row)} images for {len(captions)} prompts")
    epochs = sorted(images)
    columns = [_column(epoch, epochs, marks or Marks()) for epoch in epochs]
    drawn = [images[epoch] for epoch in epochs]
    return picture_grid(drawn, columns, captions, kinds=kinds, title=title, subtitle=subtitle, cell=cell)


def choose_epochs(epochs: Sequence[int], most: int, keep: Sequence[float | int | None] = ()) -> list[int]:
    """At most `most` epochs: the first, the last, the nearest to each of `keep`, those around, others evenly."""
    epochs = sorted(epochs)
    if len(epochs) <= most:
        return epochs
    wanted = {epochs[0], epochs[-1]}
    near = [min(range(len(epochs)), key=lambda place: abs(epochs[place] - k)) for k in keep if k is not None]
    wanted |= {epochs[place] for place in near}
    around = sorted(range(len(epochs)), key=lambda place: min((abs(place - n) for n in near), default=0))
    for place in around if near else ():
        if len(wanted) >= most * 3 // 4:
            break
        wanted.add(epochs[place])
    for fraction in np.linspace(0, 1, most):
        if len(wanted) >= most:
            break
        wanted.add(epochs[round(fraction * (len(epochs) - 1))])
    return sorted(wanted)


def _column(epoch: int, epochs: Sequence[int], marks: Marks) -> Column:
    label, turn = marks.label(epoch, epochs), marks.nearest(epochs)
    shipped = epoch == marks.shipped
    sign = "▲ " if shipped else "● " if epoch == turn else ""
    return Column(
        name="base" if epoch == 0 else f"{marks.unit} {epoch}",
        label=sign + label if label else "",
        ink=SHIP if shipped or label in (SAFE_WORDS, ALIKE_WORDS) else ONSET,
        bold=shipped or epoch == turn,
        paper=SHIP_PAPER if shipped else BAND if epoch == turn or marks.inside(epoch) else None,
    )
