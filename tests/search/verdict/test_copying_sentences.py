"""Training photos that come back in drawings: told alike by verdict, notes, plot and user attributes."""

from dataclasses import replace
from math import expm1

import pytest

from metrics.onset.turns import Copying
from search.record.record import StudyFolder, TrialRecord
from search.verdict.attributes import trial_attributes
from search.verdict.copying_sentences import copying_note, copying_sentences, ships_copies
from search.verdict.decision import Decision, OnsetFound, decide
from search.verdict.trial_sentences import plot_caption, trial_sentences
from tests.search.finished_studies import Plan, make_trial

SEEN = Copying("seen", 16, 0.27, 0.11, 0.44)
FOUND = Decision("ship", 3, 16, 0.6, last=40, copying=SEEN)
ONE = Plan(
    {"optimizer": "AdamW", "lr_scheduler": "cosine", "learning_rate_scale": 4.0, "rank": 8}, quality=0.8, turn=18
)


def test_what_ships_with_copies_is_told_and_what_to_do():
    (said,) = copying_sentences(FOUND)
    assert said in trial_sentences(FOUND)
    assert said in plot_caption(FOUND)
    assert "at epoch 16" in said
    assert "earlier epochs" in ships_copies(FOUND)[0]
    assert "epoch 16" in copying_note(FOUND)[0]
    assert "step 16" in copying_sentences(replace(FOUND, unit="step"))[0]


def test_no_sign_of_copies_asks_for_nothing():
    none = replace(FOUND, copying=Copying("unseen", 16, 0.0, -0.1, 0.1))
    assert "No sign" in copying_sentences(none)[0]
    assert (ships_copies(none), copying_note(none)) == ((), ())
    assert "come back" not in plot_caption(none)
    later = replace(FOUND, copying=Copying("later", 40, 0.27, 0.11, 0.44))
    assert ships_copies(later) == ()
    assert "later" in plot_caption(later)


@pytest.mark.parametrize(
    ("kind", "needs"), [("trial", "score.holdout"), ("finished", "checkpoints.held_out"), ("final", "all photos")]
)
def test_what_is_not_known_names_what_it_needs(kind, needs):
    unknown = replace(FOUND, kind=kind, copying=Copying("unmeasured"))
    assert needs in copying_sentences(unknown)[0]
    assert "come back" not in plot_caption(unknown)


def test_of_a_subject_that_is_not_learned_nothing_is_said():
    assert copying_sentences(Decision("failed")) == ()
    assert copying_sentences(Decision("not_learned", context=OnsetFound("not_learned"))) == ()


def test_a_trials_record_keeps_it_and_the_database_gets_it(tmp_path, tiny_photos):
    folder = StudyFolder(tmp_path / "study")
    make_trial(folder, 0, ONE, tmp_path, tiny_photos)
    record = TrialRecord.load(folder.trial(0))
    assert record.onset is not None
    replace(record, onset=replace(record.onset, copying=SEEN)).save(folder.trial(0))
    again = TrialRecord.load(folder.trial(0))
    assert decide(again).copying == SEEN
    attributes = trial_attributes(again)
    assert attributes["copying"] == "seen"
    assert attributes["copying_nearer"] == pytest.approx(-expm1(-0.27))
    assert "copying" not in trial_attributes(record)
