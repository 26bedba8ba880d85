"""Which sentences a verdict has, and the numbers in them: a table with each outcome and each reason."""

from dataclasses import replace
from typing import Any

from metrics.onset.behaviour import LEARNED_FLOOR
from metrics.onset.turns import Choice, Copying, Disagreement
from search.record.final_run import Average, FinalRun
from search.record.finalists import Finalist, Finalists
from search.record.finished_run import FinishedRun
from search.verdict.cost import Cost
from search.verdict.decision import Decision, OnsetFound
from search.verdict.front import Front, Place
from search.verdict.plateau import Peak
from search.verdict.said import Said
from search.verdict.sentences import headline, say
from search.verdict.verdict import Verdict
from trainer.config.config import parse_train_config

CONFIG = parse_train_config({"base": "b", "data": "d", "epochs": 40, "save_every_n_epochs": 4})
COSINE = parse_train_config({"base": "b", "data": "d", "epochs": 40, "lr_scheduler": "cosine"})
BEYOND = OnsetFound("beyond", channels=("heldout_loss",))
SHIPS = Decision("ship", 3, 12, 0.5, 8, "images", BEYOND, BEYOND, last=40)
TOO_LATE = {"outcome": "not_learned", "likeness": LEARNED_FLOOR}
UNLIKE = {"outcome": "not_learned", "likeness": LEARNED_FLOOR / 2, "learned": None, "learned_by": ""}
FRESH = Finalists({}, (Finalist(3, 12, 0.45, 0.5, 0.4, 0.6, best=1.0),), images=8, prompts=4, repeated=1, seconds=90.0)


def verdict(decision: dict[str, Any] | None = None, **given: Any) -> Verdict:
    found = replace(SHIPS, **(decision or {}))
    plain = {"config": CONFIG, "params": {"rank": 8}, "cost": Cost(complete=3), "epochs": 40, "lora_bytes": 9}
    return Verdict("toy", found, **{**plain, **given})


def tells(sentences: tuple[str, ...], parts: list[str | tuple[str, ...]]) -> None:
    """As many sentences as `parts`, and in each of them these words."""
    wanted = [(part,) if isinstance(part, str) else part for part in parts]
    missing = [
        (sentence, part)
        for sentence, words in zip(sentences, wanted, strict=False)
        for part in words
        if part not in sentence
    ]
    assert (missing, len(sentences)) == ([], len(wanted)), sentences


HEADLINES: list[tuple[Any, Any, Any]] = [
    ({}, {}, "Ship epoch 12 of trial 3 (score 0.500)."),
    ({}, {"finalists": FRESH}, "Ship epoch 12 of trial 3 (score 0.500 on fresh images)."),
    ({"score": None}, {}, "Ship epoch 12 of trial 3."),
    (TOO_LATE, {}, "Ship nothing yet: the best trial (3) overfits before it learns the subject."),
    (UNLIKE, {}, "Ship nothing yet: the best trial (3) did not learn the subject."),
    ({"outcome": "poor"}, {}, "Ship nothing yet: the best score is 0.500 (trial 3)."),
    ({"outcome": "poor", "score": None}, {}, "Ship nothing yet: the best score is 0.000 (trial 3)."),
    ({"outcome": "unfinished"}, {}, "Ship nothing yet: no trial has trained to its end. The best so far is trial "
                                    "3 (score 0.500)."),
    ({"outcome": "nothing"}, {}, "Ship nothing: no trial got far enough to be scored."),
    ({}, {"said": Said(headline="Replace 1 photo.")}, "Replace 1 photo."),
    # one run: nobody asks for a trial's number
    ({}, {"params": {}, "cost": Cost(complete=1)}, "Ship epoch 12 (score 0.500)."),
    ({}, {"params": {}, "cost": Cost(complete=2)}, "Ship epoch 12 of trial 3 (score 0.500)."),
    ({"kind": "final"}, {"final": FinalRun(12)}, "Ship epoch 12 (score 0.500)."),
    ({"kind": "final", "average": (8, 16)}, {"final": FinalRun(12)},
     "Ship the average of epochs 8 to 16 (score 0.500)."),
    ({"unit": "step", "score": None}, {"finished_run": FinishedRun({12: "a"})}, "Ship step 12."),
    (TOO_LATE, {"final": FinalRun(12)}, "Ship nothing: the run overfits before it learns the subject."),
    (UNLIKE, {"final": FinalRun(12)}, "Ship nothing: the run did not learn the subject."),
    ({"outcome": "poor", "score": 0.04}, {"final": FinalRun(12)}, "Ship nothing: the best score is 0.040."),
    ({"outcome": "poor", "score": None}, {"final": FinalRun(12)}, "Ship nothing: the best score is 0.000."),
    ({"outcome": "unfinished"}, {"final": FinalRun(12)},
     "Ship nothing yet: the run was not trained to its end."),
    ({"outcome": "failed"}, {"final": FinalRun(12)}, "Ship nothing: its checkpoints could not be scored."),
]  # fmt: skip


def test_the_headline_of_each_outcome() -> None:
    for decision, given, line in HEADLINES:
        assert headline(verdict(decision, **given)) == line


DO: list[tuple[Any, Any, Any]] = [
    ({}, {}, ["best/toy.safetensors", "Its settings: AdamW"]),
    ({}, {"lora_bytes": None}, [("best/train.yaml", "not kept"), "Its settings"]),
    ({"copying": Copying("seen", 12, 0.3, 0.1, 0.5)}, {}, ["best/toy.safetensors", "compare earlier epochs", "Its"]),
    ({}, {"photos": (9, 0)}, ["best/toy.safetensors", "Its settings"]),
    ({}, {"photos": (9, 3)}, ["best/toy.safetensors", "Its settings",
                              ("3 of the 12 photos were held out", "epochs 10 to 12")]),
    ({"epoch": 1}, {"photos": (9, 3)}, ["best/toy.safetensors", "Its settings",
                                        ("3 of the 12 photos were held out", "take epoch 1 again")]),
    ({}, {"photos": (0, 3)}, ["best/toy.safetensors", "Its settings", "train best/train.yaml."]),
    ({}, {"config": COSINE}, ["best/toy.safetensors", "cosine",
                              ("Leave epochs at 40", "over 40 epochs", "after epoch 12")]),
    ({"epoch": 40}, {"config": COSINE}, ["best/toy.safetensors", "cosine", "planned over 40 epochs."]),
    ({}, {"final": FinalRun(9), "photos": (9, 3), "config": COSINE},
     ["best/toy.safetensors", "Its settings", ("all 12 photos", "trained on 9 of them")]),
    ({}, {"finished_run": FinishedRun({8: "a.safetensors", 12: "b.safetensors"}, settings="rank 4")},
     [("Use b.safetensors", "best/toy.safetensors is a copy", "rank 4")]),
    (TOO_LATE, {}, [("more slowly", "lower learning rate over more epochs")]),
    (UNLIKE, {}, ["more epochs or a higher learning rate", "trigger word"]),
    ({"outcome": "poor"}, {}, ["lower learning rate over more epochs"]),
    ({"outcome": "unfinished"}, {}, ["budget.trials"]),
    ({"outcome": "nothing"}, {"cost": Cost(failed=2)}, ["made the trials fail"]),
    ({"outcome": "nothing"}, {"cost": Cost()}, []),
]  # fmt: skip


def test_what_to_do() -> None:
    for decision, given, parts in DO:
        tells(say(verdict(decision, **given)).do, parts)


BOTH = [("Context onset: none", "epoch 40"), ("Memory onset: none", "epoch 40"), "not known"]
FRONT = Front((Place(3, 12, 0.9, 0.1),), Place(3, 12, 0.9, 0.1), None, 2)

WHY: list[tuple[Any, Any, Any]] = [
    ({}, {}, ["Epoch 12 has the best losses of all checkpoints", "from epoch 8 on.", *BOTH]),
    ({"objective": "a:b", "own_score": 0.25}, {}, ["best losses", ("a:b", "0.250"), "from epoch 8", *BOTH]),
    ({"objective": "a:b"}, {}, ["best losses", "what a:b makes of the readings.", "from epoch 8", *BOTH]),
    ({"objective": "a:b", "score": None}, {}, ["best losses", "from epoch 8", *BOTH]),
    ({}, {"plateau": (4, 16)}, ["best losses", "Epochs 8 to 16 score alike", *BOTH]),
    ({}, {"plateau": (10, 16)}, ["best losses", "Epochs 10 to 16 score alike", *BOTH]),
    ({}, {"plateau": (4, 8)}, ["best losses", "subject from epoch 8 on.", *BOTH]),
    ({"learned": None, "learned_by": "losses"}, {}, ["best losses", "look at the contact sheet first", *BOTH]),
    ({"learned": None, "learned_by": ""}, {}, ["best losses", *BOTH]),
    ({}, {"params": {}, "cost": Cost(complete=1), "peak": Peak(16, 0.6, 12, 20), "plateau": (4, 16)},
     ["best losses", "from epoch 8 on.", ("best at epoch 16", "0.600", "epochs 12 to 20 score alike"), *BOTH]),
    ({}, {"params": {}, "cost": Cost(complete=1), "peak": Peak(16, 0.6, 16, 16)},
     ["best losses", "from epoch 8 on.", "best at epoch 16, with a score of 0.600.", *BOTH]),
    ({}, {"peak": Peak(16, 0.6, 12, 20)}, ["best losses", "from epoch 8 on.", *BOTH]),
    ({}, {"front": FRONT}, ["best losses", "from epoch 8", *BOTH, "Of the 2 trials"]),
    ({"kind": "final"}, {"final": FinalRun(10, "dog")},
     ["best losses", "from epoch 8", "no average", "The study dog found epoch 10; here it is 12.", *BOTH[:2],
      "none to compare with"]),
    ({**TOO_LATE, "likeness": 0.456}, {}, [("at most 0.46 of 1", "after held-out photos"), "from epoch 8", *BOTH]),
    ({**UNLIKE, "likeness": -0.1}, {}, [("Up to epoch 40", "at most 0.00 of 1"), *BOTH]),
    ({**UNLIKE, "likeness": None}, {}, [("Up to epoch 40", "than the base's."), *BOTH]),
    ({"outcome": "poor"}, {}, ["epoch 12. They hardly show", "from epoch 8", *BOTH]),
    ({"outcome": "unfinished", "learned": None, "learned_by": "losses"}, {}, ["(pruned)", *BOTH]),
    ({"outcome": "nothing"}, {}, []),
]  # fmt: skip


def test_why() -> None:
    for decision, given, parts in WHY:
        tells(say(verdict(decision, **given)).why, parts)


def found(epoch: float, low: float, high: float | None = 30.0, *channels: str, status="found") -> OnsetFound:
    return OnsetFound(status, epoch, low, high, channels)


SAFE = Choice(8, 8, 8)

REASONS: list[tuple[Any, Any]] = [
    ({"context": BEYOND, "memory": OnsetFound("beyond", channels=("copying",))}, "has the best losses of all"),
    ({"context": OnsetFound("beyond", channels=("prompt",)), "memory": OnsetFound("unmeasured")},
     "scores best of all"),
    ({"context": found(20, 16, 30, "shifted_loss")},
     "has the best losses of the checkpoints that show the subject and lie before the context onset."),
    ({"context": OnsetFound("unmeasured"), "memory": found(20, 16, 30, "copying"), "learned": None},
     "scores best of the checkpoints that lie before the memory onset."),
    ({"context": found(20, 16, 30, "prompt"), "memory": found(15, 13, 18, "heldout_loss")}, "before the memory"),
    ({"context": found(12.04, 10, 30, "prompt")}, "before the context onset. It lies just before that onset."),
    ({"context": found(12.06, 10, 30, "prompt")}, "before the context onset."),
    ({"context": found(20, 16), "learned": 16}, "The subject is learned only after it."),
    ({"context": found(12, 10)}, "is the first checkpoint that shows the subject. None lies before the context"),
    ({"safe": SAFE, "chosen_by": "likeness"}, "last checkpoint before the photos are memorised (score.ship: l"),
    ({"safe": SAFE, "chosen_by": "balanced"}, "later than the safe epoch, because"),
    ({"safe": SAFE, "chosen_by": "balanced", "context": found(20, 16, 30, "shifted_loss"),
      "memory": OnsetFound("unmeasured")}, "No photos are held out, and losses of moved subjects alone turn early"),
    ({"safe": SAFE, "chosen_by": "balanced", "memory": OnsetFound("unmeasured"),
      "context": found(20, 16, 30, "context_loss")}, "later than the safe epoch, because"),
    ({"safe": Choice(12, 12, 12), "chosen_by": "likeness"}, "has the best losses of all checkpoints"),
]  # fmt: skip


def test_the_reason_for_the_epoch() -> None:
    for decision, words in REASONS:
        reason = say(verdict(decision)).why[0]
        assert reason.startswith("Epoch 12 ")
        assert words in reason
        assert reason.endswith(words) or not words.endswith(".")


LAST = {"epoch": 40}
AGAINST = Disagreement(12, 36, 0.5, -0.8, True)

SURE: list[tuple[Any, Any, Any]] = [
    ({}, {}, []),
    (LAST, {}, ["Epoch 40 is the last checkpoint. More epochs (train.epochs) may be better still."]),
    ({**LAST, "kind": "final"}, {"final": FinalRun(9)}, ["More epochs (final.past) may"]),
    ({**LAST, "kind": "finished", "unit": "step"}, {"finished_run": FinishedRun({40: "a"}, "step", held_out=3)},
     ["not trained on 3 of the photos", "More steps may"]),
    ({}, {"finished_run": FinishedRun({12: "a"})}, ["All photos were trained on"]),
    ({**LAST, "memory": found(50, 45, None)}, {}, ["may also come after epoch 40"]),
    ({"memory": found(20, 16, None)}, {}, ["may also come after epoch 40, the last checkpoint"]),
    ({"memory": found(20, 16)}, {}, []),
    ({"disagreement": AGAINST}, {}, ["disagree", ("cache/probe/composites.png", "score.shifted.masks")]),
    ({}, {"ties": (1,), "noise": 0.012}, [("Trial 1 is about as good", "±0.012", "smallest LoRA")]),
    ({}, {"ties": (1, 5), "noise": 0.012}, [("Trials 1 and 5 are about as good", "±0.012")]),
    ({"objective": "a:b"}, {"ties": (1,), "noise": 0.012}, [("±0.012", "The highest wins.")]),
    ({}, {"ties": (1,), "finalists": FRESH}, ["drawn again", ("Trial 1 is", "do not tell the two apart")]),
    ({}, {"ties": (1, 2), "finalists": FRESH}, ["drawn again", ("Trials 1 and 2", "do not tell them apart")]),
    ({"outcome": "poor"}, {"ties": (1,), "finalists": FRESH}, []),
    ({}, {"cost": Cost(complete=3, failed=1)}, ["1 trial failed."]),
    ({}, {"cost": Cost(complete=3, failed=2)}, ["2 trials failed."]),
]  # fmt: skip


def test_how_sure() -> None:
    for decision, given, parts in SURE:
        tells(say(verdict(decision, **given)).sure, parts)


def test_the_last_error_is_told_by_its_last_line() -> None:
    failed = verdict(cost=Cost(complete=3, failed=2))
    assert say(failed, ["ValueError: a", "Traceback:\n  …\nOSError: b\n"]).sure == (
        "2 trials failed. The last error: OSError: b",
    )
    assert say(failed, ["ValueError: a", " \n"]).sure == ("2 trials failed.",)
    assert say(verdict(), ["ValueError: a"]).sure == ()


INSIDE: list[tuple[Any, Any]] = [
    ({"context": found(20, 12)}, []),  # not yet inside
    ({"context": found(20, 11.9)}, ["Epoch 12 lies inside the interval of the context onset"]),
    ({"context": found(20, 11), "memory": found(18, 10)},
     [("interval of the memory onset", "To be surer, take epoch 8.")]),
    ({"context": found(20, 9), "memory": found(30, 10)}, ["interval of the context onset"]),
    ({"context": found(20, 8)}, ["take epoch 8."]),
    ({"context": found(20, 7.9)}, ["No earlier epoch is safer", "lower learning rate"]),
    ({"context": found(20, 11), "learned": 2}, ["take an epoch from 2 to 8."]),
    ({"context": found(20, 11), "learned": 2, "unit": "step"}, [("Step 12 lies", "take a step from 2 to 8.")]),
    ({"context": found(20, 11), "learned": None}, ["may already have begun."]),
    ({"context": found(20, 11), "safe": Choice(4, 4, 4)}, ["take epoch 4 (score.ship: safe)."]),
    ({"context": found(20, 11), "safe": Choice(12, 8, 12)}, ["take epoch 8."]),
    ({"context": found(20, 11), "chosen_by": "likeness"}, []),
    ({"context": found(20, 11, 30, "shifted_loss")}, ["take epoch 8.", "score.holdout_contexts"]),
    ({"context": found(20, 11, 30, "shifted_loss", "context_loss")}, ["take epoch 8."]),
    ({"memory": found(20, 11, 30, "heldout_loss")}, ["take epoch 8."]),
    ({"context": found(4, 0, 30, "shifted_loss", status="at_start")},
     [("Epoch 4 is the first checkpoint", "(train.save_every_n_epochs)")]),
    ({"context": found(4, 0, 30, status="at_start"), "kind": "finished"},
     [("Epoch 4 is the first checkpoint", "Save more often or use")]),
]  # fmt: skip


def test_an_epoch_inside_an_interval() -> None:
    for decision, parts in INSIDE:
        tells(say(verdict(decision)).sure, parts)


def test_a_run_that_saves_each_epoch_can_only_look_within_one() -> None:
    each = CONFIG.model_copy(update={"save_every_n_epochs": 1})
    tells(say(verdict({"context": found(4, 0, 30, status="at_start")}, config=each)).sure, ["(train.steps_per_epoch)"])


def test_an_average_is_told_with_what_it_wins_and_what_its_rank_loses() -> None:
    average = Average((8, 12, 16), 0.55, 0.5, 0.02, lost=0.012)

    def told(average: Average, ships: tuple[int, int] | None) -> str:
        decision = {"kind": "final", "average": ships}
        return say(verdict(decision, final=FinalRun(10, average=average))).why[2]

    better = told(average, (8, 16))
    assert "epochs 8, 12, 16 scores 0.550, more than epoch 12 alone (0.500)" in better
    assert better.endswith("Its rank holds 98.8 % of that average.")
    worse = told(replace(average, lost=0.0099), None)
    assert "scores 0.550, and epoch 12 alone 0.500" in worse
    assert worse.endswith("the noise (±0.020), so the checkpoint itself ships.")
    assert "holds 99.0 %" in told(replace(average, lost=0.01), None)
    expected = say(verdict({"kind": "final"}, final=FinalRun(10))).why[3]
    assert expected == "The study file expects epoch 10; here it is 12."


def test_what_it_took_counts_what_came_after_the_search() -> None:
    spent = Cost(complete=3, seconds=60.0)
    assert len(say(verdict(cost=spent)).took) == 1
    assert say(verdict(cost=spent, finalists=FRESH)).took[1:] == ("Drawing the finalists again took 1 min 30 s more.",)
    twice = replace(FRESH, drawn=(replace(FRESH.drawn[0], trainings=(0.4, 0.6)),))
    assert "and training them a second time took 1 min 30 s" in say(verdict(cost=spent, finalists=twice)).took[1]
    run = FinishedRun({4: "a", 12: "b"})
    (took,) = say(verdict(finished_run=run, cost=Cost(seconds=70.0, sample=40.0, score=30.0, wall_seconds=45.0))).took
    for part in ("2 checkpoints", "45 s on the clock", "1 min 10 s of worker time", "drawing 40 s", "scoring 30 s"):
        assert part in took
    assert "on the clock" not in say(verdict(finished_run=run)).took[0]


def test_a_contradiction_is_told_once_and_among_the_doubts() -> None:
    against = Disagreement(12, 36, 0.5, -0.8, True)
    said = say(verdict({"disagreement": against}))
    assert sum("disagree" in sentence for sentence in said.sure) == 1
    assert not any("disagree" in sentence for sentence in (*said.do, *said.why, *said.took))


def test_what_all_photos_are_is_told_of_a_run_that_ships() -> None:
    run = verdict({"kind": "final"}, final=FinalRun(10), photos=(24, 6))
    assert any(s.startswith("It was trained on all 30 photos.") and "trained on 24 of them" in s for s in say(run).do)
