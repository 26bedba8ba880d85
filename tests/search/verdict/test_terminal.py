"""A verdict in a terminal: all of it, or what to do alone."""

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from search.errors import SearchError
from search.record.data_check import DATA_CHECK_PAGE, DataCheck
from search.record.record import StudyFolder, TrialRecord
from search.verdict.decision import Decision
from search.verdict.said import Said
from search.verdict.terminal import render, show
from search.verdict.verdict import Verdict
from tests.search.any_config import CONFIG

SAID = Said(("Use it.", "Train it."), ("It is best.",), ("One run.",), ("1 min.",))
FILES = {"LoRA": "best/toy.safetensors", "why nothing": "best/NOT.txt", "report": "report.html", "sheet": "best/a.png"}
VERDICT = Verdict("toy", Decision("ship", 0, 12, 0.5), CONFIG, {"rank": 8}, said=SAID, files=FILES)


def shown(verdict: Verdict, folder: Path | None = None, *, brief: bool = False) -> list[str]:
    """Its lines, without the frame."""
    out = io.StringIO()
    Console(file=out, width=120).print(render(verdict, folder, brief=brief))
    lines = [line.strip("│╭╮╰╯─ ") for line in out.getvalue().splitlines()]
    return [" ".join(line.split()) for line in lines if line]


HEAD = ["verdict · toy", "Ship epoch 12 of trial 0 (score 0.500)."]


def test_each_part_has_its_heading_and_each_file_its_line() -> None:
    assert shown(VERDICT) == [
        *HEAD, "What to do", "• Use it.", "• Train it.", "Why", "• It is best.", "How sure", "• One run.",
        "What it took", "• 1 min.", *(f"{name} {path}" for name, path in FILES.items()),
    ]  # fmt: skip
    assert shown(replace(VERDICT, files={}))[-1] == "• 1 min."
    assert shown(VERDICT, Path("/runs/toy"))[-1] == "sheet /runs/toy/best/a.png"


def test_in_brief_only_what_to_do_and_where_the_rest_stands() -> None:
    assert shown(VERDICT, brief=True) == [
        *HEAD, "What to do", "• Use it.", "• Train it.", "LoRA best/toy.safetensors", "why nothing best/NOT.txt",
        "report report.html", "Why, how sure, and what it took: in the report, or with --all.",
    ]  # fmt: skip


def test_the_colour_is_that_of_the_outcome() -> None:
    colours = {outcome: render(replace(VERDICT, decision=Decision(outcome, 0))).border_style
               for outcome in ("ship", "poor", "not_learned", "unfinished", "nothing")}  # fmt: skip
    assert colours == {"ship": "green", "poor": "yellow", "not_learned": "yellow", "unfinished": "yellow",
                       "nothing": "red"}  # fmt: skip


def test_a_study_is_shown_whole_or_by_its_first_line(tmp_path: Path, capsys) -> None:
    folder = StudyFolder(tmp_path / "toy")
    VERDICT.save(folder.verdict_file)
    show(folder, brief=True)
    assert capsys.readouterr().out == f"{HEAD[1]}\n"
    show(folder)
    assert "It is best." in capsys.readouterr().out
    (folder.path / DATA_CHECK_PAGE).write_text("<p>photos</p>")
    DataCheck("toy", "", 8, 7.5, findings=(), trained=True, unlooked=()).save(folder.path)
    show(folder, brief=True)
    assert "data_check.html" in capsys.readouterr().out.replace("\n", "")
    failed = TrialRecord(0, "failed", CONFIG, {}, 40, error="OSError: full")
    failed.save(folder.trial(0))
    replace(failed, number=1, state="complete").save(folder.trial(1))
    show(folder)
    replace(failed, number=1, error="OSError: gone").save(folder.trial(1))
    with pytest.raises(SearchError, match="every trial failed, the last one with: OSError: gone"):
        show(folder)
