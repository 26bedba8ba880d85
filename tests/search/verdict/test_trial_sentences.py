"""One trial in words: each state, each outcome, each kind of onset, in a table's cell, a note and a caption."""

from dataclasses import replace

from metrics.onset.behaviour import LEARNED_FLOOR
from metrics.onset.turns import Copying, Disagreement
from search.record.record import TrialRecord
from search.verdict.decision import Decision, OnsetFound
from search.verdict.trial_sentences import (
    onset_sentences,
    onset_short,
    plot_caption,
    state_text,
    told_onsets,
    trial_sentences,
    turn_short,
)
from tests.search.any_config import CONFIG

FOUND = OnsetFound("found", 17.26, 8.0, None, ("prompt",))
BEYOND, UNMEASURED, NOT_LEARNED = OnsetFound("beyond"), OnsetFound("unmeasured"), OnsetFound("not_learned")
COPIES = OnsetFound("beyond", channels=("copying",))
SHIPS = Decision("ship", 3, 12, 0.5, 8, "images", BEYOND, BEYOND, last=40)


def test_an_onset_in_a_cell() -> None:
    assert turn_short(FOUND) == "17.3 (8–open)"
    assert turn_short(replace(FOUND, high=30.0)) == "17.3 (8–30)"
    assert turn_short(OnsetFound("found", 17.0)) == "17"
    told = [turn_short(each) for each in (BEYOND, COPIES, NOT_LEARNED, UNMEASURED)]
    assert told == ["none yet", "no copies", "–", "not measured"]


def test_the_earlier_of_both_in_a_cell() -> None:
    later = OnsetFound("found", 20.0, 18.0, 24.0)
    for context, memory, words in (
        (FOUND, later, "17.3 (8–open) context"),
        (later, FOUND, "17.3 (8–open) memory"),
        (UNMEASURED, later, "20 (18–24) memory"),
        (BEYOND, UNMEASURED, "none yet"),
        (UNMEASURED, BEYOND, "none yet"),
        (UNMEASURED, COPIES, "no copies"),
        (BEYOND, COPIES, "none yet"),
        (UNMEASURED, UNMEASURED, "not measured"),
        (NOT_LEARNED, NOT_LEARNED, "–"),
        (NOT_LEARNED, BEYOND, "–"),
    ):
        assert onset_short(replace(SHIPS, context=context, memory=memory)) == words


def test_a_state_in_a_cell() -> None:
    def told(state: str, stopped: str = "", lost: str = "") -> str:
        return state_text(TrialRecord(0, state, CONFIG, {}, 40, stopped=stopped, lost=lost))

    assert [told(state) for state in ("complete", "pruned", "running")] == ["complete", "pruned", "running"]
    assert told("complete", "onset") == "stopped at its onset"
    assert told("pruned", "onset") == "pruned"
    assert told("complete", "horizon", "a sheet") == "complete, files lost"
    assert told("complete", "onset", "a sheet") == "stopped at its onset, files lost"


def test_the_first_sentence_says_what_comes_of_it() -> None:
    late = {"outcome": "not_learned", "likeness": LEARNED_FLOOR}
    for changed, words in (
        ({}, "Its best epoch is 12 (score 0.500)."),
        ({"score": None, "unit": "step"}, "Its best step is 12."),
        (late, "Nothing to ship: it overfits before it learns the subject."),
        ({**late, "likeness": LEARNED_FLOOR - 1e-6}, "Nothing to ship: it did not learn the subject."),
        ({**late, "likeness": None}, "Nothing to ship: it did not learn the subject."),
        ({"outcome": "poor", "score": 0.04}, "Nothing to ship: its best score is 0.040 (epoch 12)."),
        ({"outcome": "poor", "score": None}, "Nothing to ship: its best score is 0.000 (epoch 12)."),
        ({"outcome": "failed"}, "Nothing to ship: it failed."),
        ({"outcome": "unfinished"},
         "Nothing to ship: it was not trained to its end. Its best epoch so far is 12 (score 0.500)."),
        ({"outcome": "unfinished", "epoch": None}, "Nothing to ship: it was not trained to its end."),
    ):  # fmt: skip
        assert trial_sentences(replace(SHIPS, **changed))[0] == words
        assert plot_caption(replace(SHIPS, **changed)).startswith(words)


def test_an_objective_is_named_with_our_own_score_where_there_is_one() -> None:
    asked = replace(SHIPS, objective="mine:likeness")
    assert trial_sentences(asked)[1] == "The score is what mine:likeness makes of the readings."
    assert trial_sentences(replace(asked, own_score=0.25))[1].endswith("Onset's own score there is 0.250.")
    for unsaid in (replace(SHIPS, own_score=0.25), replace(asked, score=None)):
        assert not any("readings" in sentence for sentence in trial_sentences(unsaid))


def test_onsets_and_copies_are_told_of_what_was_learned_alone() -> None:
    against = Disagreement(12, 36, 0.5, -0.8, True)
    all_told = told_onsets(replace(SHIPS, disagreement=against))
    starts = ["Context onset: none", "Memory onset: none", "Whether training photos come back", "The two measures of"]
    assert [told.startswith(start) for told, start in zip(all_told, starts, strict=True)] == [True] * 4
    assert told_onsets(replace(SHIPS, disagreement=against), against=False) == all_told[:3]
    for silent in (Decision("failed"), Decision("nothing"), replace(SHIPS, context=NOT_LEARNED)):
        assert told_onsets(silent) == []
    assert len(told_onsets(replace(SHIPS, outcome="poor", context=UNMEASURED))) == 3


def test_a_caption_has_both_onsets_and_only_what_was_seen() -> None:
    seen = replace(SHIPS, copying=Copying("seen", 12, 0.3, 0.1, 0.5), disagreement=Disagreement(12, 36, 0.5, -1, True))
    parts = (
        "Its best epoch is 12",
        "Context onset: none",
        "Memory onset: none",
        "come back in drawings at",
        "disagree",
    )
    places = [plot_caption(seen).index(part) for part in parts]
    assert places == sorted(places)
    assert plot_caption(seen, "Ship epoch 12.").startswith("Ship epoch 12. Context onset: none")
    for status in ("unseen", "unmeasured"):
        assert "drawings" not in plot_caption(replace(SHIPS, copying=Copying(status)))


def test_what_an_onset_means_is_told_of_each_kind() -> None:
    def meaning(name: str, onset: OnsetFound, **changed) -> str:
        return onset_sentences(name, replace(SHIPS, **{name: onset}, **changed))[1]

    read = OnsetFound("found", 9.0, 8.0, 12.0, ("context_loss", "heldout_loss"))
    assert meaning("context", read).endswith("Measured on photos of held-out contexts and held-out photos.")
    assert "Measured on" not in meaning("memory", read)
    assert "Measured on" not in meaning("context", replace(read, channels=()))
    assert meaning("context", BEYOND) == meaning("memory", BEYOND) == ""
    for kind, key in (("trial", "score.holdout"), ("final", "score.holdout"), ("finished", "checkpoints.held_out")):
        assert meaning("memory", COPIES, kind=kind).endswith(f"held out ({key}).")
        assert meaning("memory", UNMEASURED, kind=kind).endswith(f"held out ({key}).")
    assert meaning("context", UNMEASURED).endswith("(score.holdout_contexts).")
    assert meaning("memory", read, twins=3).endswith("Read from 3 twins: trainings with the same settings, each "
                                                     "without another third of the photos.")  # fmt: skip
    assert meaning("memory", BEYOND, twins=2).endswith("each without the other half of the photos.")
    assert "twins" not in meaning("memory", UNMEASURED, twins=3) + meaning("context", read, twins=0)
