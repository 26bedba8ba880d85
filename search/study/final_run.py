"""The section `final` of a study file: the run that ships, on all photos, some way past the epoch that was found."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Any, ClassVar

from pydantic import Field

from search.errors import StudyError, problem
from search.record.final_run import FinalRun
from search.record.handed_on import HandedOn
from search.study.kind import NEVER_STOPPED, ONE_TRIAL, Draft, Kind, KindSection
from search.study.study_file import StudyFile
from trainer.config.config import TrainConfig
from trainer.errors import known_key

_TO_SEARCH = ("search", "sampler", "budget", "stop")
_ONE_TRAINING = "nothing, because a final run is one training (final)"


class FinalSection(KindSection):
    """The run that ships: trained on all photos, beside a twin without those held out."""

    key: ClassVar[str] = "final"
    about: ClassVar[str] = "The run that ships, on all photos, some way past the epoch that was found ([how](flow.md))."
    takes: ClassVar[bool] = True

    epoch: int | None = Field(default=None, ge=1, le=100_000)
    """The epoch to ship, as it was found. None takes that of the study under `from`."""
    past: float = Field(default=1.25, ge=1, le=10)
    """How far to train: this times that epoch, up to whole cycles of cosine_with_restarts."""
    take: list[str] = Field(default=[], max_length=100)
    """Fields of a training file that have the values of the study under `from`, such as [learning_rate, rank]."""

    @classmethod
    def misplaced(cls, file: StudyFile, others: Sequence[str]) -> list[str]:
        """Another kind of study."""
        return [problem(file, key, file.values[key], _ONE_TRAINING) for key in others]

    def planned(self, draft: Draft) -> Draft:
        """One trial, which no onset ends, some way past the epoch that was found.

        Raises:
            StudyError: it says what holds only for a search, or no epoch is known: one line each.
        """
        file, train, handed_on = draft.file, draft.train, draft.handed_on
        problems = [
            problem(file, key, file.values[key], _ONE_TRAINING)
            for key in _TO_SEARCH
            if file.values.get(key) is not None
        ]
        if "epochs" in train:
            why = "nothing, because final.past says how far to train"
            problems.append(problem(file, "train.epochs", train["epochs"], why))
        if not draft.score.holdout and not draft.score.holdout_contexts:
            expected = "photos to hold out of the twin, whose losses on them show where overfitting begins"
            problems.append(problem(file, "score.holdout", draft.score.holdout, expected))
        epoch = self.epoch or (None if handed_on is None else handed_on.epoch)
        if epoch is None:
            problems.append(problem(file, "final.epoch", None, "the epoch that was found, or a study under `from`"))
        problems += _other_epochs(file, None if self.epoch is not None else handed_on, train)
        taken = _taken(file, self.take, train, handed_on, problems)
        if problems:
            raise StudyError(problems)
        assert epoch is not None
        whole = {**train, **taken}
        epochs = _epochs(epoch * self.past, whole)
        found = "" if self.epoch is not None or handed_on is None else f", from {handed_on.study}: epoch {epoch}"
        cycles = " in whole cycles" if _cycle(whole) > 1 else ""
        notes = [f"epochs: {epochs}{found or f': epoch {epoch}'} × {self.past:g}{cycles}"]
        if taken:
            said = ", ".join(f"{name} {value}" for name, value in taken.items())
            notes.append(f"from {handed_on.study if handed_on else ''}: {said}")
        if handed_on is not None and handed_on.to_come:
            notes = []
        study = "" if handed_on is None or self.epoch is not None else handed_on.study
        return replace(
            draft,
            train={**whole, "epochs": epochs},
            budget=ONE_TRIAL,
            stop=NEVER_STOPPED,
            kind=Final(FinalRun(epoch, study)),
            notices=(*draft.notices, *notes),
        )


@dataclass(frozen=True)
class Final(Kind):
    """The run that ships; `run`: as a trial's record keeps it."""

    run: FinalRun

    @property
    def meaning(self) -> dict[str, Any]:
        """The epoch to ship, as it was found."""
        return {FinalSection.key: {"epoch": self.run.epoch}}

    @property
    def final(self) -> FinalRun:
        """The run."""
        return self.run


def _other_epochs(file: StudyFile, handed_on: HandedOn | None, train: Mapping[str, Any]) -> list[str]:
    """Where the epoch that is handed on is one of another length."""
    if handed_on is None or handed_on.to_come:
        return []
    there = None if handed_on.config is None else handed_on.config.steps_per_epoch  # a finished run counts passes
    if train.get("steps_per_epoch") == there:
        return []
    expected = f"{there or 'nothing'}, as in {handed_on.study}, whose epoch {handed_on.epoch} is taken"
    return [problem(file, "train.steps_per_epoch", train.get("steps_per_epoch"), expected)]


def _epochs(least: float, train: Mapping[str, Any]) -> int:
    cycle = _cycle(train)
    return ceil(ceil(round(least, 6)) / cycle) * cycle


def _cycle(train: Mapping[str, Any]) -> int:
    """Epochs of which the training has a whole number."""
    if train.get("lr_scheduler") != "cosine_with_restarts":
        return 1
    length = train.get("cycle_epochs") or train.get("num_cycles") or 1
    return length if isinstance(length, int) and length > 0 else 1


def _taken(
    file: StudyFile,
    names: Sequence[str],
    train: Mapping[str, Any],
    handed_on: HandedOn | None,
    problems: list[str],
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    own = ("base", "data", "reg_data", "seed", "epochs", "steps_per_epoch", "save_every_n_epochs")
    known = [name for name in TrainConfig.model_fields if name not in own]
    for place, name in enumerate(names):
        key = f"final.take[{place}]"
        if name not in known:
            problems.append(problem(file, key, name, known_key(name, known)))
        elif name in train:
            problems.append(problem(file, f"train.{name}", train[name], "nothing, because final.take names it"))
        elif handed_on is None or (handed_on.config is None and not handed_on.to_come):
            problems.append(problem(file, key, name, "a study under `from` that has trained"))
        elif handed_on.config is not None:
            value = getattr(handed_on.config, name)
            if value != TrainConfig.model_fields[name].get_default(call_default_factory=True):
                found[name] = list(value) if isinstance(value, tuple) else value
    return found
