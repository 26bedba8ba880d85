"""What finalists are drawn from: nothing that the search has drawn, as far as anything is left."""

from pathlib import Path

import pytest

from search.probe.fresh_prompts import FreshPrompts, fresh_prompts
from search.probe.prompts import probe_labels
from search.record.finalists import FRESH
from search.record.probe_description import ProbeDescription
from search.study.settings import CONTEXTS, FRESH_CONTEXTS, FinalistsSection, ProbeSection, ScoreSection, ShiftedSection
from trainer.data.dataset import Photo

TRAINED, HELD_OUT = tuple(range(8)), (8, 9, 10)
CAPTIONS = [f"a photo of sks toy, place {row}" for row in range(11)]


def photos(captions: list[str]) -> list[Photo]:
    return [
        Photo(Path(f"{row}.png"), caption, 1, "sks", "toy", False, str(row), 64, 64)
        for row, caption in enumerate(captions)
    ]


def drawn(
    score: ScoreSection, finalists: FinalistsSection, captions: list[str]
) -> tuple[FreshPrompts, set[str], set[int]]:
    """What is fresh, and the prompts and seeds of the search."""
    there = photos(captions)
    labels, seeds = probe_labels(score, there, TRAINED, HELD_OUT)
    about = ProbeDescription(
        prompts=labels.prompts[::seeds], seeds=labels.seeds[:seeds], trained_rows=TRAINED, heldout_rows=HELD_OUT
    )
    return fresh_prompts(score, finalists, there, about), set(labels.prompts), set(labels.seeds)


def of_set(found: FreshPrompts, kind: str) -> set[str]:
    return {prompt for prompt, of in zip(found.labels.prompts, found.labels.sets, strict=True) if of == kind}


def test_no_prompt_and_no_seed_is_one_of_the_search_and_there_are_twice_as_many() -> None:
    score = ScoreSection(probe=ProbeSection(trained=3, heldout=1))
    found, prompts, seeds = drawn(score, FinalistsSection(), CAPTIONS)
    assert not prompts & set(found.labels.prompts)
    assert not seeds & set(found.labels.seeds)
    assert found.repeated == 0
    assert found.num_seeds == score.probe.seeds
    assert [len(of_set(found, kind)) for kind in "ABC"] == [5, 2, FRESH * len(CONTEXTS)]  # 5 of 8 captions are left
    assert len(found.labels) == found.num_prompts * found.num_seeds
    rows = dict(zip(found.labels.prompts, found.labels.photo, strict=True))
    assert all(CAPTIONS[rows[prompt]] == prompt for kind in "AB" for prompt in of_set(found, kind))
    assert drawn(score, FinalistsSection(), CAPTIONS)[0] == found


def test_where_nothing_is_left_the_probes_own_come_again_under_fresh_seeds() -> None:
    score = ScoreSection(probe=ProbeSection(trained=4, heldout=4))
    alike = ["a photo of sks toy"] * 8 + ["another photo of sks toy"] * 3
    found, prompts, seeds = drawn(score, FinalistsSection(seeds=3), alike)
    assert of_set(found, "A") | of_set(found, "B") == set(alike) < prompts
    assert found.repeated == 2
    assert found.num_seeds == 3
    assert not seeds & set(found.labels.seeds)


@pytest.mark.parametrize("asked", [None, ["{trigger} on the moon", "{class} on the moon"]])
def test_contexts_are_those_of_the_study_where_it_has_its_own(asked: list[str] | None) -> None:
    own = ["lava, plain floor", "sea, plain floor", "night, plain floor"]
    shifted = ShiftedSection(contexts=own, caption="{trigger} {class}, {size}, on the {position}, {context}")
    probe = ProbeSection(contexts=["{trigger} {class}, large, on the left, lava, plain floor"])
    found, prompts, _ = drawn(ScoreSection(probe=probe, shifted=shifted), FinalistsSection(contexts=asked), CAPTIONS)
    contexts = of_set(found, "C")
    if asked is not None:
        assert contexts == {"sks on the moon", "toy on the moon"}
        return
    assert contexts == {
        "sks toy, small, on the right, sea, plain floor",
        "sks toy, large, on the centre, night, plain floor",
    }
    assert not contexts & prompts
    said = dict(zip(found.labels.prompts, found.labels.neutral, strict=True))
    assert {said[prompt] for prompt in contexts} == {prompt.removeprefix("sks ") for prompt in contexts}


def test_the_list_that_comes_along_has_nothing_of_the_other_one() -> None:
    assert len(set(FRESH_CONTEXTS)) == FRESH * len(CONTEXTS)
    assert not set(FRESH_CONTEXTS) & set(CONTEXTS)


@pytest.mark.parametrize(
    ("trained", "heldout", "of_a", "of_b"),
    [(1, 1, 2, 2), (2, 1, 4, 2), (4, 1, 4, 2), (6, 2, 6, 2), (8, 3, 8, 3)],
)
def test_twice_as_many_captions_are_taken_of_those_left_and_else_as_many_as_the_probe_has(
    trained: int, heldout: int, of_a: int, of_b: int
) -> None:
    """Of eight captions six are the probe's: two are left, and so come first; then its own, up to as many as it has."""
    score = ScoreSection(probe=ProbeSection(trained=trained, heldout=heldout))
    found, prompts, _ = drawn(score, FinalistsSection(), CAPTIONS)
    assert (len(of_set(found, "A")), len(of_set(found, "B"))) == (of_a, of_b)
    left_a = 8 - trained
    assert len(of_set(found, "A") - prompts) == min(left_a, FRESH * trained)
    assert found.repeated == len(set(found.labels.prompts) & prompts)
