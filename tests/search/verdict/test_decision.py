"""The decision about one trial from its record, field by field."""

from dataclasses import replace
from pathlib import Path

from metrics.onset.behaviour import LEARNED_FLOOR
from metrics.onset.turns import Choice, Copying, Disagreement, Onset, Turn
from search.record.final_run import Average, FinalRun
from search.record.finished_run import FinishedRun
from search.record.record import StudyFolder, TrialRecord
from search.record.twins import Twins
from search.verdict.decision import LEAST_SCORE, Decision, OnsetFound, best_so_far, decide, lora_to_ship, unit_of
from tests.search.any_config import CONFIG

COPIED, AGAINST = Copying("seen", 12, 0.3, 0.1, 0.5), Disagreement(8, 36, 0.5, -0.8, True)
SAFE, ALIKE = Choice(10, 8, 12), Choice(20, 16, 24)
ONSET = Onset(
    "found", Turn("found", 18.0, 14.0, None, ("prompt",)), Turn("beyond", channels=("copying",)), learned=4, best=12,
    learned_by="images", disagreement=AGAINST, likeness=0.7, safe=SAFE, alike=ALIKE, ship="balanced", copying=COPIED,
)  # fmt: skip
RECORD = TrialRecord(3, "complete", CONFIG, {}, 40, 36, 12, "horizon", ONSET, 0.5, 0.5)
DECIDED = Decision(
    "ship", 3, 12, 0.5, 4, "images", OnsetFound("found", 18.0, 14.0, None, ("prompt",)),
    OnsetFound("beyond", channels=("copying",)), 36, AGAINST, 0.7, None, "trial", "epoch", SAFE, ALIKE, "balanced",
    COPIED,
)  # fmt: skip
UNTOLD = {"context": OnsetFound("not_learned"), "memory": OnsetFound("not_learned"), "disagreement": None,
          "copying": Copying("unmeasured")}  # fmt: skip
NO_CHOICE = {"safe": None, "alike": None}


def with_onset(**changed) -> TrialRecord:
    return replace(RECORD, onset=replace(ONSET, **changed))


def test_a_trial_that_ships_is_told_with_all_that_is_known() -> None:
    assert decide(RECORD) == DECIDED
    assert DECIDED.earlier == ("context", DECIDED.context)
    assert replace(DECIDED, memory=DECIDED.context).earlier[0] == "context"
    assert replace(DECIDED, context=DECIDED.memory).earlier == ("", None)
    assert (DECIDED.shipped, replace(DECIDED, outcome="poor").shipped) == (12, None)
    assert DECIDED.as_json()["ship"] is True


def test_each_outcome_and_what_is_left_untold_under_it() -> None:
    low = LEAST_SCORE - 1e-9
    weak = {"outcome": "poor", "score": low, "learned": None, "learned_by": "", **NO_CHOICE}
    for record, changed in (
        (replace(RECORD, state="failed"), {"outcome": "failed", **NO_CHOICE}),
        (replace(RECORD, state="running"), {"outcome": "unfinished", **NO_CHOICE}),
        (replace(RECORD, state="pruned"), {"outcome": "unfinished", **NO_CHOICE}),
        (replace(RECORD, epoch_shipped=None), {"outcome": "not_learned", "epoch": None, **NO_CHOICE}),
        (with_onset(status="never_learned"),
         {"outcome": "not_learned", "learned": None, "learned_by": "", **NO_CHOICE}),
        (replace(RECORD, score=LEAST_SCORE), {"score": LEAST_SCORE}),
        (replace(RECORD, score=low), weak),
        (replace(with_onset(likeness=None), score=low), {**weak, "likeness": None}),
        (replace(with_onset(likeness=LEARNED_FLOOR), score=low), {**weak, "likeness": LEARNED_FLOOR}),
        (replace(with_onset(likeness=LEARNED_FLOOR - 1e-9), score=low),
         {**weak, "outcome": "not_learned", "likeness": LEARNED_FLOOR - 1e-9}),
        (replace(with_onset(learned_by="losses"), score=low), {**weak, **UNTOLD, "learned_by": "losses"}),
        (with_onset(learned_by="losses"), {"learned": None, "learned_by": "losses"}),
        (with_onset(learned_by="assumed"), {"learned_by": "assumed"}),
        (replace(with_onset(learned_by="assumed"), score=low), {**weak, **UNTOLD}),
        (with_onset(learned_by=""), {}),
        (with_onset(learned_by="", learned=None), {"learned": None, "learned_by": ""}),
        (replace(RECORD, score=None, value=0.4), {"score": 0.4}),
        (replace(RECORD, score=None, value=0.4, state="pruned"),
         {"outcome": "unfinished", "score": None, "learned": None, "learned_by": "", **NO_CHOICE}),
        (replace(RECORD, score=float("nan")),
         {"outcome": "poor", "score": None, "learned": None, "learned_by": "", **NO_CHOICE}),
    ):  # fmt: skip
        assert decide(record) == replace(DECIDED, **changed), changed


def test_without_an_onset_only_what_a_record_has_by_itself() -> None:
    bare = replace(RECORD, onset=None, state="running", score=0.25, objective="a:b", own_score=0.125)
    assert decide(bare) == Decision("unfinished", 3, 12, 0.25, last=36, objective="a:b", own_score=0.125)
    assert decide(replace(bare, epochs_trained=0)).last is None
    steps = replace(bare, finished_run=FinishedRun({6: "a", 12: "b"}, "step"))
    assert (decide(steps).kind, decide(steps).unit, unit_of(steps), unit_of(bare)) == (
        "finished",
        "step",
        "step",
        "epoch",
    )
    assert decide(replace(bare, state="complete")).outcome == "not_learned"
    one_file = replace(bare, state="complete", finished_run=FinishedRun({1: "a"}))
    assert decide(one_file).outcome == "ship"


def test_under_an_objective_our_own_score_says_whether_anything_is_seen() -> None:
    def outcome(score: float, own: float | None) -> str:
        return decide(replace(RECORD, score=score, objective="a:b", own_score=own)).outcome

    assert outcome(-5.0, 0.5) == outcome(-5.0, LEAST_SCORE) == "ship"
    assert outcome(9.0, LEAST_SCORE - 1e-9) == "poor"
    assert outcome(-5.0, None) == outcome(-5.0, float("nan")) == "ship"
    assert outcome(float("nan"), 0.5) == "poor"


def test_an_average_ships_where_it_is_better_and_twins_count_where_they_were_read(tmp_path: Path) -> None:
    average = Average((8, 12, 16), 0.55, 0.5, 0.02)
    final = replace(RECORD, final=FinalRun(12, average=average))
    assert decide(final) == replace(DECIDED, kind="final", average=(8, 16), score=0.55)
    for plain in (replace(average, noise=0.06), None):
        assert decide(replace(final, final=FinalRun(12, average=plain))) == replace(DECIDED, kind="final")
    assert decide(replace(final, state="pruned")).average is None
    folder = StudyFolder(tmp_path)
    assert lora_to_ship(folder, decide(final)) == folder.trial(3) / "average" / "lora.safetensors"
    assert lora_to_ship(folder, DECIDED) == folder.checkpoint(3, 12) / "lora.safetensors"
    twins = Twins(3, 36, 12, count=3, onset=ONSET)
    assert decide(replace(RECORD, twins=twins)) == replace(DECIDED, twins=3)
    assert decide(replace(RECORD, twins=replace(twins, onset=None))) == DECIDED


def test_the_best_so_far_is_the_highest_score_that_ships_the_earlier_on_a_tie() -> None:
    poor, first, second = (replace(RECORD, number=n, score=score) for n, score in ((0, 0.05), (1, 0.5), (2, 0.5)))
    best = best_so_far([poor, second, first, replace(RECORD, number=4, state="pruned", score=0.9)])
    assert best == replace(DECIDED, trial=1)
    assert best_so_far([poor]) is None


def test_what_an_onset_rests_on() -> None:
    copies = OnsetFound("beyond", channels=("copying",))
    assert (copies.by_copies, copies.reproduces) == (True, False)
    read = OnsetFound("found", 9.0, channels=("copying", "heldout_loss"))
    assert (read.by_copies, read.reproduces) == (False, True)
    assert not OnsetFound("found", 9.0, channels=("heldout_loss",)).reproduces
    late = {"outcome": "not_learned", "likeness": LEARNED_FLOOR}
    told = [{}, {"outcome": "poor"}, {"likeness": LEARNED_FLOOR - 1e-9}, {"likeness": None}]
    assert [replace(DECIDED, **{**late, **changed}).learns_too_late for changed in told] == [True, False, False, False]
