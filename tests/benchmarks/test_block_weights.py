"""The benchmark of block weights: what it asks for, and how a LoRA's strength is matched."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.block_weights import CASES, _plain, _study, _tell_stronger, some_sets, win_of
from benchmarks.bound_background import Truth, prompts, write_photos
from studies.demo.concepts import CONCEPTS
from studies.demo.scenes import PLACES


def test_the_bound_place_is_never_asked_for_and_half_of_the_prompts_name_none() -> None:
    for bound in CASES:
        assert bound.place in CONCEPTS[bound.concept].set_places
        named, unnamed = prompts(bound, 22, 1)
        assert bound.place not in " ".join(named)
        others = [place for place in PLACES if place != bound.place]
        assert [prompt.split(", ")[-2] for prompt in named] == (others * 22)[:22]
        assert not any(place in prompt.split(", ") for prompt in unnamed for place in PLACES)


@pytest.mark.slow
def test_photos_say_nothing_of_their_place(tmp_path: Path) -> None:
    write_photos(tmp_path, CASES[0])
    captions = {path.read_text() for path in tmp_path.rglob("*.txt")}
    assert captions == {"gront toy"}
    assert len(list(tmp_path.rglob("*.png"))) == 20


def test_strengths_are_matched_by_true_likeness() -> None:
    def look(leak: float, likeness: float, stray: float) -> Truth:
        return Truth(np.full(4, leak), np.full(4, likeness), np.full(4, stray))

    looks = {1.0: look(0.9, 0.8, 0.3), 0.7: look(0.6, 0.5, 0.1), 0.4: look(0.2, 0.5, 0.0)}
    strength, there = _plain(looks, 0.65)
    assert strength == pytest.approx(0.85)
    assert there == pytest.approx({"leaks": 0.75, "strays": 0.2, "likeness": 0.65})
    strength, there = _plain(looks, 0.9)
    assert (strength, there["strays"]) == (1.0, 0.3), "nothing is more alike than the LoRA as it is"


def test_the_search_sees_other_prompts_than_the_truth() -> None:
    from benchmarks.block_weights import QUICK

    contexts = _study(Path("x.safetensors"), QUICK)["score"]["probe"]["contexts"]
    assert len(set(contexts)) == 8
    assert sum(any(place in context for place in PLACES) for context in contexts) == 4


def test_the_best_set_keeps_the_likeness_and_wins_nothing_by_luck() -> None:
    leaks = np.tile([[1.0], [0.0], [0.5]], 40)
    likeness = np.tile([[0.5], [0.4], [0.48]], 40)  # the second leaks nothing, and is less alike
    assert win_of(leaks, likeness)["leak, best set"] == pytest.approx(-0.5)
    lucky = np.ones((3, 40))
    lucky[1, ::2] = lucky[2, 1::2] = 0.8  # each is better on one half of the pictures
    assert win_of(lucky, np.ones((3, 40)))["leak, best set"] == pytest.approx(0)


def test_the_first_set_is_the_lora_as_it_is_and_no_block_is_unknown() -> None:
    tried = some_sets(["BASE", "IN04", "M00"], 20)
    assert tried[0] == {}
    assert len(tried) == 20
    assert set().union(*tried) == {"BASE", "IN04", "M00"}


def test_stronger_sets_are_held_against_the_lora_as_it_is_over_concepts_that_were_learned(tmp_path: Path) -> None:
    plain, other = "without any, others at 1", "without BASE, others at 1.2"
    found = {
        CASES[0].name: {plain: [0.9, 0.5], other: [0.0, 0.5]},  # the method was made with it
        "unlearned": {plain: [0.9, 0.01], other: [0.0, 0.5]},
        "one": {plain: [0.9, 0.5], other: [0.8, 0.6]},
        "two": {plain: [0.9, 0.4], other: [0.6, 0.5]},
    }
    _tell_stronger(found, tmp_path / "it.json")
    told = json.loads((tmp_path / "it.json").read_text())
    assert told["concepts"] == 2
    (leak, *_), (likeness, low, high) = told["sets"][other]
    assert (leak, likeness) == pytest.approx((-0.2, 0.1))
    assert (low, high) == pytest.approx((0.1, 0.1))
    assert told["sets"][plain] == [[0, 0, 0], [0, 0, 0]]
