"""What a study has to know of its trials before it asks for another one, kept up to date trial by trial."""

from collections import Counter
from collections.abc import Set
from typing import NamedTuple

from optuna.trial import FrozenTrial, TrialState

from search.tuning.pruner import OWNER
from search.tuning.untried import key_of

SLOT, STARTED_WITH = "slot", "started_with"
"""User attributes of a trial that was placed: its slot, and the values that it was given because the study starts with
them."""


class Tried(NamedTuple):
    """How many trials a study has placed, and how many different configurations are among them."""

    trials: int
    configurations: int


class Tally:
    """Counts the trials of an Optuna study.

    Args:
        study: the name of the one that places them.

    Attributes:
        ended: numbers of those that the sampler learns from, others' among them.
        waiting: numbers of those that somebody queued.
        given: what trials were given because the study starts with it, as `key_of` has it.
    """

    def __init__(self, study: str) -> None:
        self._study = study
        self.ended: set[int] = set()
        self.waiting: set[int] = set()
        self.given: set[str] = set()
        self._keys: dict[int, str] = {}
        self._times: Counter[str] = Counter()

    def see(self, trial: FrozenTrial) -> None:
        """Take in a trial that is new or has changed."""
        number = trial.number
        if trial.state in (TrialState.COMPLETE, TrialState.PRUNED):
            self.ended.add(number)
        if trial.state == TrialState.WAITING:
            self.waiting.add(number)
            return
        self.waiting.discard(number)
        if not placed_here(trial, self._study):
            return
        if STARTED_WITH in trial.user_attrs:
            self.given.add(trial.user_attrs[STARTED_WITH])
        key, before = key_of(trial.params), self._keys.get(number)
        if key != before:
            self._keys[number] = key
            self._times[key] += 1
            if before is not None:
                self._times[before] -= 1
                if not self._times[before]:
                    del self._times[before]

    @property
    def tried(self) -> Tried:
        """What was placed here."""
        return Tried(len(self._keys), len(self._times))

    @property
    def configurations(self) -> Set[str]:
        """`key_of` the values of each trial that was placed here."""
        return self._times.keys()


def placed_here(trial: FrozenTrial, study: str) -> bool:
    """Whether a trial was placed by this study's coordinator; one copied from another brings that one's attributes."""
    return SLOT in trial.user_attrs and trial.user_attrs.get(OWNER, study) == study
