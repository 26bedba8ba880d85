"""What is said of a judgement on block weights: every sentence, for weights that win and for those that do not."""

from dataclasses import replace

from search.record.judgement import Change, Judgement
from search.verdict.delivery_sentences import say_judgement
from search.verdict.said import Said

BETTER = Change(0.471, 0.2, 0.271, 0.1, 0.4)
WORSE = Change(-0.0042, -0.3, -0.2958, -0.5, -0.1)
SAME = Change(0.5, 0.5, 0.0001, -0.01, 0.0123)
WINS = Judgement(
    2, {"IN": 0.0, "M": 1.0, "OUT": 0.5}, {}, "1,0,0.5", likeness=Change(0.8, 0.75, -0.05, -0.1, 0.0),
    changes={"background": BETTER, "prompt": WORSE, "copying": SAME}, wins=("background",), costs=("prompt",),
    plain=0.85, plain_values={"background": 0.3}, images=8, prompts=4,
)  # fmt: skip
JUDGED = (
    "Judged on 8 images of 4 prompts with seeds that the search never saw. All intervals together hold in 95 of 100 "
    "cases."
)
CHANGES = (
    "The photos' background in new contexts (0 as the base, 1 as in the photos): 0.47 → 0.20 (better by 0.27, 0.10 to "
    "0.40): surely better.",
    "Obedience to prompts against the base (0 as the base): -0.004 → -0.30 (better by -0.30, -0.50 to -0.10): surely "
    "worse.",
    "Copying of photos (0.5 as near as they are to each other): 0.50 → 0.50 (better by 0, -0.01 to 0.01): no sure "
    "change.",
    "Likeness to the subject (1 as the photos): 0.80 → 0.75 (better by -0.05, -0.10 to 0).",
)


def said(found: Judgement, gate: tuple[str, ...] = ()) -> Said:
    return say_judgement(found, "dog.safetensors", "toy", looks=30, seconds=90.0, gate=gate)


def test_weights_that_win_are_told_with_all_that_they_change() -> None:
    told = said(WINS)
    assert told.headline == "Turn down IN to 0 and OUT to 0.5."
    assert told.do == (
        "Use best/toy.safetensors at strength 1.",
        "Or the old file in a WebUI with sd-webui-lora-block-weight: <lora:dog:1:lbw=1,0,0.5>",
    )
    plain = (
        "The whole LoRA at strength 0.85 would be as alike and read the photos' background in new contexts 0.30 "
        "instead of 0.20."
    )
    assert told.why == (*CHANGES, plain)
    assert told.sure == (JUDGED,)
    assert told.took == ("30 sets of block weights were looked at in 1 min 30 s. Nothing was trained.",)


def test_weights_are_listed_as_people_do() -> None:
    heads = {
        (0.5,): "IN to 0.5",
        (0, 1, 0.25): "IN to 0 and OUT to 0.25",
        (0, 0.5, 0): "IN to 0, M to 0.5 and OUT to 0",
    }
    for weights, words in heads.items():
        params = dict(zip(("IN", "M", "OUT"), weights, strict=False))
        assert said(replace(WINS, params=params)).headline == f"Turn down {words}."


def test_the_whole_lora_turned_down_is_told_as_far_as_it_was_read() -> None:
    def last(**changed) -> str:
        return said(replace(WINS, **changed)).why[-1]

    cost = "Turning the whole LoRA down would cost likeness that these weights keep."
    assert last(plain=1.0) == last(plain=1.2) == cost
    assert last(plain_values={"background": 0.2}).endswith("in new contexts 0.20, as these weights do.")
    for untold in ({"plain": None}, {"wins": ()}, {"plain_values": {"prompt": 0.1}}):
        assert said(replace(WINS, **untold)).why[-1].startswith("Likeness to the subject")
    assert len(said(replace(WINS, likeness=None, plain=None)).why) == 3


def test_where_nothing_wins_the_file_stays_as_it_is() -> None:
    lost = replace(WINS, why_not="nothing is surely better", wins=())
    told = said(lost)
    assert told.headline == "Nothing to win: use it as it is."
    assert told.do == ("Use dog.safetensors as it is (best/toy.safetensors is a copy).",)
    assert told.why[0] == (
        "The best weights that the search found turn down IN to 0 and OUT to 0.5. They are not taken, because nothing "
        "is surely better."
    )
    assert told.why[1] == CHANGES[0].replace("surely better", "no sure change")
    bare = "Nothing is turned down, because nothing is surely better."
    assert said(replace(lost, images=0)).why[0] == said(replace(lost, params={})).why[0] == bare
    assert (
        said(replace(lost, params={"IN": 1.0})).why[0].startswith("The best weights that the search found turn down n")
    )


def test_faults_of_the_file_are_told_and_nothing_of_images_that_were_not_looked_at() -> None:
    faults = "The file has faults: a; b. python -m trainer.deliver says what to do."
    assert said(WINS, ("a", "b")).sure == (JUDGED, faults)
    assert said(replace(WINS, images=0), ("a", "b")).sure == (faults,)
    assert said(replace(WINS, images=0)).sure == ()
