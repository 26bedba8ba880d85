"""Finalists in sentences and in the report's table: who is as good, who is better, and how sure that is."""

from dataclasses import replace
from pathlib import Path

import pytest

from metrics.onset.turns import Onset, Turn
from search.record.finalists import Finalist, Finalists
from search.record.record import StudyFolder, TrialRecord
from search.record.twins import Twins
from search.record.votes import Votes
from search.verdict.ballot import vote_sentences
from search.verdict.decision import Decision
from search.verdict.finalists import (
    at_twins_epoch,
    finalist_columns,
    finalist_rows,
    finalist_sentences,
    standing,
    ties_of,
)
from search.verdict.verdict import Verdict
from tests.search.any_config import CONFIG

WINNER = Finalist(0, 8, 0.69, 0.51, 0.45, 0.58, best=0.7)
AS_GOOD = Finalist(1, 12, 0.6, 0.5, 0.4, 0.57, best=0.256, behind=0.9499)
WORSE = Finalist(4, 16, 0.7, 0.4, 0.3, 0.5, best=0.044, behind=0.95)
DRAWN = Finalists({"trials": 3}, (WINNER, AS_GOOD, WORSE), images=4, prompts=2, seconds=7.0)
VERDICT = Verdict("x", Decision("ship", 0, 8, 0.51, 4, "images", last=12), CONFIG, finalists=DRAWN, ties=(1,))
TWICE = replace(DRAWN, drawn=(replace(WINNER, trainings=(0.6, 0.42)), AS_GOOD, WORSE))


def moved(shipped: int = 10) -> Twins:
    onset = Onset("found", Turn("beyond"), Turn("found", 11.0), learned=2, best=shipped)
    return Twins(3, 12, 8, count=3, onset=onset)


def test_who_is_as_good_as_the_winner() -> None:
    assert ties_of(DRAWN, 0) == [1]
    above = replace(AS_GOOD, score=0.52, behind=0.05)
    assert ties_of(replace(DRAWN, drawn=(WINNER, above)), 0) == []
    assert ties_of(replace(DRAWN, drawn=(WINNER, replace(above, behind=0.051))), 0) == [1]
    assert ties_of(replace(DRAWN, drawn=(WINNER, replace(above, score=0.51))), 0) == [1]
    assert ties_of(DRAWN, 7) == [0, 1], "a winner that was not drawn beats nobody"


def test_the_table_has_a_row_for_each_with_how_it_stands() -> None:
    assert finalist_columns(VERDICT) == (
        "trial", "epoch", "score on fresh images", "90 % interval", "in the search", "best of them in", "",
    )  # fmt: skip
    assert finalist_rows(VERDICT) == [
        (True, ("0", "8", "0.510", "0.450 to 0.580", "0.690", "70 %", "")),
        (False, ("1", "12", "0.500", "0.400 to 0.570", "0.600", "26 %", "about as good")),
        (False, ("4", "16", "0.400", "0.300 to 0.500", "0.700", "4 %", "surely worse")),
    ]
    better = replace(DRAWN, drawn=(replace(WINNER, score=0.45), replace(AS_GOOD, behind=0.05), WORSE))
    beside = [cells[-1] for _, cells in finalist_rows(replace(VERDICT, finalists=better))]
    assert beside == ["", "surely better", "surely worse"]
    assert finalist_rows(Verdict("x")) == []


def test_two_trainings_have_a_column_of_their_own() -> None:
    twice = replace(VERDICT, finalists=TWICE)
    assert finalist_columns(twice)[3] == "of each training"
    rows = [cells for _, cells in finalist_rows(twice)]
    assert [len(cells) for cells in rows] == [len(finalist_columns(twice))] * 3
    assert [cells[3] for cells in rows] == ["0.600 and 0.420", "", ""]
    assert len(finalist_columns(Verdict("x"))) == 7


def test_the_sentences_give_images_scores_and_intervals() -> None:
    first, last = finalist_sentences(VERDICT)
    assert "best 3 trials were drawn again at their epochs to ship" in first
    assert "4 images of 2 prompts. Trial 0 scores 0.510 there (90 % interval 0.450 to 0.580)" in first
    assert first.endswith("in the search it was 0.690.")
    assert "in 70 of 100 cases" in last
    assert "seeds of training" not in last
    assert (
        "2 prompts, 1 of them as in the search."
        in finalist_sentences(replace(VERDICT, finalists=replace(DRAWN, repeated=1)))[0]
    )
    _, second, last = finalist_sentences(replace(VERDICT, finalists=TWICE))
    assert second.startswith("Each was also trained a second time")
    assert second.endswith("Trial 0 has 0.600 and 0.420.")
    assert "and other seeds of training it would be" in last
    alone = replace(TWICE, drawn=TWICE.drawn[:1])
    first, second = finalist_sentences(replace(VERDICT, finalists=alone))
    assert first.startswith("The best trial was drawn again at its epoch to ship")
    assert second.startswith("It was also trained")
    other = replace(DRAWN, drawn=(WINNER, replace(AS_GOOD, trainings=(0.5, 0.5))))
    assert finalist_sentences(replace(VERDICT, finalists=other))[1].endswith("The score is the mean of both.")
    for silent in (Verdict("x"), replace(VERDICT, decision=replace(VERDICT.decision, trial=9))):
        assert finalist_sentences(silent) == []


def test_a_winner_that_its_twins_moved_is_told_with_those_that_score_more() -> None:
    there = replace(WINNER, epoch=10, score=0.45)
    afresh = replace(VERDICT, twins=moved(), finalists=replace(DRAWN, drawn=(there, AS_GOOD, WORSE)))
    assert finalist_sentences(afresh)[2].startswith("Trial 1 scores more on fresh images, but no twins say where it b")
    both = replace(afresh, finalists=replace(DRAWN, drawn=(there, WORSE, replace(AS_GOOD, score=0.46))))
    assert len(finalist_sentences(both)) == 3
    both = replace(both, finalists=replace(DRAWN, drawn=(there, replace(WORSE, score=0.46), AS_GOOD)))
    assert finalist_sentences(both)[2].startswith("Trials 1 and 4 score more on fresh images, but no twins say where t")
    equal = replace(afresh, finalists=replace(DRAWN, drawn=(replace(there, score=0.5), AS_GOOD)))
    assert len(finalist_sentences(equal)) == 2
    elsewhere = finalist_sentences(replace(VERDICT, twins=moved()))
    assert "Trial 0 scores 0.510 at epoch 8 (90 %" in elsewhere[0]
    assert len(elsewhere) == 2


def test_what_was_drawn_counts_while_it_is_of_the_best_trials_at_their_epochs(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    onset = Onset("beyond", Turn("beyond"), Turn("beyond"), learned=2, best=20)
    records = [
        TrialRecord(n, "complete", CONFIG, {}, 40, 40, epoch, onset=onset, score=score, value=score)
        for n, epoch, score in ((0, 8, 0.69), (1, 12, 0.6), (4, 16, 0.7), (5, 4, 0.2))
    ]
    assert standing(folder, records) is None
    DRAWN.save(folder)
    assert standing(folder, records) == DRAWN
    assert standing(folder, [*records[:3], replace(records[3], score=0.9, value=0.9)]) is None
    assert standing(folder, [replace(records[0], epoch_shipped=10), *records[1:]]) is None
    partly = replace(DRAWN, drawn=DRAWN.drawn[:2], left_out={4: "gone"})
    partly.save(folder)
    assert standing(folder, records) == partly
    replace(DRAWN, drawn=(), left_out={0: "a", 1: "b", 4: "c"}).save(folder)
    assert standing(folder, records) is None


def test_by_twins_the_winner_alone_may_be_at_another_epoch(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    assert at_twins_epoch(folder, DRAWN, 0, 10) is None
    there = replace(DRAWN, drawn=(replace(WINNER, epoch=10), AS_GOOD, WORSE))
    there.save(folder, by_twins=True)
    assert at_twins_epoch(folder, DRAWN, 0, 10) == there
    assert at_twins_epoch(folder, DRAWN, 0, 9) is None
    assert at_twins_epoch(folder, DRAWN, 1, 10) is None
    assert at_twins_epoch(folder, replace(DRAWN, settings={"trials": 4}), 0, 10) is None


@pytest.mark.parametrize(
    ("pairs", "agree", "last"),
    [
        ([((0, 8), (1, 12))], "In 1 of 1 ", "They put trial 0 first, as the verdict does."),
        ([((1, 12), (0, 8)), ((0, 8), (4, 16))], "In 1 of 2 ", "They put trial 1 first, the verdict trial 0."),
        ([((1, 12), (0, 8)), ((4, 16), (0, 8))], "In 0 of 2 ", "They put trials 1 and 4 first, the verdict trial 0."),
        ([((0, 8), (1, 12)), ((1, 12), (0, 8))], "In 1 of 2 ", ""),
    ],
)
def test_votes_are_held_against_the_scores(pairs, agree: str, last: str) -> None:
    told = vote_sentences(DRAWN, Votes(tuple(pairs)))
    assert agree in told[0]
    assert len(told) == 1 + bool(last)
    assert last in told[-1]


def test_votes_on_others_or_equals_say_nothing_more() -> None:
    assert vote_sentences(None, Votes((((0, 8), (1, 12)),))) == vote_sentences(DRAWN, Votes(())) == []
    assert vote_sentences(DRAWN, Votes((((0, 9), (1, 12)),))) == []
    equal = replace(DRAWN, drawn=(WINNER, replace(AS_GOOD, score=WINNER.score)))
    assert "In 0 of 1 " in vote_sentences(equal, Votes((((0, 8), (1, 12)),)))[0]


def test_who_learned_too_little_is_told_where_it_scores_more() -> None:
    def told(*learned: float | None) -> list[str]:
        scores = (0.4, 0.5, 0.3)
        drawn = [
            replace(one, score=score, learned=fallen)
            for one, score, fallen in zip(DRAWN.drawn, scores, learned, strict=True)
        ]
        return finalist_sentences(replace(VERDICT, finalists=replace(DRAWN, drawn=tuple(drawn))))[2:]

    assert told(0.4, 0.2, 0.3) == told(None, None, None) == told(0.4, None, 0.1) == []
    (one,) = told(0.4, -0.05, 0.1)
    assert one == (
        "Trial 1 scores more there (0.500), but learned too little to win: its loss on held-out photos rose by 5.1 %, "
        "that of trial 0 fell by 33 %."
    )
    assert told(-0.1, -0.4, -0.2) == [], "where none has learned by these photos, they say nothing"
