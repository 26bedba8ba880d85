"""What stands in Optuna's table of a trial: every name, known and unknown."""

from dataclasses import replace
from math import log

import pytest

from metrics.onset.turns import Choice, Copying, Onset, Turn
from search.record.finalists import Finalist, Finalists
from search.record.finished_run import FinishedRun
from search.record.record import TrialRecord
from search.record.twins import Twins
from search.verdict.attributes import every_trial_attribute, study_attributes, trial_attributes
from search.verdict.decision import Decision, OnsetFound
from search.verdict.front import Front, Place
from search.verdict.sentences import headline
from search.verdict.verdict import Verdict
from trainer.config.config import parse_train_config

CONFIG = parse_train_config({"base": "b", "data": "d", "rank": 8, "alpha_ratio": 0.5, "learning_rate_scale": 2.0})
ONSET = Onset(
    "found", Turn("found", 18.0, 14.0, None, ("prompt", "shifted_loss")), Turn("found", 24.5, 20.0, 30.0), learned=4,
    best=12, learned_by="images", safe=Choice(10, 8, 12), alike=Choice(20, 16, 24),
    copying=Copying("seen", 12, -log(0.75), 0.1, 0.4),
)  # fmt: skip
RECORD = TrialRecord(3, "complete", CONFIG, {"rank": 8}, 40, 40, 12, onset=ONSET, score=0.5, value=0.5)
KNOWN = {
    "alpha": 4.0, "learning_rate": 2e-4, "onset": 18.0, "onset_low": 14.0, "onset_kind": "context",
    "onset_channels": "prompt, shifted_loss", "onset_status": "found", "context_onset": 18.0, "memory_onset": 24.5,
    "copying": "seen", "copying_nearer": pytest.approx(0.25), "safe_epoch": 10, "alike_epoch": 20,
}  # fmt: skip


def test_all_that_is_known_of_a_trial_and_nothing_else() -> None:
    given = trial_attributes(RECORD)
    assert given == KNOWN
    every = every_trial_attribute(RECORD)
    unknown = {"onset_high", "objective", "onset_score", "twins"}
    assert {name for name, value in every.items() if value is None} == unknown == every.keys() - KNOWN.keys()


def test_what_differs_by_kind_of_trial() -> None:
    def changed(record: TrialRecord) -> dict:
        given = trial_attributes(record)
        return {name: given.get(name) for name in KNOWN.keys() | given.keys() if given.get(name) != KNOWN.get(name)}

    memory = replace(ONSET, memory=Turn("found", 16.0, 15.0, 17.0, ("copying",)))
    assert changed(replace(RECORD, onset=memory)) == {
        "onset": 16.0, "onset_low": 15.0, "onset_high": 17.0, "onset_kind": "memory", "onset_channels": "copying",
        "memory_onset": 16.0,
    }  # fmt: skip
    own = replace(RECORD, objective="a:b", own_score=0.4)
    assert changed(own) == {"objective": "a:b", "onset_score": 0.4}
    assert changed(replace(RECORD, twins=Twins(3, 40, 12, count=3, onset=ONSET))) == {"twins": 3}
    assert changed(replace(RECORD, twins=Twins(3, 40, 12, count=3, failed="no"))) == {}
    finished = replace(RECORD, finished_run=FinishedRun({6: "a", 12: "b"}, settings="rank 8"))
    assert changed(finished) == {"alpha": None, "learning_rate": None}
    told = replace(RECORD, finished_run=FinishedRun({6: "a", 12: "b"}, settings="rank 8, alpha 4"))
    assert changed(told) == {"learning_rate": None}
    by_itself = {"optimizer": "Adafactor", "relative_step": True, "lr_scheduler": "adafactor"}
    adafactor = parse_train_config({"base": "b", "data": "d", "rank": 8, "alpha_ratio": 0.5, **by_itself})
    assert changed(replace(RECORD, config=adafactor)) == {"learning_rate": None}


def test_a_failed_trial_has_its_settings_alone() -> None:
    failed = replace(RECORD, state="failed", onset=None, epoch_shipped=None, score=None)
    assert trial_attributes(failed) == {"alpha": 4.0, "learning_rate": 2e-4}


def test_a_verdict_in_numbers() -> None:
    context, memory = OnsetFound("found", 18.0, 14.0), OnsetFound("beyond")
    found = Decision("ship", 3, 12, 0.5, 8, "images", context, memory, 40, safe=Choice(10, 8, 12))
    found = replace(found, copying=Copying("later", 40, 0.3, 0.1, 0.4), alike=Choice(20, 16, 24))
    verdict = Verdict("toy", found, CONFIG, {"rank": 8}, ties=(1, 5))
    plain = {
        "verdict": headline(verdict), "trial_shipped": 3, "epoch_shipped": 12, "score": 0.5, "fresh_scores": {},
        "as_good": [1, 5], "front": [], "context_onset": 18.0, "memory_onset": None, "copying": "later",
        "safe_epoch": 10, "alike_epoch": 20,
    }  # fmt: skip
    assert study_attributes(verdict) == plain
    more = replace(
        verdict,
        decision=replace(found, objective="a:b", own_score=0.4, twins=3),
        finalists=Finalists({}, (Finalist(3, 12, 0.4, 0.5, 0.4, 0.6, best=1.0), Finalist(1, 8, 0.4, 0.3, 0.2, 0.4, 0))),
        front=Front((Place(5, 8, 0.9, 0.1), Place(3, 12, 0.8, 0.2)), Place(3, 12, 0.8, 0.2), None, 4),
    )
    added = {"objective": "a:b", "onset_score": 0.4, "twins": 3, "front": [5, 3], "fresh_scores": {"3": 0.5, "1": 0.3}}
    assert study_attributes(more) == {**plain, **added, "verdict": headline(more)}
    nothing = study_attributes(replace(verdict, decision=replace(found, outcome="poor", safe=None, alike=None)))
    assert [nothing[name] for name in ("trial_shipped", "epoch_shipped", "safe_epoch", "alike_epoch")] == [None] * 4
    assert study_attributes(replace(verdict, decision=replace(found, copying=Copying("unmeasured"))))["copying"] is None
