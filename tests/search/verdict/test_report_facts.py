"""The large numbers at the head of a report, all of them, for each kind of study."""

from dataclasses import replace

from metrics.onset.turns import Choice
from search.record.final_run import FinalRun
from search.record.finalists import Finalist, Finalists
from search.record.finished_run import FinishedRun
from search.verdict.cost import Cost
from search.verdict.decision import Decision, OnsetFound
from search.verdict.plateau import Peak
from search.verdict.report_facts import Fact, facts_of
from search.verdict.verdict import Verdict

CONTEXT = OnsetFound("found", 17.26, 8.0, None, ("prompt",))
FOUND = Decision("ship", 3, 12, 0.5, 8, "images", CONTEXT, OnsetFound("beyond", channels=("copying",)), last=40)
PLAIN = Verdict(
    "toy", FOUND, params={"rank": 8}, epochs=40, epochs_trained=32, cost=Cost(complete=2, seconds=70.0, wall_seconds=9)
)


def test_a_searchs_facts() -> None:
    assert facts_of(PLAIN) == [
        Fact("12", "epoch to ship", "ship"),
        Fact("0.500", "score at epoch 12 (0 to 1)"),
        Fact("17.3", "context onset (8–open)", "onset"),
        Fact("no copies", "memory onset"),
        Fact("32 / 40", "epochs trained / planned"),
        Fact("2", "trials"),
        Fact("9 s", "on the clock"),
    ]


def test_what_is_known_of_a_part_only() -> None:
    def without(verdict: Verdict) -> list[Fact]:
        before = facts_of(PLAIN)
        return [fact for fact in facts_of(verdict) if fact not in before]

    assert without(replace(PLAIN, lora_bytes=2_400_000)) == [Fact("2.4 MB", "LoRA file")]
    assert without(replace(PLAIN, cost=Cost(complete=1, seconds=70.0))) == [
        Fact("1", "trial"),
        Fact("1 min 10 s", "of worker time"),
    ]
    nothing = Verdict("toy", cost=Cost(failed=2, seconds=5.0))
    assert facts_of(nothing) == [Fact("2", "trials"), Fact("5 s", "of worker time")]
    assert without(replace(PLAIN, decision=replace(FOUND, outcome="poor"))) == [Fact("none", "epoch to ship")]
    assert len(facts_of(replace(PLAIN, decision=replace(FOUND, score=None)))) == len(facts_of(PLAIN)) - 1
    fresh = Finalists({}, (Finalist(3, 12, 0.45, 0.5, 0.4, 0.6, best=1.0),))
    assert without(replace(PLAIN, finalists=fresh)) == [Fact("0.500", "score at epoch 12 on fresh images (0 to 1)")]
    asked = replace(FOUND, objective="a:b", own_score=0.25)
    assert without(replace(PLAIN, decision=asked)) == [
        Fact("0.500", "score at epoch 12 by a:b"),
        Fact("0.250", "Onset's own score there (0 to 1)"),
    ]
    alone, peak = replace(PLAIN, params={}, cost=Cost(complete=1, wall_seconds=9)), Peak(16, 0.6, 12, 20)
    assert Fact("16", "epoch of the best images (12–20)") in facts_of(replace(alone, peak=peak))
    assert Fact("16", "epoch of the best images") in facts_of(replace(alone, peak=replace(peak, first=20)))
    assert without(replace(PLAIN, peak=peak)) == []


def test_both_epochs_that_can_ship_are_told_where_they_differ() -> None:
    def choices(safe: Choice | None, alike: Choice | None) -> list[Fact]:
        told = facts_of(replace(PLAIN, decision=replace(FOUND, safe=safe, alike=alike)))
        return [fact for fact in told if fact.word.startswith(("safe", "most alike"))]

    here, there = Choice(8, 4, 12), Choice(16, 16, 16)
    assert choices(here, there) == [Fact("8", "safe epoch (4–12)"), Fact("16", "most alike epoch")]
    assert choices(here, here) == choices(None, None) == []
    assert choices(here, None) == [Fact("8", "safe epoch (4–12)")]


def test_a_run_that_is_no_search() -> None:
    run = replace(PLAIN, finished_run=FinishedRun({600: "a"}, "step"), decision=replace(FOUND, unit="step"))
    words = [fact.word for fact in facts_of(run)]
    assert words[:2] == ["step to ship", "score at step 12 (0 to 1)"]
    assert Fact("32", "steps trained") in facts_of(run)
    assert not any("epoch" in word for word in words)
    final = replace(PLAIN, final=FinalRun(12), decision=replace(FOUND, kind="final", average=(8, 16)))
    assert facts_of(final)[0] == Fact("8–16", "epochs whose average is to ship", "ship")
