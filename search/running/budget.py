"""When a study has nothing more to ask for: its trials are spent, its time, or its space."""

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
