"""How long each piece of a study's work takes on a data-centre card, as measured and kept in `benchmarks/results`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from search.record.finalists import FRESH
from search.study.settings import ScoreSection

RESULTS = Path(__file__).parent / "results"
SOURCES = {
    "SD1.5, H200": ("sd15", "train-sd15-h200.json", 20.0),
    "SD1.5, H100": ("sd15", "train-sd15-h100.json", 20.0),
    "SDXL, H100": ("sdxl", "train-sdxl-h100.json", 40.0),
}
"""Base and card to its name in `look-h200.json`, its step times, and the seconds that a process takes to begin. The
latter are assumed: nobody has measured them at full size with real weights (on an H200 the weights of SD1.5 alone took
7 s to make, `study-h200.json`). Looks were only measured on an H200, also where steps are an H100's."""
LOOKS = "look-h200.json"


@dataclass(frozen=True)
class Times:
    """Seconds on one card.

    Attributes:
        steps: width of a pack to its step, one sample for each of its runs.
        plain: a step of one run under diffusers and peft.
        image: one image of a checkpoint, drawn, decoded and encoded.
        loss: one photo's loss at one noise level.
        load: from a process's start to its first step.
        images, losses: of a look at a checkpoint; Onset alone measures losses.
        fresh: images of a finalist's look.
    """

    steps: Mapping[int, float]
    plain: float
    image: float
    loss: float
    load: float
    images: int
    losses: int
    fresh: int

    def step(self, width: int) -> float:
        """A step of a pack, between two measured widths on the line that joins them."""
        if width in self.steps:
            return self.steps[width]
        below = max((known for known in self.steps if known < width), default=None)
        above = min((known for known in self.steps if known > width), default=None)
        if below is None or above is None:
            raise ValueError(f"a pack of {width} was not measured")
        share = (width - below) / (above - below)
        return self.steps[below] + share * (self.steps[above] - self.steps[below])

    @property
    def drawn(self) -> float:
        """A look at a checkpoint with its images."""
        return self.images * self.image

    @property
    def looked(self) -> float:
        """The same with losses."""
        return self.drawn + self.losses * self.loss

    def with_load(self, seconds: float) -> Times:
        """Had a process taken as long to begin."""
        return replace(self, load=seconds)


def times_of(name: str) -> Times:
    """One of `SOURCES`."""
    family, file, load = SOURCES[name]
    trained, looked = _read(file), _read(LOOKS)
    images, losses = look_sizes()
    own = looked[family]
    return Times(
        steps={
            pack["K"]: pack["K"] / pack["samples per second"]
            for pack in trained["packs"]
            if not pack["checkpointing"] and "samples per second" in pack
        },
        plain=1 / trained["peft alone"]["samples per second"],
        image=own["draw"] + own["decode"] + looked["encode, ViT-L-14"],
        loss=own["loss"],
        load=load,
        images=images,
        losses=losses,
        fresh=FRESH * images,
    )


def look_sizes() -> tuple[int, int]:
    """Images and losses of a look at a checkpoint, as a study file that says nothing of them has them."""
    score = ScoreSection()
    probe, losses, shifted = score.probe, score.losses, score.shifted
    images = probe.seeds * (probe.trained + min(probe.heldout, score.holdout) + len(probe.contexts))
    held_out = score.holdout * losses.levels * losses.draws
    return images, held_out + shifted.composites * shifted.levels * shifted.draws


def _read(file: str) -> Any:
    return json.loads((RESULTS / file).read_text(encoding="utf-8"))
