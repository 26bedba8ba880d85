"""The finalists of a study: its best trials, drawn again before the verdict, with seeds and prompts that the search
never used."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from metrics.trajectory.readings import Readings
from search.record.events import load_readings, save_readings
from search.record.json_files import read_if_whole, write_json
from search.record.record import StudyFolder

FINALISTS_FILE, FINALISTS_SHEET, LOOKS_FOLDER = "finalists.json", "finalists.png", "finalists"
BY_TWINS_FILE = f"{LOOKS_FOLDER}/by_twins.json"
STRENGTHS_SHEET = "strengths.png"
_DRAWS = "score_draws"


@dataclass(frozen=True)
class Finalist:
    """A trial that was drawn again.

    Attributes:
        trial, epoch: its number, and its epoch to ship.
        searched: its score in the search.
        score: on the fresh images; low, high: its 90 % interval. Where it was trained a second time: the mean of both.
        trainings: the scores of the first and the second training, where there are two.
        best: share of the resamples of the fresh prompts in which no other finalist that may win scores more; 0 of one
            that has learned too little.
        behind: share of the resamples in which it scores less than the first finalist.
        own: the score as we make it on the fresh images, where an objective makes `score`.
        learned: by how much its loss of held-out photos has fallen there, ln of the ratio to the base's; None where it
            was not read, or an objective makes the score.
    """

    trial: int
    epoch: int
    searched: float
    score: float
    low: float
    high: float
    best: float
    behind: float = 0.0
    own: float | None = None
    trainings: tuple[float, ...] = ()
    learned: float | None = None

    @property
    def sentence(self) -> str:
        """For a person."""
        return (
            f"On fresh seeds and prompts it scores {self.score:.3f} (90 % interval {self.low:.3f} to {self.high:.3f}); "
            f"in the search it was {self.searched:.3f}."
        )

    @property
    def as_good(self) -> bool:
        """Whether the fresh images do not show that it is worse than the first one."""
        return self.behind < SURE

    def surely_above(self, first: "Finalist") -> bool:
        """Whether they show that it is better, which can be where `first` ships at another epoch by its twins."""
        return self.score > first.score and self.behind <= 1 - SURE


FRESH = 2
"""Times as many images of a finalist as of a checkpoint, at most; unless the study file says otherwise."""
SURE = 0.95
"""Share of the resamples from which on one trial is surely better than another."""
LEAST_LEARNED = 0.5
"""Of what the most learned finalist has learned: with less than this share of it no finalist wins, whatever its images
score. Suggested by one search of the demo's world, not tuned (docs/log.md, *learned-little*)."""


def learned_little(learned: Mapping[int, float | None]) -> set[int]:
    """Those whose loss of held-out photos has fallen by less than `LEAST_LEARNED` of what another's has.

    >>> sorted(learned_little({0: 0.42, 1: 0.29, 5: 0.12, 7: None}))
    [5]
    """
    known = {number: fallen for number, fallen in learned.items() if fallen is not None}
    most = max(known.values(), default=0.0)
    return {number for number, fallen in known.items() if most > 0 and fallen < LEAST_LEARNED * most}


@dataclass(frozen=True)
class Finalists:
    """What was found.

    Attributes:
        settings: those of the section `finalists` that it was drawn under.
        drawn: the best first, those that have learned too little last; before all the winner, where that ships at
            another epoch by its twins.
        left_out: number of a trial to why it could not be drawn again.
        not_retrained: the same of a second training.
        images: of each finalist. prompts: of these images; repeated: how many of them the search used, too.
        base: the score of the base without a LoRA.
        seconds: that drawing, scoring and second trainings took the workers.
    """

    settings: Mapping[str, Any]
    drawn: tuple[Finalist, ...]
    left_out: Mapping[int, str] = field(default_factory=dict)
    not_retrained: Mapping[int, str] = field(default_factory=dict)
    images: int = 0
    prompts: int = 0
    repeated: int = 0
    base: float | None = None
    seconds: float = 0.0

    @property
    def retrained(self) -> bool:
        """Whether any of them was trained a second time."""
        return any(one.trainings for one in self.drawn)

    @property
    def numbers(self) -> set[int]:
        """The trials that were to be drawn again."""
        return {one.trial for one in self.drawn} | {int(number) for number in self.left_out}

    @property
    def learned_little(self) -> set[int]:
        """The trials that do not win, since they have learned less than `LEAST_LEARNED` of what another has."""
        return learned_little({one.trial: one.learned for one in self.drawn})

    def of(self, trial: int | None) -> Finalist | None:
        """A trial's; None where it was not drawn again."""
        return next((one for one in self.drawn if one.trial == trial), None)

    def save(self, folder: StudyFolder, *, by_twins: bool = False) -> None:
        """Write `finalists.json` into the study's folder. `by_twins`: beside it, with the winner as it was drawn at the
        epoch that ships by its twins."""
        write_json(folder.path / (BY_TWINS_FILE if by_twins else FINALISTS_FILE), asdict(self))

    @classmethod
    def load(cls, folder: StudyFolder, *, by_twins: bool = False) -> "Finalists | None":
        """None where none was drawn again, or the file is damaged."""
        return read_if_whole(cls, folder.path / (BY_TWINS_FILE if by_twins else FINALISTS_FILE))


@dataclass(frozen=True)
class StrengthsShown:
    """What `strengths.png` shows: the checkpoint that ships, and a digest of how it was drawn."""

    trial: int
    epoch: int
    asked: str

    @staticmethod
    def file(folder: StudyFolder) -> Path:
        """Where it lies."""
        return folder.path / LOOKS_FOLDER / "strengths.json"

    def save(self, folder: StudyFolder) -> None:
        """Write it whole or not at all."""
        write_json(self.file(folder), asdict(self))

    @classmethod
    def load(cls, folder: StudyFolder) -> "StrengthsShown | None":
        """None where none was drawn, or the file is damaged."""
        return read_if_whole(cls, cls.file(folder))


@dataclass(frozen=True)
class FreshLook:
    """What was read of one checkpoint's fresh images, or of the base's, as it lies in the study's folder.

    Attributes:
        asked: digest of what was drawn: prompts, seeds and how.
        draws: `[resamples]` scores with other prompts (`metrics.checkpoint.score_spread`).
        images, prompts, repeated: how many, as in `Finalists`.
        seconds: that it took, with a second training.
    """

    asked: str
    readings: Readings
    draws: np.ndarray
    images: int
    prompts: int
    repeated: int
    seconds: float

    @staticmethod
    def file(folder: StudyFolder, trial: int | None, epoch: int, *, retrained: bool = False) -> Path:
        """Where it lies; the base's for no trial. `retrained`: of the trial's second training."""
        home = folder.path / LOOKS_FOLDER / ("base" if trial is None else f"{trial:04d}")
        return (home / "retrained" if retrained else home) / f"{epoch:04d}.npz"

    @classmethod
    def picture(cls, folder: StudyFolder, trial: int | None, epoch: int, *, retrained: bool = False) -> Path:
        """The images: prompts down, seeds across, no gaps."""
        return cls.file(folder, trial, epoch, retrained=retrained).with_suffix(".png")

    def save(self, path: Path) -> None:
        """Write it whole or not at all."""
        readings = self.readings
        items = {**readings.items, _DRAWS: self.draws}
        kept = Readings(readings.epoch, readings.effort, readings.channels, items, readings.score)
        about = {name: getattr(self, name) for name in ("asked", "images", "prompts", "repeated", "seconds")}
        save_readings(path, kept, about)

    @classmethod
    def load(cls, path: Path) -> "FreshLook | None":
        """None where it is not there, or damaged."""
        try:
            readings, about = load_readings(path)
            return cls(readings=readings, draws=readings.items[_DRAWS], **about)
        except Exception:  # zip, numpy and JSON each raise kinds of their own
            return None
