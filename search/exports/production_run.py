"""A production run as other trainers are told it, and what an export for one of them is."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.errors import SearchError
from search.exports.photos import by_folder, caption_file
from search.exports.ship_epoch import Ending
from search.verdict.settings_sentences import leave_epochs
from trainer.config.rules import FLAT_SCHEDULERS

if TYPE_CHECKING:
    from trainer.config.config import TrainConfig
    from trainer.data.dataset import Dataset, Photo
    from trainer.families.prediction import BaseTraits


@dataclass(frozen=True)
class ProductionRun:
    """What is to be trained.

    Attributes:
        config: with its full horizon.
        dataset: the photos.
        traits: of the base.
        name: of the LoRA.
        ending: the epoch to ship, where training ends, and steps per epoch.
        about: where it comes from and whether to ship it, for the head of files that can say so.
        batches: of a pass over the photos.
    """

    config: "TrainConfig"
    dataset: "Dataset"
    traits: "BaseTraits"
    name: str
    ending: Ending
    about: str = ""
    batches: int = 0

    @property
    def about_training(self) -> str:
        """The same for files that train as ours does: with why `epochs` stays as it is, where the schedule needs it."""
        flat = self.config.lr_scheduler in FLAT_SCHEDULERS
        return self.about if flat else f"{self.about}\n{leave_epochs(self.config.epochs, None)}"

    def steps(self, epoch: int) -> int:
        """Optimizer steps of so many epochs."""
        return epoch * self.ending.steps_per_epoch

    @property
    def passes(self) -> int:
        """Passes over the photos that training takes, the last one perhaps in part."""
        each = self.ending.steps_per_pass
        return -(-self.steps(self.last_epoch) // each) if each else self.last_epoch

    @property
    def ends_within_a_pass(self) -> bool:
        """Whether the last pass is not whole."""
        return self.ending.steps_per_pass > 0 and self.steps(self.last_epoch) % self.ending.steps_per_pass != 0

    @property
    def last_epoch(self) -> int:
        """The epoch at which training ends."""
        return self.ending.last_epoch(self.config)

    def to_the_horizon(self) -> "ProductionRun":
        """The same run for a trainer whose schedules end with its training."""
        return replace(self, ending=self.ending.to_the_horizon(self.config))


@dataclass(frozen=True)
class TextFile:
    """A file to write, and what it is or how to begin with it."""

    path: Path
    text: str
    what: str


@dataclass(frozen=True)
class Translated:
    """A run in the files of another trainer, none where it cannot train it, and one line for each thing that it does
    otherwise or does not have."""

    files: tuple[TextFile, ...]
    notices: tuple[str, ...]


@dataclass(frozen=True)
class ForTrainer:
    """An export for another trainer.

    Attributes:
        files: text by file name.
        command: how to begin.
        notices: what that trainer does otherwise or does not have, one line each.
    """

    files: Mapping[str, str]
    command: str
    notices: tuple[str, ...]


@dataclass(frozen=True)
class Shelf:
    """A folder of photos as other trainers see it.

    Attributes:
        folder: where it is.
        photos: those in it.
        repeats: of each photo in an epoch.
        is_reg: whether these are regularisation images.
        words: the caption of photos without a caption file.
        ending: the one of their caption files, such as ".txt"; "" where there is none.
        mixed: whether some have a caption file and others none, or files of two endings.
        longer: whether a caption file has words behind its first line, which is our caption.
    """

    folder: Path
    photos: "tuple[Photo, ...]"
    repeats: int
    is_reg: bool
    words: str
    ending: str
    mixed: bool
    longer: bool


def shelves(dataset: "Dataset") -> list[Shelf]:
    """The folders of a set, in its order."""
    found = []
    for photos in by_folder(dataset):
        endings = [file.suffix if (file := caption_file(photo)) else "" for photo in photos]
        usual = max(sorted(set(endings)), key=endings.count)
        words = " ".join(word for word in (photos[0].trigger, photos[0].class_word) if word)
        first = photos[0]
        found.append(
            Shelf(
                first.path.parent.resolve(),
                tuple(photos),
                first.repeats,
                first.is_reg,
                words,
                usual,
                len(set(endings)) > 1,
                any(map(_longer, photos)),
            )
        )
    return found


def several_lines(tool: str, shelf: Shelf, what: str) -> list[str]:
    """A line where captions of the shelf have several lines.

    Args:
        what: the tool makes of them.
    """
    said = (
        f"{shelf.folder.name}: captions of several lines: {tool} {what}; ours is the first; --prepare-photos writes it"
    )
    return [said] if shelf.longer else []


def _longer(photo: "Photo") -> bool:
    file = caption_file(photo)
    return file is not None and len(file.read_bytes().split()) > len(photo.caption.split())


def without(tool: str, config: "TrainConfig", keys: Mapping[str, str]) -> list[str]:
    """A line for each of these settings that is not as it is when left out: the tool does not have it.

    Args:
        keys: setting → what happens there.
    """
    fields = type(config).model_fields
    return [
        f"{key}: {_short(getattr(config, key))}: {tool} {what}"
        for key, what in keys.items()
        if getattr(config, key) != fields[key].default
    ]


def renamed_arguments(tool: str, config: "TrainConfig", names: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    """`optimizer_args` under the tool's names, and a line for each that it does not take.

    Args:
        names: ours → theirs.
    """
    taken = {names[key]: value for key, value in config.optimizer_args.items() if key in names}
    left = [key for key in config.optimizer_args if key not in names]
    return taken, [f"optimizer_args: {key}: {tool}'s {config.optimizer} does not take it; left out" for key in left]


def refuse(tool: str, key: str, value: object, why: str) -> SearchError:
    """The error for a run that the tool cannot train."""
    return SearchError(f"{key}: {_short(value)}: {tool} {why}")


def _short(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value).lower() if isinstance(value, bool) else str(value)
