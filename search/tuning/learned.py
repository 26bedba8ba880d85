"""`sampler.learn_from`: earlier studies of the same base tell TPE where good settings lie, as ranks, not as scores."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from optuna.trial import FrozenTrial, TrialState, create_trial

from search.errors import StudyError, problem
from search.record.learned_from import NOBODY, Example, LearnedFrom
from search.record.record import StudyFolder, TrialRecord
from search.study.input_digests import Inputs, fingerprint_of_base
from search.study.space import Space
from search.study.space_values import given_values
from search.study.study import Study

_LEAST = 4
"""Trials that an earlier study has to have: fewer say nothing of where good settings lie."""


def learned(study: Study, folder: StudyFolder) -> tuple[LearnedFrom, tuple[str, ...]]:
    """(what the study's sampler learns from, what to know of it). What it learned from when it began stays what it
    learns from, whatever the others have found since.

    Raises:
        StudyError: no such study in the runs folder, of another base, or with nothing to learn from: a line for each.
    """
    names = tuple(study.sampler.learn_from)
    if not names:
        return NOBODY, ()
    kept = LearnedFrom.load(folder)
    if kept is not None and kept.studies == names:
        return kept, ()
    problems, notes, examples = [], [], list[Example]()
    for place, name in enumerate(names):
        other = StudyFolder(folder.path.parent / name)
        records = [r for r in other.records() if r.state == "complete" and r.value is not None and r.has_epochs]
        expected, why = "", ""
        if name == study.name or not records:
            expected = "another study in the same runs folder, with complete trials"
        elif not _same_base(study, folder, other, records):
            expected, why = "a study of the same base", f"that one has {records[0].config.base}"
        elif len(records) < _LEAST:
            expected = f"a study with {_LEAST} complete trials or more"
            why = f"that one has {len(records)}"
        found = [] if expected else list(_examples(study.space, records))
        if not expected and len(found) < _LEAST:
            expected = "a study that has searched the same fields"
            why = f"of its {len(records)} trials {len(found)} fit this search"
        if expected:
            problems.append(problem(study.source, f"sampler.learn_from[{place}]", name, expected, why))
            continue
        examples += found
        notes.append(f"sampler.learn_from: {name}: {len(found)} of its {len(records)} complete trials fit this search")
    if problems:
        raise StudyError(problems)
    return LearnedFrom(names, tuple(examples)), tuple(notes)


def as_trials(examples: Sequence[Example], space: Space, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The examples as trials that came before these: the best of them as good as the best of these, and so on down. So
    what they say is where good settings lie, and never that one of them is better than a trial of this study."""
    own = [t.value for t in trials if t.state == TrialState.COMPLETE and t.value is not None and np.isfinite(t.value)]
    made = []
    for place, example in enumerate(examples):
        value = example.rank if not own else float(np.quantile(own, example.rank)) + 1e-9 * example.rank
        stored = space.stored(example.fields)
        trial = create_trial(
            state=TrialState.COMPLETE,
            params={name: each for name, (each, _) in stored.items()},
            distributions={name: distribution for name, (_, distribution) in stored.items()},
            value=value,
        )
        trial.number = trial._trial_id = place - len(examples)
        made.append(trial)
    return made


def _same_base(study: Study, folder: StudyFolder, other: StudyFolder, records: Sequence[TrialRecord]) -> bool:
    if records[0].config.base == study.base:
        return True
    inputs = Inputs.load(other)
    return inputs is not None and inputs.base == fingerprint_of_base(study, folder)


def _examples(space: Space, records: Sequence[TrialRecord]) -> Iterator[Example]:
    """Those whose settings this space has, by number."""
    searched = list(dict.fromkeys(entry.field for entry in space.entries))
    values = sorted(float(record.value or 0.0) for record in records)
    for record in records:
        known: dict[str, Any] = {name: getattr(record.config, name) for name in searched} | dict(record.params)
        fields = {name: known[name] for name in searched if known[name] is not None}
        try:
            stored = space.stored(fields)
        except (KeyError, TypeError, ValueError):
            continue
        if given_values(space, fields) == {name: value for name, (value, _) in stored.items()}:
            value = float(record.value or 0.0)
            below = np.searchsorted(values, value, "left") + np.searchsorted(values, value, "right") - 1
            yield Example(fields, float(below) / (2 * max(1, len(values) - 1)))
