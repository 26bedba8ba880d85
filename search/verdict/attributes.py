"""What a user of Optuna finds of a trial, and of the study, as user attributes: plain numbers and words."""

from math import expm1
from typing import TYPE_CHECKING, Any

from search.record.record import TrialRecord
from search.verdict.decision import decide

if TYPE_CHECKING:
    from search.verdict.verdict import Verdict


def trial_attributes(record: TrialRecord) -> dict[str, Any]:
    """Name to value of what an ended trial is looked up for; what is not known has no entry.

    Keys: `alpha` and `learning_rate` as they were trained with; `onset`, `onset_low`, `onset_high` (epochs; no
    `onset_high` where the interval is open), `onset_kind` and `onset_channels` of the earlier onset; `context_onset`,
    `memory_onset`, `safe_epoch`, `alike_epoch`; `copying` ("seen", "later" or "unseen": whether training photos come
    back in drawings at the epoch to ship) and `copying_nearer`, the share by which images are nearer to them;
    `onset_status`; `objective` and `onset_score` where a function of the user's own makes the score: its name, and the
    score as we make it; `twins`: how many twins say where memorising begins.
    """
    return {name: value for name, value in every_trial_attribute(record).items() if value is not None}


def every_trial_attribute(record: TrialRecord) -> dict[str, Any]:
    """The same with every name that a trial can have; None for what is not known."""
    found, config, run = decide(record), record.config, record.finished_run
    kind, onset = found.earlier
    copied = found.copying.nearer
    return {
        "alpha": config.effective_alpha if run is None or "alpha" in run.settings else None,
        "learning_rate": config.effective_learning_rate if run is None and not config.relative_step else None,
        "onset": onset and onset.epoch,
        "onset_low": onset and onset.low,
        "onset_high": onset and onset.high,
        "onset_kind": kind or None,
        "onset_channels": onset and ", ".join(onset.channels),
        "onset_status": record.onset and record.onset.status,
        "context_onset": found.context.epoch,
        "memory_onset": found.memory.epoch,
        "copying": None if copied is None else found.copying.status,
        "copying_nearer": None if copied is None else -expm1(-copied),
        "safe_epoch": found.safe and found.safe.epoch,
        "alike_epoch": found.alike and found.alike.epoch,
        "objective": found.objective or None,
        "onset_score": found.own_score,
        "twins": found.twins or None,
    }


def study_attributes(verdict: "Verdict") -> dict[str, Any]:
    """The verdict in numbers: `verdict` (its first sentence), `trial_shipped`, `epoch_shipped`, `score`,
    `context_onset`, `memory_onset`, `copying`, `safe_epoch`, `alike_epoch`, all of the winner; null where there is
    none.

    `twins`: from how many the memory onset was read, where there were some. `fresh_scores`: number of each finalist to
    its score on fresh images. `as_good`: numbers of the other trials that are about as good. `objective`,
    `onset_score`: as of a trial, where there is an objective. `front`: numbers of the trials on the front of likeness
    and obedience, the most alike first.
    """
    from search.verdict.sentences import headline

    found, drawn = verdict.decision, () if verdict.finalists is None else verdict.finalists.drawn
    return {
        "verdict": headline(verdict),
        "trial_shipped": found.trial if found.ships else None,
        "epoch_shipped": found.shipped,
        "score": found.score,
        **({"objective": found.objective, "onset_score": found.own_score} if found.objective else {}),
        "fresh_scores": {str(one.trial): one.score for one in drawn},
        "as_good": list(verdict.ties),
        "front": [] if verdict.front is None else [place.trial for place in verdict.front.places],
        "context_onset": found.context.epoch,
        "memory_onset": found.memory.epoch,
        **({"twins": found.twins} if found.twins else {}),
        "copying": None if found.copying.nearer is None else found.copying.status,
        "safe_epoch": None if found.safe is None else found.safe.epoch,
        "alike_epoch": None if found.alike is None else found.alike.epoch,
    }
