"""What twins read is called what it is, in sentences and plots."""

from dataclasses import replace
from pathlib import Path

import pytest

from metrics.onset.plot import plot_onset
from metrics.onset.turns import Onset, Turn
from search.record.finalists import Finalist, Finalists
from search.record.record import TrialRecord
from search.record.twins import Twins
from search.verdict.best_files import PICTURES, PLOT
from search.verdict.decision import Decision, decide
from search.verdict.trial_sentences import onset_sentences
from search.verdict.twin_sentences import from_twins, read_from_twins, twin_cost, twin_sentences, words_of
from search.verdict.verdict import Verdict
from tests.metrics.onset.test_plot import words
from tests.search.any_config import CONFIG


@pytest.mark.parametrize("count", [0, 3])
def test_what_twins_read_is_not_called_held_out_photos(finished_study, tmp_path: Path, monkeypatch, count: int) -> None:
    record = next(record for record in finished_study.records() if decide(record).ships)
    both = Turn("found", 9.0, 7.0, None, ("shifted_loss", "heldout_loss"))
    onset = replace(record.onset, context=both, memory=Turn("found", 9.0, 7.0, None, ("heldout_loss",)))
    twins = Twins(count, record.epochs_trained, record.epoch_shipped, count=count, photos=9, onset=onset)
    record = replace(record, onset=onset, twins=twins if count else None)
    told = " ".join(" ".join(onset_sentences(kind, decide(record))) for kind in ("context", "memory"))
    assert ("Measured on moved subjects and photos that its twins left out." in told) == bool(count)
    assert ("Measured on moved subjects and held-out photos." in told) == (not count)
    assert f"photos of the same shoots that {'a twin' if count else 'it'} was not trained on" in told
    assert ("held-out" in told) == (not count)
    asked = []
    monkeypatch.setattr("metrics.onset.plot.plot_onset", lambda *given, **named: asked.append((given, named)))
    draw = next(draw for name, _, draw in PICTURES if name == PLOT)
    draw(finished_study, record, tmp_path / PLOT)
    (_, *given), named = asked[0]
    shown = words(plot_onset(tmp_path / "onset.svg", *given, **{**named, "caption": "", "thumbnails": None}))
    assert ("photos that its" in shown, "twins left out" in shown) == (bool(count), bool(count))
    assert ("held-out photos" in shown) == (not count)


ONSET = Onset("found", Turn("beyond"), Turn("found", 11.0), learned=2, best=10)
READ = Twins(3, 12, 8, count=3, photos=9, onset=ONSET, seconds=61.0)
WINNER = Finalist(0, 10, 0.69, 0.51, 0.45, 0.58, best=0.7)
VERDICT = Verdict("x", Decision("ship", 0, 10, 0.51, 4, "images", last=12), CONFIG, twins=READ)


def told(**changed) -> str:
    (sentence,) = twin_sentences(replace(VERDICT, twins=replace(READ, **changed)))
    return sentence


def test_what_twins_were_and_what_ships_by_them() -> None:
    assert twin_sentences(replace(VERDICT, twins=None)) == []
    said = "Its 3 twins read 9 photos, each by the twin that was trained without it."
    ships = "By what they read, epoch 10 ships instead of epoch 8."
    assert told() == f"{said} {ships}"
    assert told(beside=4).startswith("Its 3 twins read 9 photos, beside the 4 held-out ones, each by")
    assert told(before=10) == f"{said} The epoch to ship is the same without them."
    poor = replace(VERDICT, decision=replace(VERDICT.decision, outcome="poor"))
    assert "epoch 10 is to ship, which scores too little, instead of epoch 8." in twin_sentences(poor)[0]


def test_a_new_epoch_that_was_not_drawn_again_is_told_with_the_one_that_was() -> None:
    there = replace(VERDICT, finalists=Finalists({}, (WINNER,)))
    assert twin_sentences(there) == twin_sentences(VERDICT)
    elsewhere = replace(VERDICT, finalists=Finalists({}, (replace(WINNER, epoch=8),)))
    assert twin_sentences(elsewhere)[0].endswith("drawn again there: what fresh images say is of epoch 8.")


def test_why_there_are_none_is_the_last_line_of_what_went_wrong() -> None:
    lost = replace(READ, onset=None, failed="Traceback\nOSError: full.\n")
    (plain,) = twin_sentences(replace(VERDICT, twins=lost))
    assert plain == "Where memorising begins could not be read from twins: OSError: full."
    (broken,) = twin_sentences(replace(VERDICT, twins=replace(lost, broken=True)))
    assert broken.startswith(plain)
    assert "(finalists.twins)" in broken


def test_an_epoch_says_what_it_would_be_without_twins() -> None:
    record = TrialRecord(0, "complete", CONFIG, {}, 12, 12, 10, twins=READ)
    assert from_twins(record, 10) == [
        "Where memorising begins was read from 3 twins. Without them it would be epoch 8."
    ]
    same = replace(record, twins=replace(READ, before=10))
    assert from_twins(same, 10)[0].endswith("Without them it would be the same.")
    for other in (replace(record, twins=None), replace(record, twins=replace(READ, onset=None))):
        assert from_twins(other, 10) == from_twins(other, 8) == []
    assert from_twins(record, 8) == []


def test_what_they_took_is_told_where_it_was_anything() -> None:
    assert twin_cost(VERDICT) == ["Its twins took 1 min 1 s more."]
    assert (
        twin_cost(replace(VERDICT, twins=replace(READ, seconds=0.0))) == twin_cost(replace(VERDICT, twins=None)) == []
    )


def test_parts_of_the_photos_have_their_words() -> None:
    parts = ["the other half", *(f"another {part}" for part in
             ("third", "quarter", "fifth", "sixth", "seventh", "eighth"))]  # fmt: skip
    for count, part in enumerate(parts, 2):
        sentence = read_from_twins(replace(VERDICT.decision, twins=count))
        assert f"from {count} twins" in sentence
        assert sentence.endswith(f"each without {part} of the photos.")
    assert (read_from_twins(VERDICT.decision), words_of(VERDICT.decision)) == ("", {})
