"""A sampler or a pruner of one's own is made once before a study begins; the usual ones are not asked."""

import pytest

from search.errors import StudyError
from search.study.study import load_study
from search.tuning.choice_check import check_choices


@pytest.mark.parametrize(
    ("changes", "made"),
    [
        ({}, []),
        ({"sampler": {"name": "random"}}, ["sampler"]),
        ({"sampler": {"arguments": {"n_ei_candidates": 9}}}, ["sampler"]),
        ({"stop": {"pruner": "median"}}, ["pruner"]),
        ({"stop": {"pruner_arguments": {"warmup": 0.5}}}, ["pruner"]),
        ({"stop": {"onset": False}}, []),
        ({"sampler": {"name": "random"}, "stop": {"pruner": "median"}}, ["sampler", "pruner"]),
    ],
)
def test_only_what_the_study_chooses_is_made(write_study, monkeypatch, changes: dict, made: list[str]) -> None:
    done: list[str] = []
    monkeypatch.setattr("search.tuning.sampler.sampler_for", lambda *given: done.append("sampler"))
    monkeypatch.setattr("search.tuning.pruner_by_name.pruner_for", lambda *given: done.append("pruner"))
    check_choices(load_study(write_study(**changes)))
    assert done == made


def test_keywords_that_it_does_not_take_are_refused(write_study) -> None:
    study = load_study(write_study(sampler={"name": "random", "arguments": {"shape": 1}}))
    with pytest.raises(StudyError, match=r"sampler.arguments: expected keywords of random, got .*shape"):
        check_choices(study)
