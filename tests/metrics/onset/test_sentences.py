"""An onset in words: which sentences there are, with which epochs."""

from dataclasses import replace

from metrics.onset.behaviour import LEARNED_FLOOR
from metrics.onset.sentences import (
    READ_FROM,
    channels_text,
    choice_interval,
    choice_sentences,
    copying_sentence,
    disagreement_text,
    epoch_text,
    interval_text,
    listed,
    percent_text,
    sentence,
    turn_sentences,
    worse_sentence,
)
from metrics.onset.turns import Choice, Copying, Disagreement, Onset, Turn

FOUND = Turn("found", 17.26, 8.0, None, ("context_loss",))
BEYOND, UNMEASURED = Turn("beyond", channels=("heldout_loss",)), Turn("unmeasured")
ONSET = Onset("found", FOUND, BEYOND, learned=4, best=12)


def test_epochs_intervals_and_shares_have_one_form() -> None:
    epochs = {16: "16", 16.04: "16", 15.96: "16", 16.06: "16.1", 99.94: "99.9", 100.4: "100", 131.8: "132", 0.5: "0.5"}
    assert {epoch: epoch_text(epoch) for epoch in epochs} == epochs
    assert [interval_text(*ends) for ends in ((None, 3), (8.25, None), (8, 16.6))] == ["", "8.2–open", "8–16.6"]
    assert [percent_text(ratio) for ratio in (0.0, 0.5, -0.8, 0.004)] == ["+0 %", "+65 %", "−55 %", "+0 %"]
    assert [listed("abc"[:count]) for count in range(4)] == ["", "a", "a and b", "a, b and c"]
    assert channels_text(["prompt", "other"], {"prompt": "words"}) == "words and other"
    assert channels_text(list(READ_FROM)[:1]) == "moved subjects"


def test_each_turn_says_where_it_lies_and_what_that_means() -> None:
    def told(kind: str, turn: Turn, **given: str) -> tuple[str, str]:
        return turn_sentences(kind, turn, 40, **given)

    where, meaning = told("context", FOUND)
    assert where == "Context onset: epoch 17.3 (90 % sure: 8–open)."
    assert meaning == "From there on, the subject gets worse in contexts that the photos do not show."
    assert told("context", replace(FOUND, low=None))[0] == "Context onset: epoch 17.3."
    start = replace(FOUND, status="at_start", epoch=4.0, low=0.0, high=8.0)
    assert told("memory", start, unit="step")[0] == "Memory onset: step 4, the first checkpoint (90 % sure: 0–8)."
    assert "photos of the same shoots that a twin was not trained on" in told("memory", start, reader="a twin")[1]
    copies = replace(FOUND, channels=("heldout_loss", "copying"))
    assert told("memory", copies)[1] == "From there on, images copy the photos."
    assert "contexts" in told("context", copies)[1]
    assert told("context", UNMEASURED) == ("Context onset: not measured.", "")
    assert told("memory", BEYOND) == ("Memory onset: none up to epoch 40, the last checkpoint.", "")
    only = replace(BEYOND, channels=("copying",))
    where, meaning = told("memory", only)
    assert where == "Memory onset: no copies of the photos up to epoch 40, the last checkpoint."
    assert "no photos are held out" in meaning
    assert told("context", only) == ("Context onset: none up to epoch 40, the last checkpoint.", "")


def test_what_can_be_shipped_is_told_where_there_is_a_choice() -> None:
    safe, alike = Choice(10, 8, 12), Choice(20, 16, None)
    assert [choice_interval(choice) for choice in (safe, alike, Choice(8, 8, 8), Choice(8, 8, None))] == [
        "8–12", "16–open", "", "",
    ]  # fmt: skip
    memory = replace(FOUND, channels=("heldout_loss",))
    both = replace(ONSET, safe=safe, alike=alike, memory=memory)
    first, second = choice_sentences(both, 40)
    assert first.startswith("Safe: epoch 10 (90 % sure: 8–12).")
    assert second.startswith("Most alike: epoch 20 (90 % sure: 16–open). It is the last checkpoint before")
    assert second.endswith("than at the safe epoch.")
    never = replace(both, memory=BEYOND)
    assert "epoch 20, the last checkpoint with a loss on held-out photos. The" in choice_sentences(never, 40)[1]
    assert "epoch 20, the last checkpoint. The photos are not memorised" in choice_sentences(never, 20)[1]
    later = replace(never, alike=replace(alike, high=24))
    assert "epoch 20. Later ones know photos of the subject less well" in choice_sentences(later, 40)[1]
    for none in (replace(both, safe=None), replace(both, alike=None), replace(both, alike=replace(alike, epoch=10))):
        assert choice_sentences(none, 40) == ()
    assert all("step" in each for each in choice_sentences(both, 40, "step"))


def test_copies_and_contradictions_have_their_numbers() -> None:
    # ln(4/3), ln(10/9), ln(2): 25, 10 and 50 % nearer
    seen = Copying("seen", 12, 0.28768207, 0.10536052, 0.69314718)
    assert "in drawings at epoch 12: " in copying_sentence(seen)
    assert "come 25 % nearer" in copying_sentence(seen)
    assert "(90 % sure: 10–50 %)" in copying_sentence(seen)
    assert "later, at step 12" in copying_sentence(replace(seen, status="later"), "step")
    assert copying_sentence(Copying("unseen")).startswith("No sign")
    assert copying_sentence(Copying("unmeasured")) == ""
    against = Disagreement(12, 36, 0.5, -0.8, True)
    told = disagreement_text(against)
    assert "After epoch 12 the loss rises on subjects" in told
    assert "(+65 % against the base at epoch 36). It falls on real photos of held-out contexts (−55 %)" in told
    assert "the loss falls on subjects" in disagreement_text(replace(against, moved_rises=False))


def test_a_loss_that_only_gets_worse_is_named_once() -> None:
    assert worse_sentence([], "epoch") == ""
    turns = [Turn("found", 4.0, channels=("shifted_loss", "heldout_loss")), replace(FOUND, channels=("heldout_loss",))]
    assert worse_sentence(turns, "step").startswith(
        "From the first step looked at, the loss on moved subjects and held-out photos only gets worse."
    )


def test_the_whole_is_made_of_what_is_known() -> None:
    def told(onset: Onset, note: str = "", worse: str = "") -> str:
        return sentence(onset, note, "epoch", 40, worse)

    context = " ".join(turn_sentences("context", FOUND, 40))
    assert told(ONSET) == f"Ship epoch 12. {context} Memory onset: none up to epoch 40, the last checkpoint."
    assert told(ONSET, "it is so").startswith("Ship epoch 12: it is so. Context onset")
    assert told(replace(ONSET, memory=UNMEASURED)) == f"Ship epoch 12. {context}"
    unknown = replace(ONSET, context=UNMEASURED, memory=UNMEASURED)
    assert told(unknown) == "Ship epoch 12. Nothing here says when overfitting begins."
    assert told(unknown, worse="Worse.") == told(unknown)
    assert told(replace(unknown, learned=None), worse="Worse.") == f"{told(unknown)} Worse."
    seen = Copying("seen", 12, 0.3, 0.1, 0.5)
    assert told(replace(unknown, copying=seen)) == f"{told(unknown)} {copying_sentence(seen)}"
    assert told(replace(unknown, copying=Copying("unseen"))).endswith("come back in drawings.")
    against = Disagreement(12, 36, 0.5, -0.8, True)
    assert told(replace(unknown, disagreement=against)) == f"{told(unknown)} {disagreement_text(against)}"
    chosen = replace(ONSET, safe=Choice(10, 10, 10), alike=Choice(20, 20, 20))
    assert told(chosen).startswith(" ".join(["Ship epoch 12.", *choice_sentences(chosen, 40), "Context"]))
    never = replace(ONSET, status="never_learned")
    assert told(never) == "Up to epoch 40, the subject was not learned. So there is nothing to overfit yet."
    assert told(never, worse="Worse.") == "Up to epoch 40, the subject was not learned. Worse."
    late = replace(never, likeness=LEARNED_FLOOR)
    assert "only after overfitting had begun" in told(late)
    assert "was not learned" in told(replace(late, likeness=LEARNED_FLOOR - 1e-9))
