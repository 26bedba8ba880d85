"""Every number of a study file against the guide: its default, and what is refused on both sides of its range."""

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
    "finalists": settings.FinalistsSection,
    "workers": settings.WorkersSection,
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


def rows() -> list[tuple[str, str, str, str]]:
    """(section, field in it, default, range) of each row of the guide about a number of a study file."""
    found = re.findall(r"^\| `([a-z_]+)\.([a-z_.]+)` \| ([^|]*) \| ([^|]*) \|", GUIDE.read_text(encoding="utf-8"), re.M)
    return [row for row in found if row[0] in SECTIONS and re.match(r"a (whole )?number", row[3])]


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
    told = {section for section, *_ in rows()}
    assert told == SECTIONS.keys()
    assert len(rows()) > 30


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
    for section, inner, default, _ in rows():
        found: Any = SECTIONS[section].model_validate(NEEDED.get(section, {}))
        for name in inner.split("."):
            found = getattr(found, name)
        words = default.strip("`")
        if words != "required":
            assert (str(found) if found is not None else "none") == words, (section, inner)
