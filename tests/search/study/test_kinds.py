"""The kinds of study: which one a file asks for, what a plain search is, and the data check."""

import re
from pathlib import Path
from typing import Any

import pytest

from search.study.data_check import DataCheck, DataCheckSection
from search.study.kind import NEVER_STOPPED, ONE_TRIAL, SEARCH, Draft, KindSection
from search.study.kinds import KINDS, TAKERS, asked_kind
from search.study.settings import BudgetSection, SamplerSection, ScoreSection, StopSection
from search.study.space import Space
from search.study.study import load_study
from search.study.study_file import StudyFile
from tests.messages import refusal


def test_a_search_is_nothing_but_a_search() -> None:
    assert SEARCH.meaning == {}
    assert SEARCH.trial_is_settings is True
    assert (SEARCH.finished_run, SEARCH.held_out, SEARCH.final) == (None, (), None)


def test_each_kind_says_what_it_is_and_what_it_takes() -> None:
    assert [kind.key for kind in KINDS] == ["data_check", "final", "checkpoints", "delivery"]
    assert TAKERS == ("final", "delivery")
    assert [kind.key for kind in KINDS if kind.may_be_empty] == ["data_check"]
    assert (KindSection.takes, KindSection.may_be_empty) == (False, False)
    for kind in KINDS:
        assert kind.about.endswith(".")


@pytest.mark.parametrize(
    ("values", "asked", "told"),
    [
        ({}, None, []),
        ({"search": {"rank": {}}}, None, []),
        ({"final": None}, None, []),
        ({"data_check": None}, DataCheckSection(), []),
        ({"data_check": {"tags": 3}}, DataCheckSection(tags=3), []),
        ({"data_check": {}, "search": {"rank": {"value": 1}}}, DataCheckSection(), ["search"]),
        ({"data_check": {}, "search": {}}, DataCheckSection(), []),
        ({"data_check": {}, "final": {"past": 2}}, DataCheckSection(), ["final"]),
        ({"data_check": {"tags": 3}, "search": {"rank": {"value": 1}}, "final": {"past": 2}}, DataCheckSection(tags=3),
         ["search", "final"]),
    ],
)  # fmt: skip
def test_the_section_that_stands_first_decides_and_refuses_the_others(
    values: dict[str, Any], asked: KindSection | None, told: list[str]
) -> None:
    problems: list[str] = []
    assert asked_kind(StudyFile(Path("s.yaml"), values), problems) == asked
    assert len(problems) == len(told)
    for line, key in zip(problems, told, strict=True):
        assert re.search(refusal(key, "a section", "nothing", "s.yaml"), line)
        assert line.endswith(": a data check is one training of its own")


def test_a_mistake_in_a_second_section_is_told_too() -> None:
    problems: list[str] = []
    asked_kind(StudyFile(Path("s.yaml"), {"data_check": {}, "final": {"past": 0.5}}), problems)
    assert [line.split(": ")[1] for line in problems] == ["final.past", "final"]


def test_a_data_check_is_one_training_that_nothing_ends() -> None:
    section = DataCheckSection(seeds=3)
    draft = Draft(
        StudyFile(Path("s.yaml")),
        {"rank": 4},
        Space(),
        ScoreSection(),
        BudgetSection(),
        SamplerSection(),
        StopSection(),
    )
    planned = section.planned(draft)
    assert (planned.budget, planned.stop, planned.kind) == (ONE_TRIAL, NEVER_STOPPED, DataCheck(section))
    assert ONE_TRIAL.trials == 1
    assert (NEVER_STOPPED.onset, NEVER_STOPPED.prune) == (False, False)
    assert planned.train == {"rank": 4}
    assert section.with_photos(planned, ()) is planned
    assert planned.kind.meaning == {"data_check": {"seeds": 3, "captions": 4, "tags": 24}}
    assert planned.kind.trial_is_settings


def test_a_study_of_another_kind_has_neither_finalists_nor_twins(write_study) -> None:
    plain = load_study(write_study(finalists={"trials": 3, "twins": 2}))
    assert (plain.num_finalists, plain.num_twins, plain.trials) == (3, 2, 4)
    one = load_study(write_study(search={"rank": {"value": 4}}, train={"resolution": 64}, finalists={"twins": 2}))
    assert (one.num_finalists, one.num_twins, one.trials) == (0, 2, 1)
    few = load_study(write_study(search={"rank": {"values": [4, 8, 16]}}, finalists={"trials": 3}))
    assert (few.num_finalists, few.trials) == (3, 3)
    check = load_study(write_study(drop=("search",), data_check={}))
    assert (check.num_finalists, check.num_twins, check.trials) == (0, 0, 1)
