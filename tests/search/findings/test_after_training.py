"""What drawings and losses tell: planted drawings, of which each tag's effect is known, and planted losses."""

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from metrics.checkpoint.image_descriptors import Traits
from metrics.trajectory.readings import Reading, Readings
from search.findings.after_training import draw_tags, drawing_findings, learning_findings, with_training
from search.findings.before_training import CheckedPhotos
from search.findings.sentences import told
from search.record.data_check import DataCheck, Finding

CHANNEL = {"red": 0, "green": 1, "blue": 2}
CAPTIONS = ("sks toy, red", "sks toy, green", "sks toy, blue", "sks toy, red, green", "sks toy, red, blue", "sks toy")


def painted(tags: Sequence[str]) -> np.ndarray:
    """A grey image, lighter in the channel of each tag; uint8 `[4, 4, 3]`."""
    image = np.full((4, 4, 3), 40, np.uint8)
    for tag in tags:
        image[..., CHANNEL[tag]] = 200
    return image


def said(prompt: str) -> list[str]:
    return [tag for tag in CHANNEL if tag in prompt.split(", ")]


class ByColour:
    """An encoder that sees the mean colour, and knows the three tags."""

    def images(self, images: Sequence[np.ndarray], *, cache: bool = True) -> np.ndarray:
        means = np.stack([image.reshape(-1, 3).mean(axis=0) for image in images])
        return means / np.linalg.norm(means, axis=1, keepdims=True)

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        return self.images([painted(said(text)) for text in texts])


class Drawn:
    """Draws what the prompt says. The LoRA obeys red alone: it always draws green, and never blue."""

    def __init__(self) -> None:
        self.asked: dict[bool, list[tuple[str, int]]] = {}

    def __call__(self, prompts: Sequence[str], seeds: Sequence[int], trained: bool) -> np.ndarray:
        self.asked[trained] = list(zip(prompts, seeds, strict=True))
        of_lora = [[tag for tag in said(prompt) if tag == "red"] + ["green"] for prompt in prompts]
        return np.stack([painted(tags) for tags in (of_lora if trained else map(said, prompts))])


def photos(captions: Sequence[str] = CAPTIONS) -> CheckedPhotos:
    count = len(captions)
    files = tuple(f"1_sks toy/{row:02d}.png" for row in range(count))
    image = np.zeros((4, 4, 3), np.uint8)
    return CheckedPhotos(files, (image,) * count, ((4, 4),) * count, ((4, 4),) * count, tuple(captions), "sks", "toy")


def test_each_tag_is_drawn_with_and_without_and_gets_its_verdict() -> None:
    drawn = Drawn()
    found = draw_tags(photos(), ByColour(), drawn, seeds=[5, 6, 7], captions=4, most=10)
    verdicts = {effect.tag: effect.verdict for effect in found.effects}
    assert verdicts == {"red": "reflected", "green": "absorbed", "blue": "lost"}
    assert found.effects[0].base == pytest.approx(found.effects[0].base_low, abs=0.6)
    without, tagged = np.split(found.pairs["red"], 2, axis=1)
    assert (without[..., 0].mean(), tagged[..., 0].mean()) == (40, 200)
    assert all("sks" in prompt for prompt, _ in drawn.asked[True])
    assert [(f"sks {p}", s) for p, s in drawn.asked[False]] == drawn.asked[True], "the base is asked for the class"
    assert {seed for _, seed in drawn.asked[True]} == {5, 6, 7}


def test_no_more_tags_and_captions_are_drawn_than_asked_for() -> None:
    drawn = Drawn()
    captions = [f"sks toy, red, scene {number}" for number in range(6)] + ["sks toy, green"]
    found = draw_tags(photos(captions), ByColour(), drawn, seeds=[5], captions=2, most=1)
    assert [effect.tag for effect in found.effects] == ["red"], "the one that is used most"
    scenes = [int(prompt[-1]) for prompt, _ in drawn.asked[True]]
    assert sorted(set(scenes)) == [0, 3], "spread over those that say it"


def test_captions_without_tags_are_not_drawn() -> None:
    drawn = Drawn()
    found = draw_tags(photos(["sks toy", "sks toy"]), ByColour(), drawn, seeds=[5], captions=2, most=4)
    assert (found.effects, dict(found.pairs), drawn.asked) == ((), {}, {})


def test_a_tag_that_all_captions_say_is_told_once() -> None:
    effects = draw_tags(photos(), ByColour(), Drawn(), seeds=[5, 6, 7], captions=4, most=10).effects
    change = Finding("blurred", "replace", ("a.png",))
    before = DataCheck("s", "d", 6, 6.0, findings=(Finding("tag_everywhere", "reword", tag="green"),))
    check = with_training(before, photos(), effects, [Finding("never_fitted", "know", ("b.png",)), change])
    assert [(one.kind, one.tag) for one in check.findings] == [
        ("tag_everywhere", "green"), ("blurred", ""), ("never_fitted", ""), ("tag_lost", "blue"),
    ]  # fmt: skip
    assert check.trained
    assert [effect.tag for effect in check.tags] == ["red", "green", "blue"]
    plain = with_training(DataCheck("s", "d", 6, 6.0), photos(), effects, [])
    absorbed = next(one for one in plain.findings if one.kind == "tag_absorbed")
    assert (absorbed.tag, absorbed.action, len(absorbed.evidence)) == ("green", "reword", 2)


def traits(count: int, **changed: np.ndarray) -> Traits:
    return Traits(**{field.name: changed.get(field.name, np.zeros((count, 0))) for field in fields(Traits)})


@pytest.mark.parametrize(
    ("readings", "kinds"),
    [
        ({"scatter": (3.0, 2.2), "framing": (4.0, 3.5)}, ["colours_scatter", "framing_off"]),
        ({"scatter": (3.0, 1.9), "framing": (4.0, 3.5)}, ["framing_off"]),  # its interval reaches what is usual
        ({"framing": (4.0, 3.5)}, ["framing_off"]),
        ({"scatter": (3.0, 2.2), "framing": (4.0, 2.9)}, ["colours_scatter"]),
        ({}, []),
    ],
)
def test_colours_and_framing_that_are_surely_off_name_the_photos_that_differ_most(readings, kinds) -> None:
    odd = np.zeros((6, 3))
    odd[4] = 9.0
    known = {name: Reading(value, low, value + 1) for name, (value, low) in readings.items()}
    of_photos = traits(6, colour_means=odd, framings=odd[::-1])
    found = list(drawing_findings(photos(), of_photos, Readings(1, 0.1, known), np.zeros((0, 2)), np.zeros((0, 2))))
    assert [one.kind for one in found] == kinds
    named = {"colours_scatter": ("1_sks toy/04.png",), "framing_off": ("1_sks toy/01.png",)}
    assert [one.photos for one in found] == [named[kind] for kind in kinds]
    assert all(Path(one.photos[0]).name in told(one).do for one in found)


def test_a_photo_that_new_drawings_come_near_to_is_named_with_both_shares() -> None:
    of_photos = traits(6, features=np.eye(6))
    base, drawn = np.eye(6)[np.arange(24) % 6], np.eye(6)[[2] * 18 + [0, 1, 3, 4, 5, 0]]
    (found,) = drawing_findings(photos(), of_photos, Readings(1, 0.1, {}), drawn, base)
    assert (found.kind, found.photos) == ("pulls_drawings", ("1_sks toy/02.png",))
    assert found.evidence[0].value == pytest.approx(75)
    assert found.evidence[0].usual == pytest.approx(100 / 6)


def test_photos_that_are_learned_first_or_never_are_named_with_the_change_of_their_loss() -> None:
    base = np.ones((8, 2, 4))
    early, late = base * 0.9, base * 0.3
    early[3], early[5] = 0.29, 1.005
    late[3], late[5] = 0.28, 1.01  # the others have caught up with the one, and left the other behind
    files = [f"{row}.png" for row in range(8)]
    never, first = learning_findings(files, [2, 4, 10], np.array([early, early, late]), base)
    assert [(one.kind, one.photos) for one in (never, first)] == [
        ("never_fitted", ("5.png",)), ("memorised_first", ("3.png",)),
    ]  # fmt: skip
    change, reached = first.evidence
    assert (change.value, change.usual) == (pytest.approx(-72), pytest.approx(-70))
    assert (reached.value, reached.usual, reached.usual_is) == (2, 10, "the end")
    assert never.evidence[0].value == pytest.approx(1)
    change, low, high, usual = (100 * (loss - 1) for loss in (1.01, 1.01, 1.01, 0.3))
    assert [(one.value, one.low, one.high, one.usual) for one in never.evidence] == [
        tuple(map(pytest.approx, (change, low, high, usual)))
    ], "it never comes as low as the others"
    fell, reached = first.evidence
    assert (fell.value, fell.usual) == (pytest.approx(-72), pytest.approx(-70))
    assert (reached.value, reached.usual, reached.usual_is) == (2.0, 10.0, "the end")
