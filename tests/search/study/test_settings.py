"""Every field of a study file against the guide: its default, and what is refused on both sides of its range."""

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from search.study import settings
from search.study.kinds import KINDS

GUIDE = Path(__file__).parents[3] / "docs" / "fields.md"
SECTIONS: dict[str, type[BaseModel]] = {
    "score": settings.ScoreSection,
    "budget": settings.BudgetSection,
    "sampler": settings.SamplerSection,
    "stop": settings.StopSection,
    "finalists": settings.FinalistsSection,
    "workers": settings.WorkersSection,
    "keep": settings.KeepSection,
    "track": settings.TrackSection,
    **{kind.key: kind for kind in KINDS},
}
NEEDED = {"checkpoints": {"folder": "loras", "held_out": "none"}}
"""What a section cannot be without."""


def read(section: str, inner: str, value: Any) -> Any:
    """The field's value in a section that says nothing else."""
    given: Any = value
    for name in reversed(inner.split(".")):
        given = {name: given}
    found: Any = SECTIONS[section].model_validate({**NEEDED.get(section, {}), **given})
    for name in inner.split("."):
        found = getattr(found, name)
    return found


def all_rows() -> list[tuple[str, str, str, str]]:
    """(section, field in it, default, range) of each row of the guide about a field of a study file."""
    found = re.findall(r"^\| `([a-z_]+)\.([a-z_.]+)` \| ([^|]*) \| ([^|]*) \|", GUIDE.read_text(encoding="utf-8"), re.M)
    return [row for row in found if row[0] in SECTIONS]


def rows() -> list[tuple[str, str, str, str]]:
    """Those about a number."""
    return [row for row in all_rows() if re.match(r"a (whole )?number", row[3])]


def ends(told: str) -> tuple[list[float], list[float]]:
    """(values at the ends, values just beyond them) of a range as the guide tells it."""
    whole = "whole" in told
    allowed, refused = list[float](), list[float]()
    for words, step, inside in (
        (r"(?:from) ([\d,.]+)", -1, True), (r"(?:\bto|at most) ([\d,.]*\d)", 1, True), (r"above ([\d,.]*\d)", 0, False),
        (r"below ([\d,.]*\d)", 0, False), (r"([\d,.]*\d) or more", -1, True),
    ):  # fmt: skip
        for text in re.findall(words, told):
            end = float(text.replace(",", ""))
            allowed += [end] * inside
            refused.append(end + step * (1 if whole else 1e-6 * max(1.0, end)))
    return ([int(v) for v in allowed], [int(v) for v in refused]) if whole else (allowed, refused)


def test_the_guide_has_the_numbers_of_every_section() -> None:
    told = {section for section, *_ in all_rows()}
    assert told == SECTIONS.keys()
    assert len(rows()) > 30
    assert len(all_rows()) > 75


def test_each_number_is_taken_up_to_both_ends_of_its_range_and_no_further() -> None:
    for section, inner, _, told in rows():
        allowed, refused = ends(told)
        assert refused, (section, inner, told)
        for value in allowed:
            assert read(section, inner, value) == value, (section, inner, told)
        for value in refused:
            with pytest.raises(ValidationError):
                read(section, inner, value)


def test_what_is_left_out_is_what_the_guide_says() -> None:
    for section, inner, default, _ in all_rows():
        found: Any = SECTIONS[section].model_validate(NEEDED.get(section, {}))
        for name in inner.split("."):
            found = getattr(found, name)
        if default in ("none", "true", "false"):
            assert found is {"none": None, "true": True, "false": False}[default], (section, inner)
        elif default == "empty":
            assert found in ("", [], {}), (section, inner)
        elif default != "required":
            said = [str(each) for each in found] if isinstance(found, list) else [str(found)]
            assert said == re.findall("`([^`]*)`", default), (section, inner)


def test_lists_and_texts_are_as_long_as_the_guide_says_and_no_longer() -> None:
    looked = 0
    for section, inner, _, told in all_rows():
        for most, unit in re.findall(r"\(up to ([\d,]+) (entries|characters)\)", told):
            one: Any = {"rank": 4} if "names" in told else 0.5 if "a number" in told else "x"
            listed = told.startswith("a list")
            count = int(most.replace(",", ""))
            for length, fits in ((count, True), (count + 1, False)):
                whole = [one] * length if unit == "entries" else "x" * length
                value = [whole] if listed and unit == "characters" else whole
                if fits:
                    assert read(section, inner, value) == value, (section, inner)
                else:
                    with pytest.raises(ValidationError):
                        read(section, inner, value)
            looked += 1
    assert looked >= 14


@pytest.mark.parametrize(
    "inner",
    ["score.probe.contexts", "score.shifted.contexts", "finalists.contexts", "score.shifted.caption",
     "workers.slurm.partition", "track.logging_dir", "checkpoints.folder", "delivery.lora"],
)  # fmt: skip
def test_what_may_be_left_out_may_not_be_empty(inner: str) -> None:
    section, _, field = inner.partition(".")
    with pytest.raises(ValidationError):
        read(section, field, [] if "contexts" in inner else "")
    if "contexts" in inner:
        with pytest.raises(ValidationError):
            read(section, field, ["a photo", ""])


@pytest.mark.parametrize(
    ("inner", "taken", "refused"),
    [
        ("score.objective", ["my.scores:best", "a:B_2", None], ["best", "my.scores.best", "1a:b", ""]),
        ("sampler.name", ["tpe", "random", "qmc", "gp", "cmaes", "grid", "my.module:Class"], ["bayes", "tpe:", ""]),
        ("stop.pruner", ["peers", "median", "hyperband", "threshold", "m:C"], ["none", "grid"]),
        ("finalists.twins", [0, 2, 8], [1]),
        ("workers.device", ["auto", "cpu", "cuda", "cuda:0", "cuda:12", "mps"], ["gpu", "cuda:", "cuda:100", "cuda:١"]),
        (
            "workers.ray.address",
            [None, "auto", "10.0.0.1:6379", "head-1.lab:1"],
            ["head", "a b:1", "h:123456"],
        ),
        ("workers.slurm.gpus", [0, 64, None], [-1, 65]),
        ("workers.ray.gpus", [0, 0.25, 1, 2, 4.0, None], [1.5, 2.25]),
        ("workers.slurm.host", ["10.0.0.1", "node:7", "fe80::1", None], ["a b", ""]),
        ("track.log_tracker_name", ["my-project_1.0", "x" * 100], ["a b", "", "x" * 101]),
        ("workers.pack", [1, 64, "auto"], [0, 65, "all"]),
        ("score.weights", [{"copying": 0}, {"copying": 100.0}], [{"copying": -0.1}, {"copying": 100.1}]),
        ("finalists.strengths", [[], [4, 0.01]], [[0], [4.01]]),
    ],
)
def test_words_are_taken_as_they_are_where_they_have_the_form(inner: str, taken: list[Any], refused: list[Any]) -> None:
    section, _, field = inner.partition(".")
    for value in taken:
        assert read(section, field, value) == value
    for value in refused:
        with pytest.raises(ValidationError):
            read(section, field, value)


@pytest.mark.parametrize(
    ("trials", "startup", "found"),
    [(30, None, 10), (31, None, 10), (29, None, 9), (2, None, 1), (1, None, 1), (3, 7, 7)],
)
def test_a_third_of_the_trials_ten_at_most_are_drawn_at_random(trials: int, startup: int | None, found: int) -> None:
    assert settings.BudgetSection(trials=trials, startup_trials=startup).startup == found


@pytest.mark.parametrize(
    ("given", "threads"),
    [
        ({}, 8), ({"count": 3}, 2), ({"count": 9}, 1), ({"count": 3, "threads": 5}, 5), ({"kind": "slurm"}, 4),
        ({"kind": "ray"}, 8), ({"kind": "ray", "ray": {"cpus": 2.5}}, 2), ({"kind": "ray", "ray": {"cpus": 0.5}}, 1),
        ({"kind": "slurm", "slurm": {"cpus": 6}, "count": 2}, 6), ({"slurm": {"cpus": 6}}, 8),
        ({"kind": "slurm", "threads": 3}, 3),
    ],
)  # fmt: skip
def test_threads_are_those_of_the_place_or_a_share_of_the_cores(given: dict[str, Any], threads: int) -> None:
    assert settings.WorkersSection.model_validate(given).threads_of_each(8) == threads
