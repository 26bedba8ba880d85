"""A run that another trainer has finished, as a trial's record knows it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Literal

Unit = Literal["epoch", "step"]


@dataclass(frozen=True)
class FinishedRun:
    """What was looked at instead of trained.

    Attributes:
        files: count to the path of its LoRA file, in rising order; the last one is where the run ended.
        unit: what the counts are: epochs, or steps where nobody says how many steps an epoch had.
        settings: what the files say of the training, in words: "rank 16, alpha 8".
        held_out: how many of the photos the run was not trained on.
    """

    files: Mapping[int, str] = field(default_factory=dict)
    unit: Unit = "epoch"
    settings: str = ""
    held_out: int = 0

    @property
    def counts(self) -> tuple[int, ...]:
        """The epochs (or steps) of its checkpoints, rising."""
        return tuple(sorted(self.files))

    @property
    def is_one_file(self) -> bool:
        """Whether it is no run but one LoRA, which trials look at under block weights of their own."""
        return len(self.files) == 1


def short_name(file: str) -> str:
    """A LoRA file's name, with that of its folder where that says which checkpoint it is."""
    path = PurePath(file)
    return f"{path.parent.name}/{path.name}" if any(c.isdigit() for c in path.parent.name) else path.name
