"""The search space: what is chosen under which conditions, as Optuna stores it, and all that can come of it."""

import re

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from search.study.space import Entry, Space, label, parse_space
from tests.messages import refusal

OPTIMIZER = Entry("optimizer", "optimizer", values=("AdamW", "Prodigy"))
RANK = Entry("rank", "rank", low=4, high=10, step=3, whole=True)
RATE = Entry("learning_rate_scale", "learning_rate_scale", low=0.5, high=8.0, log=True,
             when=(("optimizer", ("AdamW",)),))  # fmt: skip
D_COEF = Entry("d_coef", "d_coef", values=(0.5, 1.0, 2.0), when=(("optimizer", ("Prodigy",)),))
SEED = Entry("seed", "seed", values=(7,))
SPACE = Space((OPTIMIZER, RANK, RATE, D_COEF, SEED))


def asked(space: Space, **values: object) -> tuple[dict, list[str]]:
    """What a trial of these values is given, and the parameters that were announced."""
    before: list[str] = []
    return space.suggest(optuna.trial.FixedTrial(values), before.append), before


def test_a_trial_is_asked_for_what_its_conditions_allow_and_for_no_constant() -> None:
    fields, before = asked(SPACE, optimizer="AdamW", rank=7, learning_rate_scale=2.0)
    assert fields == {"optimizer": "AdamW", "rank": 7, "learning_rate_scale": 2.0, "seed": 7}
    assert before == ["optimizer", "rank", "learning_rate_scale"]
    fields, before = asked(SPACE, optimizer="Prodigy", rank=10, d_coef=2.0)
    assert fields == {"optimizer": "Prodigy", "rank": 10, "d_coef": 2.0, "seed": 7}
    assert before == ["optimizer", "rank", "d_coef"]


def test_what_was_chosen_is_stored_as_optuna_draws_it() -> None:
    stored = SPACE.stored({"optimizer": "AdamW", "rank": 7, "learning_rate_scale": 2, "seed": 7})
    assert stored == {
        "optimizer": ("AdamW", CategoricalDistribution(["AdamW", "Prodigy"])),
        "rank": (7, IntDistribution(4, 10, step=3)),
        "learning_rate_scale": (2.0, FloatDistribution(0.5, 8.0, log=True)),
    }
    assert SPACE.stored({"optimizer": "Prodigy", "rank": 4, "d_coef": 0.5, "seed": 7}).keys() == {
        "optimizer", "rank", "d_coef",
    }  # fmt: skip
    with pytest.raises(KeyError, match="rank"):
        SPACE.stored({"optimizer": "AdamW"})
    study = optuna.create_study()
    trial = study.ask()
    fields = SPACE.suggest(trial, lambda name: None)
    kept = {name: kind for name, (_, kind) in SPACE.stored(fields).items()}
    assert kept == trial.distributions
    assert {name: value for name, (value, _) in SPACE.stored(fields).items()} == trial.params


def test_lists_and_other_choices_are_stored_as_words() -> None:
    assert [label(value) for value in (None, True, 3, 0.5, "a", (1, 2))] == [None, True, 3, 0.5, "a", "[1, 2]"]
    entry = Entry("optimizer_args", "optimizer_args", values=((0.9, 0.99), (0.8, 0.9)))
    assert asked(Space((entry,)), optimizer_args="[0.8, 0.9]")[0] == {"optimizer_args": (0.8, 0.9)}
    assert entry.stored((0.8, 0.9)) == ("[0.8, 0.9]", CategoricalDistribution(["[0.9, 0.99]", "[0.8, 0.9]"]))


def test_words_stand_for_themselves_and_numbers_by_their_ends() -> None:
    assert RANK.corners == (4, 10)
    assert D_COEF.corners == (0.5, 2.0)
    assert SEED.corners == (7,)
    assert Entry("dora", "dora", values=(True, False)).corners == (True, False)
    assert Entry("rank", "rank", values=(8, "x", 4)).corners == (8, "x", 4)
    together = list(SPACE.combinations())
    assert together == [
        {"optimizer": name, "rank": rank, field: value, "seed": 7}
        for name, field, ends in (("AdamW", "learning_rate_scale", (0.5, 8.0)), ("Prodigy", "d_coef", (0.5, 2.0)))
        for rank in (4, 10)
        for value in ends
    ]


def test_of_too_many_combinations_a_sample_that_keeps_the_conditions() -> None:
    switches = tuple(Entry(f"s{n}", f"s{n}", values=("on", "off")) for n in range(11))
    last = Entry("last", "last", values=("a", "b", "c"), when=(("s0", ("on",)),))
    all_of_them = list(Space((*switches, Entry("end", "end", low=1, high=2))).combinations())
    assert len(all_of_them) == len({tuple(each.items()) for each in all_of_them}) == 4096
    sample = list(Space((*switches, last)).combinations())
    assert len(sample) == 4096
    assert sample == list(Space((*switches, last)).combinations())
    assert all(("last" in each) == (each["s0"] == "on") for each in sample)
    for entry in (*switches, last):
        assert {each[entry.field] for each in sample if entry.field in each} == set(entry.values)


def parsed(searched: dict, train: dict | None = None) -> list[str]:
    return parse_space("s.yaml", searched, train or {})[1]


def test_each_mistake_in_an_entry_is_named_where_it_stands() -> None:
    rate, scale = {"min": 1.0, "max": 8.0}, "search.learning_rate_scale"
    for searched, key, got, expected in (
        ({"rnak": {"values": [4]}}, "search.rnak", "rnak", "rank"),
        ({"rank": []}, "search.rank", [], "at least one entry"),
        ({"rank": [4, 8]}, "search.rank", [4, 8], "{values: [4, 8]}"),
        ({"rank": 4}, "search.rank", 4, "a mapping"),
        ({"rank": [{"value": 4}, 8]}, "search.rank[1]", 8, "a mapping"),
        ({"rank": {"vlaues": [4]}}, "search.rank.vlaues", "vlaues", "values"),
        ({"rank": {"values": [4], "min": 2}}, "search.rank", ["min", "values"], "exactly one of"),
        ({"rank": {"min": 2}}, "search.rank", ["min"], "exactly one of"),
        ({"rank": {"values": [4], "log": True}}, "search.rank.log", "true", "nothing"),
        ({"rank": {"value": 4, "step": 2}}, "search.rank.step", 2, "nothing"),
        ({"rank": {"values": []}}, "search.rank.values", [], "at least one value"),
        ({"rank": {"values": [4, 4]}}, "search.rank.values", [4, 4], "each value once"),
        ({"rank": {"min": 2, "max": "x"}}, "search.rank.max", "x", "whole number"),
        ({"rank": {"min": 8, "max": 8}}, "search.rank.max", 8, "more than min (8)"),
        ({"optimizer": {"min": "AdamW", "max": "Lion"}}, "search.optimizer", ["AdamW", "Lion"], "values"),
        ({"learning_rate_scale": {**rate, "log": 1}}, f"{scale}.log", 1, "true or false"),
        (
            {"learning_rate_scale": {**rate, "log": True, "step": 1.0}},
            "search.learning_rate_scale.log",
            "true",
            "false",
        ),
        ({"noise_offset": {"min": 0.0, "max": 0.1, "log": True}}, "search.noise_offset.log", "true", "min is above 0"),
        ({"learning_rate_scale": {**rate, "step": 7.1}}, f"{scale}.step", 7.1, "at most max - min"),
        (
            {"learning_rate_scale": {**rate, "step": True}},
            "search.learning_rate_scale.step",
            "true",
            "a number above 0",
        ),
        ({"rank": {"min": 2, "max": 8, "step": 1.5}}, "search.rank.step", 1.5, "a whole number above 0"),
        ({"rank": {"min": 2, "max": 8, "step": 0}}, "search.rank.step", 0, "a whole number above 0"),
        ({"rank": {"value": 4, "when": 3}}, "search.rank.when", 3, "a mapping"),
        ({"rank": {"value": 4, "when": {"dora": {"a": 1}}}}, "search.rank.when.dora", {"a": 1}, "a list of values"),
        ({"rank": {"values": [4, 8]}, "alpha": {"value": 4}}, "search.alpha", "alpha", "alpha_ratio"),
    ):
        told = parsed(searched)
        assert any(is_told(line, key, got, expected) for line in told), (searched, told)
    both = {"learning_rate": {"value": 1e-4}, "learning_rate_scale": {"value": 1.0}}
    assert any("search.learning_rate" in line and "both" in line for line in parsed(both))
    assert any(
        "train.rank" in line and "it is searched" in line for line in parsed({"rank": {"value": 4}}, {"rank": 8})
    )
    assert (
        parsed({"rank": [{"value": 4, "when": {"dora": True}}], "dora": {"values": [True, False]}}, {"rank": 8}) == []
    )


def test_every_mistake_is_named_and_not_the_first_alone() -> None:
    said = parsed({"rnk": {"values": [1]}, "alpha": {"values": []}, "seeds": 3}, {"rank": "four", "epoch": 3})
    keys = [line.split(": ")[1].split(" ")[0] for line in said]
    assert keys == ["train.rank", "train.epoch", "search.rnk", "search.alpha.values", "search.seeds"], said
    assert "'four'" in said[0]


def is_told(line: str, key: str, got: object, expected: str) -> bool:
    """Whether a line has the one form in which a wrong input is told."""
    return re.search(refusal(key, got, expected, "s.yaml"), line) is not None


def test_ranges_are_read_with_their_ends_and_steps() -> None:
    def entry(field: str, **written: object) -> Entry:
        space, problems = parse_space("s.yaml", {field: written}, {})
        assert problems == []
        return space.entries[0]

    assert entry("rank", min=2, max=9, step=3) == Entry("rank", "rank", low=2, high=8, step=3, whole=True)
    assert entry("rank", min=2, max=9) == Entry("rank", "rank", low=2, high=9, whole=True)
    assert entry("rank", min=2, max=9, step=7) == Entry("rank", "rank", low=2, high=9, step=7, whole=True)
    rate = Entry("learning_rate_scale", "learning_rate_scale", low=1.0, high=8.0)
    assert entry("learning_rate_scale", min=1.0, max=8.0) == rate
    assert entry("learning_rate_scale", min=1.0, max=8.0, step=3.0).high == 8.0
    assert entry("learning_rate_scale", min=1.0, max=8.0, log=True).log
    assert entry("rank", value=4) == Entry("rank", "rank", values=(4,))


def test_entries_stand_behind_what_they_depend_on_and_the_second_of_a_field_has_a_number() -> None:
    searched = {
        "rank": [{"values": [4, 8], "when": {"optimizer": "AdamW"}}, {"value": 16, "when": {"optimizer": ["Lion"]}}],
        "optimizer": {"values": ["AdamW", "Lion"], "when": {"dora": [True, False]}},
        "dora": {"values": [True, False]},
    }
    space, problems = parse_space("s.yaml", searched, {})
    assert problems == []
    assert [entry.parameter for entry in space.entries] == ["dora", "optimizer", "rank", "rank#2"]
    assert space.entries[3].when == (("optimizer", ("Lion",)),)
    for when, key in (
        ({"optimizer": "Sophia"}, "search.rank.when.optimizer"),
        ({"batch_size": 2}, "search.rank.when.b"),
    ):
        told = parsed({"rank": {"value": 4, "when": when}, "optimizer": {"values": ["AdamW", "Lion"]}})
        assert any(key in line for line in told), told
    around = {
        "rank": {"values": [4, 8], "when": {"dora": True}},
        "dora": {"values": [True, False], "when": {"rank": 4}},
    }
    (line,) = parsed(around)
    assert "circle" in line
    assert "dora" in line
    assert "rank" in line


def test_what_cannot_be_trained_is_told_with_the_choices_under_which_it_cannot() -> None:
    searched = {"enable_bucket": {"values": [True, False]}, "rank": {"values": [4, 8]}}
    space, problems = parse_space("s.yaml", searched, {})
    assert problems == []
    fixed = {"base": "b", "data": "d", "resolution": 64, "bucket_step": 128, "min_bucket_resolution": 64}
    _, (line,) = space.check("s.yaml", fixed)
    assert line.startswith("s.yaml: train.bucket_step: expected ")
    assert line.endswith("under enable_bucket: True"), "numbers are none of its choices"
    space, _ = parse_space("s.yaml", {"bucket_step": {"values": [64, 128]}, "rank": {"values": [4, 8]}}, {})
    _, (line,) = space.check("s.yaml", {**fixed, "enable_bucket": True})
    assert line.startswith("s.yaml: search.bucket_step: expected ")
    assert "under" not in line.partition(", got")[2]
