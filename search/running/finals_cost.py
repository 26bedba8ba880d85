"""What the finals of a study cost, by what a training and a look at a checkpoint take."""

from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING

from metrics.onset.sentences import listed
from search.record.finalists import FRESH
from search.record.twins import trainings

if TYPE_CHECKING:
    from search.study.study import Study


@dataclass(frozen=True)
class FinalsCost:
    """What is drawn and trained after the search.

    Attributes:
        looks: at the base, the finalists, the winner where twins move its epoch, and what ships at other strengths.
        retrained: second trainings, each with a look of its own: of the finalists, and of the winner where twins move
            its epoch.
        twins: of the winner.
    """

    looks: int = 0
    retrained: int = 0
    twins: int = 0

    @classmethod
    def of(cls, study: "Study") -> "FinalsCost":
        """The most that this study may come to."""
        again = min(study.num_finalists, study.trials)
        again += bool(again and study.num_twins)
        strengths = bool(study.finalists.strengths or study.transfer_bases)
        return cls(
            looks=1 + again + strengths if again else 0,
            retrained=again if study.finalists.retrain else 0,
            twins=study.num_twins,
        )

    def seconds(self, train: float, images: float, readings: float, *, workers: int, twin_losses: float = 0.0) -> float:
        """On the clock of so many workers. `train`: a worker's seconds for one training; `images`, `readings`: for a
        checkpoint's; `twin_losses`: for the losses of all twins at all checkpoints."""
        look = FRESH * images + readings
        spent = ceil(self.retrained / workers) * (train + look)
        if self.twins:  # after these, as equal parts of what they take together
            spent += ceil(self.twins / workers) / self.twins * (trainings(self.twins) * train + twin_losses)
        return spent + self.looks * look / min(workers, max(1, self.looks))

    def __str__(self) -> str:
        said = ["draw the finalists again"] if self.looks else []
        said += ["train them again"] if self.retrained else []
        said += [f"train {self.twins} twins of the winner"] if self.twins else []
        return listed(said)


NO_FINALS = FinalsCost()
