"""A study's trials as Optuna reads them, in memory: what is asked of them costs no query, whatever their number.

`Mirror` stands in front of the database that its one writer writes to, and `Draft` is a copy to try a draw on.
"""

import copy
import json
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any, TypeVar

from optuna.distributions import BaseDistribution, distribution_to_json, json_to_distribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage, RDBStorage
from optuna.study import StudyDirection
from optuna.study._frozen import FrozenStudy
from optuna.trial import FrozenTrial, TrialState

from search.tuning.optuna_storage import amend
from search.tuning.patience import Patience

T = TypeVar("T")


class TrialsInMemory(BaseStorage):
    """Trials by number. A change makes a new trial of it, so that a list once given stays as it was."""

    def __init__(self, trials: Sequence[FrozenTrial] = ()) -> None:
        self._trials = list(trials)
        self._places = {trial._trial_id: place for place, trial in enumerate(self._trials)}

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        found = list(self._trials) if states is None else [trial for trial in self._trials if trial.state in states]
        return copy.deepcopy(found) if deepcopy else found

    def get_trial(self, trial_id: int) -> FrozenTrial:
        trial = self._trials[self._places[trial_id]]
        if trial.state.is_finished():
            return trial
        taken = copy.copy(trial)  # an Optuna trial writes into the one that it was given
        for name in ("params", "distributions", "user_attrs", "system_attrs", "intermediate_values"):
            setattr(taken, name, dict(getattr(trial, name)))
        return taken

    def get_trial_id_from_study_id_trial_number(self, study_id: int, trial_number: int) -> int:
        if not 0 <= trial_number < len(self._trials):
            raise KeyError(f"no trial {trial_number}")
        return self._trials[trial_number]._trial_id

    def get_n_trials(self, study_id: int, state: tuple[TrialState, ...] | TrialState | None = None) -> int:
        if state is None:
            return len(self._trials)
        return super().get_n_trials(study_id, state)

    def set_trial_param(
        self, trial_id: int, param_name: str, param_value_internal: float, distribution: BaseDistribution
    ) -> None:
        # as a database gives it back: the choices of a categorical are JSON there
        stored = json_to_distribution(distribution_to_json(distribution))
        trial = self.get_trial(trial_id)
        params = {**trial.params, param_name: stored.to_external_repr(param_value_internal)}
        self._change(trial_id, params=params, distributions={**trial.distributions, param_name: stored})

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        self._change(trial_id, state=state, values=None if values is None else list(values))
        return True

    def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> None:
        known = self.get_trial(trial_id).intermediate_values
        self._change(trial_id, intermediate_values={**known, step: float(intermediate_value)})

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        self._change(trial_id, user_attrs={**self.get_trial(trial_id).user_attrs, key: _stored(value)})

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        self._change(trial_id, system_attrs={**self.get_trial(trial_id).system_attrs, key: _stored(value)})

    def _change(self, trial_id: int, **fields: Any) -> None:
        place = self._places[trial_id]
        changed = copy.copy(self._trials[place])
        for name, value in fields.items():
            setattr(changed, name, value)
        self._trials[place] = changed

    def _put(self, trial: FrozenTrial) -> None:
        place = self._places.setdefault(trial._trial_id, len(self._trials))
        if place < len(self._trials):
            self._trials[place] = trial
            return
        self._trials.append(trial)
        if place and trial.number < self._trials[place - 1].number:
            self._trials.sort(key=lambda trial: trial.number)
            self._places = {trial._trial_id: place for place, trial in enumerate(self._trials)}


class Draft(TrialsInMemory):
    """A copy of a study to draw one more trial on; nothing of it reaches a database."""

    def create_new_study(self, directions: Sequence[StudyDirection], study_name: str | None = None) -> int:
        self._directions = list(directions)
        return 0

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        assert template_trial is not None
        trial = copy.deepcopy(template_trial)
        trial.number, trial._trial_id = len(self._trials), max(self._places, default=-1) + 1
        self._put(trial)
        return trial._trial_id

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        return self._directions

    def get_study_name_from_id(self, study_id: int) -> str:
        return "draft"

    def get_study_id_from_name(self, study_name: str) -> int:
        return 0

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        return {}

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        return {}

    def get_all_studies(self) -> list[FrozenStudy]:
        raise NotImplementedError

    def delete_study(self, study_id: int) -> None:
        raise NotImplementedError

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> None:
        raise NotImplementedError

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        """What a sampler keeps of the study beyond a draw is not kept."""


class Mirror(TrialsInMemory):
    """One study's trials, read once and then kept: each write goes to the database first.

    Others may write there, too. What they add or change is read by `look`; that they ended one of ours is found when we
    write to it. Optuna's own cache asks the database for every trial that runs, each time that one is looked at.
    """

    def __init__(self, backend: RDBStorage, patience: Patience | None = None) -> None:
        super().__init__()
        self.backend = backend
        self.patience = patience or Patience(None)
        self._call = self.patience.call
        self._ours: set[int] = set()  # nobody else is expected to write to these
        self._unfinished: set[int] = set()
        self._newest = -1
        self._directions: dict[int, list[StudyDirection]] = {}
        self._names: dict[int, str] = {}

    def look(self, study_id: int) -> list[FrozenTrial]:
        """Read what is new or may have been changed by others; returns these trials."""
        theirs = self._unfinished - self._ours
        changed = self._call(lambda: self.backend._get_trials(study_id, None, theirs, self._newest))
        for trial in changed:
            self._put(trial)
            self._newest = max(self._newest, trial._trial_id)
        return changed

    def keep(self, trial_id: int) -> None:
        """From now on a trial is ours: it is not read again unless somebody turns out to have ended it."""
        self._ours.add(trial_id)

    def reread(self, trial_id: int) -> FrozenTrial:
        """A trial as the database has it."""
        self._put(self._call(lambda: self.backend.get_trial(trial_id)))
        return self.get_trial(trial_id)

    def _put(self, trial: FrozenTrial) -> None:
        super()._put(trial)
        if trial.state.is_finished():
            self._unfinished.discard(trial._trial_id)
            self._ours.discard(trial._trial_id)
        else:
            self._unfinished.add(trial._trial_id)

    def get_trial(self, trial_id: int) -> FrozenTrial:
        if trial_id not in self._places:  # Optuna has just made it
            self._put(self._call(lambda: self.backend.get_trial(trial_id)))
        return super().get_trial(trial_id)

    # --- trials, written through

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        def again() -> int:  # which may be there already
            same = [
                trial._trial_id
                for trial in self.backend._get_trials(study_id, None, set(), self._newest)
                if template_trial is not None
                and (trial.state, trial.user_attrs) == (template_trial.state, template_trial.user_attrs)
            ]
            return same[-1] if same else self.backend.create_new_trial(study_id, template_trial)

        return self._call(lambda: self.backend.create_new_trial(study_id, template_trial), again=again)

    def set_trial_param(
        self, trial_id: int, param_name: str, param_value_internal: float, distribution: BaseDistribution
    ) -> None:
        self._written(
            trial_id, lambda: self.backend.set_trial_param(trial_id, param_name, param_value_internal, distribution)
        )
        super().set_trial_param(trial_id, param_name, param_value_internal, distribution)

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        def write() -> bool:
            return self.backend.set_trial_state_values(trial_id, state, values)

        def again() -> bool:
            return self.backend.get_trial(trial_id).state == state or write()

        done = self._written(trial_id, write, again)
        self.reread(trial_id)  # with the times that the database noted
        return done

    def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> None:
        self._written(trial_id, lambda: self.backend.set_trial_intermediate_value(trial_id, step, intermediate_value))
        super().set_trial_intermediate_value(trial_id, step, intermediate_value)

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        self._written(trial_id, lambda: self.backend.set_trial_user_attr(trial_id, key, value))
        super().set_trial_user_attr(trial_id, key, value)

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        self._written(trial_id, lambda: self.backend.set_trial_system_attr(trial_id, key, value))
        super().set_trial_system_attr(trial_id, key, value)

    def amend(self, trial_id: int, attributes: Mapping[str, Any]) -> None:
        """Set user attributes of a trial that has ended, in one commit. None: there is none of that name any more."""
        self._call(lambda: amend(self.backend, trial_id, attributes))
        self.reread(trial_id)

    def _written(self, trial_id: int, write: Callable[[], T], again: Callable[[], T] | None = None) -> T:
        try:
            return self._call(write, again=again)
        except UpdateFinishedTrialError:
            self.reread(trial_id)
            raise

    # --- the study

    def create_new_study(self, directions: Sequence[StudyDirection], study_name: str | None = None) -> int:
        return self.backend.create_new_study(directions, study_name)

    def delete_study(self, study_id: int) -> None:
        self.backend.delete_study(study_id)

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> None:
        self._call(lambda: self.backend.set_study_user_attr(study_id, key, value))

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        self._call(lambda: self.backend.set_study_system_attr(study_id, key, value))

    def get_study_id_from_name(self, study_name: str) -> int:
        return self.backend.get_study_id_from_name(study_name)

    def get_study_name_from_id(self, study_id: int) -> str:
        if study_id not in self._names:
            self._names[study_id] = self.backend.get_study_name_from_id(study_id)
        return self._names[study_id]

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        if study_id not in self._directions:
            self._directions[study_id] = self.backend.get_study_directions(study_id)
        return self._directions[study_id]

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        return self._call(lambda: self.backend.get_study_user_attrs(study_id))

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        return self._call(lambda: self.backend.get_study_system_attrs(study_id))

    def get_all_studies(self) -> list[FrozenStudy]:
        return self.backend.get_all_studies()

    def remove_session(self) -> None:
        self.backend.remove_session()


def _stored(value: Any) -> Any:
    """A value as a database gives it back."""
    return json.loads(json.dumps(value))
