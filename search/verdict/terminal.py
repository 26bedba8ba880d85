"""A verdict as it is told in a terminal."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from search.errors import SearchError
from search.findings.terminal import show_check
from search.record.data_check import DataCheck
from search.record.record import StudyFolder
from search.verdict.sentences import headline
from search.verdict.verdict import Verdict

if TYPE_CHECKING:
    from rich.console import RenderableType

_BRIEF_FILES = ("LoRA", "why nothing", "report")


def render(verdict: Verdict, folder: Path | None = None, *, brief: bool = False) -> "RenderableType":
    """The verdict for a terminal, as something `rich` can print; `brief`: what to do, and where the rest stands."""
    from rich.console import Group
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

    colour = {"ship": "green", "nothing": "red"}.get(verdict.decision.outcome, "yellow")
    lines: list[RenderableType] = [Text(headline(verdict), style=f"bold {colour}")]
    said_now = replace(verdict.said, why=(), sure=(), took=()) if brief else verdict.said
    for heading, sentences in said_now.parts:
        lines += [Text(), Text(heading, style="bold")]
        for sentence in sentences:
            said = Table.grid(padding=(0, 1))
            said.add_row("•", Text(sentence))
            lines.append(said)
    if verdict.files:
        table = Table.grid(padding=(0, 2))
        shown = {name: path for name, path in verdict.files.items() if not brief or name in _BRIEF_FILES}
        for name, path in shown.items():
            table.add_row(Text(name, style="dim"), Text(str(folder / path) if folder else path, overflow="fold"))
        lines += [Text(), table]
    if brief:
        lines += [Text("Why, how sure, and what it took: in the report, or with --all.", style="dim")]
    return Panel(Group(*lines), title=f"verdict · {verdict.study}", border_style=colour, padding=(not brief, 2))


def show(folder: StudyFolder, *, brief: bool = False) -> None:
    """Print a finished study's verdict (`brief`: its first line, and a data check's page). Raises SearchError where
    all trials failed."""
    from rich.console import Console

    verdict = Verdict.load(folder.verdict_file)
    check = DataCheck.of(folder)
    if not brief:
        Console().print(render(verdict, folder.path))
    elif check is None:
        print(headline(verdict))
    else:
        show_check(check, folder, brief=True)
    records = list(folder.records())
    if records and all(record.state == "failed" for record in records):
        raise SearchError(f"every trial failed, the last one with: {records[-1].error}")
