"""A data check as it is told in a terminal: the headline, a line for each finding, and where its page is."""

from __future__ import annotations

from search.findings.sentences import headline, short_names, told
from search.record.data_check import DataCheck
from search.record.record import StudyFolder


def show_check(check: DataCheck, folder: StudyFolder, *, brief: bool = False) -> None:
    """Print it; `brief`: its headline and its page alone."""
    from rich.console import Console
    from rich.text import Text

    console = Console()
    console.print(Text(headline(check), style="bold"))
    names = short_names([photo for finding in check.findings for photo in finding.photos])
    for finding in () if brief else check.findings:
        words = told(finding, names)
        console.print(Text(f"• {words.what} {words.do}"))
    for line in () if brief else check.unlooked:
        console.print(Text(line, style="dim"))
    console.print(Text(str(folder.path / check.page)), soft_wrap=True)
