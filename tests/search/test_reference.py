"""docs/fields.md and docs/commands.md say what the code says."""

from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field

from search.reference import commands_page, fields_page, main, section
from search.study.settings import BudgetSection, KeepSection, ScoreSection, StopSection, WorkersSection
from trainer.config.config import TrainConfig
from trainer.production.production_config import Output

DOCS = Path(__file__).parents[2] / "docs"


class _Oven(BaseModel):
    """How it bakes."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    heat: Literal["top", "both"] = "both"
    """Where heat
    comes from."""
    minutes: int = Field(ge=1, le=1500)
    """How long."""
    degrees: float | None = Field(None, gt=0, lt=300.5)
    """How hot; None: cold|warm."""
    racks: list[Annotated[str, Field(max_length=20)]] = Field(default_factory=lambda: ["low <1>"], max_length=3)
    """Which racks."""


@pytest.mark.parametrize(("page", "written"), [("fields.md", fields_page), ("commands.md", commands_page)])
def test_the_page_in_docs_is_what_the_code_writes(page, written):
    name = page.removesuffix(".md")
    assert (DOCS / page).read_text(encoding="utf-8") == written(), f"python -m search.reference {name} > docs/{page}"


def test_the_command_prints_the_page(capsys):
    assert main(["fields"]) == 0
    assert capsys.readouterr().out == fields_page()


def test_a_field_is_told_with_its_default_its_range_and_its_meaning():
    assert list(section("oven", _Oven))[1:] == [
        "### `oven`",
        "",
        "How it bakes.",
        "",
        "| field | default | range | meaning |",
        "| --- | --- | --- | --- |",
        "| `oven.heat` | `both` | `top`, `both` | Where heat comes from. |",
        "| `oven.minutes` | required | a whole number from 1 to 1,500 | How long. |",
        "| `oven.degrees` | none | a number, above 0, below 300.5 | How hot; None: cold\\|warm. |",
        "| `oven.racks` | `low &lt;1>` | a list: text (up to 20 characters) (up to 3 entries) | Which racks. |",
    ]


def test_a_field_without_a_docstring_is_not_passed_over():
    class Bare(BaseModel):
        """Bare."""

        dry: bool = False

    with pytest.raises(AssertionError, match=r"bare\.dry has no docstring"):
        list(section("bare", Bare))


def test_every_field_has_a_row():
    page = fields_page()
    for prefix, model in {
        "": TrainConfig,
        "output.": Output,
        "budget.": BudgetSection,
        "stop.": StopSection,
        "keep.": KeepSection,
    }.items():
        assert [name for name in model.model_fields if f"\n| `{prefix}{name}` | " not in page] == []
    nested = {f"score.{part}.{name}" for part in ("probe", "losses", "shifted") for name in _fields(ScoreSection, part)}
    parts = ("ray", "slurm")
    nested |= {f"workers.{part}.{name}" for part in parts for name in _fields(WorkersSection, part)}
    nested |= {f"workers.{name}" for name in WorkersSection.model_fields if name not in parts}
    assert [name for name in nested if f"\n| `{name}` |" not in page] == []


def _fields(section: type[BaseModel], part: str) -> list[str]:
    return list(section.model_fields[part].annotation.model_fields)
