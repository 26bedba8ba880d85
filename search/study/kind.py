"""What makes a study one of another kind than a search: a section of its own.

Each other kind has a module here. Its section says what may stand beside it and what the study trains or looks at; what
comes of that is the study's `kind`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from search.record.final_run import FinalRun
from search.record.finished_run import FinishedRun
from search.record.handed_on import HandedOn
from search.study.input_digests import PhotoMark
from search.study.settings import BudgetSection, SamplerSection, ScoreSection, Section, StopSection
from search.study.space import Space
from search.study.study_file import StudyFile


@dataclass(frozen=True)
class Kind:
    """What a study is, beyond its settings. This one searches; the others say what differs."""

    @property
    def meaning(self) -> dict[str, Any]:
        """What of it may not change while the study goes on: section to what it says."""
        return {}

    @property
    def trial_is_settings(self) -> bool:
        """Whether a trial's parameters are fields of a training file."""
        return True

    @property
    def finished_run(self) -> FinishedRun | None:
        """What is looked at instead of trained, as a trial's record keeps it."""
        return None

    @property
    def held_out(self) -> tuple[str, ...]:
        """The photos that the finished run was not trained on, as `PhotoMark.file` has them."""
        return ()

    @property
    def final(self) -> FinalRun | None:
        """The run that ships, as a trial's record keeps it."""
        return None


SEARCH = Kind()


@dataclass(frozen=True)
class Draft:
    """A study while its file is read.

    Attributes:
        file: the study file.
        train: fixed TrainConfig fields.
        space: what is searched.
        handed_on: what the study under `from` has found.
        assumed: TrainConfig fields that are not known before the photos and files were looked at, and what stands for
            them until then.
        kind: what the study is.
        notices: what the user should know before it runs, one line each.
    """

    file: StudyFile
    train: Mapping[str, Any]
    space: Space
    score: ScoreSection
    budget: BudgetSection
    sampler: SamplerSection
    stop: StopSection
    handed_on: HandedOn | None = None
    assumed: Mapping[str, Any] = field(default_factory=dict)
    kind: Kind = SEARCH
    notices: tuple[str, ...] = ()


class KindSection(Section):
    """A section that makes a study one of its kind."""

    key: ClassVar[str]
    """Its name in a study file."""
    about: ClassVar[str]
    """What it is, in one sentence, for the reference and for editors."""
    takes: ClassVar[bool] = False
    """Whether it takes something from the study under `from`."""
    may_be_empty: ClassVar[bool] = False
    """Whether the key alone, with nothing behind it, asks for such a study."""

    @classmethod
    def misplaced(cls, file: StudyFile, others: Sequence[str]) -> list[str]:
        """What a study file says beside this section that has no place there, one line each.

        Args:
            others: further sections there that would each make a study of a kind of its own.
        """
        raise NotImplementedError

    def planned(self, draft: Draft) -> Draft:
        """The study with what this kind changes, as far as that is known before its photos were looked at.

        Raises:
            StudyError: it says what does not go together, one line each.
        """
        raise NotImplementedError

    def with_photos(self, draft: Draft, photos: Sequence[PhotoMark]) -> Draft:
        """The same once its photos were looked at, regularisation images among them; raises as `planned` does."""
        return draft


ONE_TRIAL = BudgetSection(trials=1)
NEVER_STOPPED = StopSection(onset=False, prune=False)
