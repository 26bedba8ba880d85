"""When a study has nothing more to ask for: its trials are spent, its time, or its space."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from search.study.space_values import size as size_of
from search.study.study import Study


def why_not_asked(study: Study, tried: Sequence[Mapping[str, Any]], seconds: float) -> str | None:
    """Why no new trial is begun, in a few words; None when one is.

    Args:
        study: the study.
        tried: the searched values of each of its trials so far, others' trials not among them.
        seconds: time taken over all sittings.
    """
    budget = study.budget
    if len(tried) >= budget.trials:
        return f"{len(tried)} trials"
    if budget.hours is not None and seconds >= budget.hours * 3600:
        return f"{len(tried)} trials in {budget.hours:g} hours"
    size = size_of(study.space)
    if size is not None and len({json.dumps(dict(params), sort_keys=True) for params in tried}) >= size:
        return f"{len(tried)} trials, and every combination is tried ({size})"
    return None
