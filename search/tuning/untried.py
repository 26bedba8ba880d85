"""Draws a trial's values, and sees to it that no configuration is trained twice.

What the sampler would draw is drawn on a copy in memory first: values that a trial was given cannot be taken back.
"""

import hashlib
import json
import random
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from search.record.learned_from import Example
from search.study.choices import every_choice
from search.study.settings import SamplerSection
from search.study.space import Space
from search.study.space_values import every_value, given_values, size
from search.tuning.learned import as_trials
from search.tuning.sampler import sampler_for
from search.tuning.trials_in_memory import Draft

_ATTEMPTS, _AT_RANDOM = 5, 25
"""Draws of the sampler, which keeps to what has done well; then draws at random, before any that is left is taken."""


def draw(trial: Trial, space: Space, reseed: Callable[[str], None], asked: list[str]) -> dict[str, Any]:
    """The searched values of a trial; those that it already has stay.

    Args:
        reseed: called with a parameter's name before it is drawn.
        asked: the names so far, added to.
    """

    def before(parameter: str) -> None:
        first = asked[0] if asked else parameter
        asked.append(parameter)
        if parameter not in trial.params and trial.relative_search_space is None:
            # what is drawn together comes from the first parameter's seed, whichever was stored before a kill
            reseed(first)
            _ = trial.relative_params
            if parameter == first:
                return
        reseed(parameter)

    return space.suggest(trial, before)


def untried(
    space: Space,
    trials: Sequence[FrozenTrial],
    tried: Collection[str],
    *,
    sampler: SamplerSection,
    seed: int,
    startup_trials: int,
    examples: Sequence[Example] = (),
) -> dict[str, Any] | None:
    """Values by parameter for the next trial, where what the sampler would draw has been trained, on a grid, and where
    it learns from other studies, too; None where the sampler may draw.

    Args:
        trials: all trials of the study, by number; the next one comes after them.
        tried: `key_of` the values of each trial that was trained.
        sampler, seed, startup_trials: what would draw.
        examples: of other studies, which only the copy holds that is drawn on.
    """
    if sampler.name == "grid":
        return _any_left(space, tried, seed, len(trials))
    endless = any(
        not entry.values and entry.step is None and not entry.whole and not entry.when for entry in space.entries
    )
    if not examples and (not tried or endless):
        return None  # no two draws from a range without steps are the same
    seen = [*as_trials(examples, space, trials), *trials]
    for attempt in range(_ATTEMPTS + _AT_RANDOM):
        startup = startup_trials if attempt < _ATTEMPTS else len(seen) + 1
        params = _drawn(space, seen, sampler, seed, len(trials), startup, attempt)
        if key_of(params) not in tried:
            return params if attempt or examples else None
    return _any_left(space, tried, seed, len(trials))


def _any_left(space: Space, tried: Collection[str], seed: int, number: int) -> dict[str, Any] | None:
    """One of the configurations that have not been tried, at random; None where all have, or nobody can count them."""
    if size(space) is None:
        return None
    left = [
        params
        for chosen in every_choice(space.entries, {}, every_value)
        if key_of(params := {name: stored for name, (stored, _) in space.stored(chosen).items()}) not in tried
    ]
    rng = random.Random(hashlib.sha256(f"{seed}/{number}/untried".encode()).digest())
    return rng.choice(left) if left else None


def started_with(
    space: Space, start_with: Sequence[Mapping[str, Any]], given: Collection[str]
) -> dict[str, Any] | None:
    """Values by parameter of the next settings that shall be tried first; None when all have been given out.

    Args:
        start_with: searched fields with values, as the study file has them.
        given: `key_of` what earlier trials were given so.
    """
    for fields in start_with:
        values = given_values(space, fields)
        if key_of(values) not in given:
            return values
    return None


def key_of(params: dict[str, Any]) -> str:
    """Values by parameter as text: equal for equal configurations."""
    return json.dumps(params, sort_keys=True)


def _drawn(
    space: Space,
    trials: Sequence[FrozenTrial],
    sampler: SamplerSection,
    seed: int,
    number: int,
    startup_trials: int,
    attempt: int,
) -> dict[str, Any]:
    """`number`: of the trial that is drawn."""
    first = sampler_for(sampler, seed, number, "", startup_trials)
    study = optuna.create_study(storage=Draft(trials), direction="maximize", sampler=first)
    study.add_trial(create_trial(state=TrialState.RUNNING))
    again = f"#{attempt}" if attempt else ""

    def reseed(parameter: str) -> None:
        study.sampler = sampler_for(sampler, seed, number, parameter + again, startup_trials)

    reseed("")
    trial = Trial(study, study.get_trials(deepcopy=False)[-1]._trial_id)
    draw(trial, space, reseed, [])
    return trial.params
