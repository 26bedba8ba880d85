"""When a study has nothing more to ask for: its trials are spent, its time, or its space."""

import json

from search.record.clock import noted_seconds
from search.record.record import StudyFolder
from search.study.space_values import size as size_of
from search.study.study import Study


def why_not_asked(study: Study, trials: int, configurations: int, seconds: float) -> str | None:
    """Why no new trial is begun, in a few words; None when one is.

    Args:
        study: the study.
        trials: how many it has had so far, others' trials not among them.
        configurations: how many different ones these had.
        seconds: time taken over all sittings.
    """
    budget = study.budget
    if trials >= budget.trials:
        return f"{trials} trials"
    if budget.hours is not None and seconds >= budget.hours * 3600:
        return f"{trials} trials in {budget.hours:g} hours"
    size = size_of(study.space)
    if size is not None and configurations >= size:
        return f"{trials} trials, and every combination is tried ({size})"
    return None


def why_finished(study: Study, folder: StudyFolder) -> str | None:
    """What the study has spent, in words, where its verdict is of the trials that are there and nothing is left to ask
    for; None where it goes on."""
    from search.verdict.verdict import belongs, known_verdict

    verdict = known_verdict(folder)
    if verdict is None or not all((folder.path / path).exists() for path in verdict.files.values()):
        return None
    records = list(folder.records())
    if not belongs(verdict, records):
        return None
    drawn = verdict.finalists
    if drawn is not None:
        now, usual = study.finalists.model_dump(mode="json"), type(study.finalists)().model_dump(mode="json")
        if any(drawn.settings.get(key, usual[key]) != value for key, value in now.items()):
            return None
    if verdict.decision.ships and study.num_twins != (verdict.twins.asked if verdict.twins else 0):
        return None
    distinct = len({json.dumps(dict(record.params), sort_keys=True) for record in records})
    return why_not_asked(study, len(records), distinct, noted_seconds(folder))
