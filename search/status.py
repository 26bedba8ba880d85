"""How far a study is, without running anything.

python -m search.status studies/demo.yaml
"""

if __name__ == "__main__":  # before anything slow is imported
    from trainer.interrupts import end_at_once

    end_at_once()

import argparse
from collections.abc import Sequence
from pathlib import Path

from search.command import study_command
from search.errors import DamagedError
from search.running.live_table import COLUMNS, RIGHT, row
from search.study.find_study import locate
from search.verdict.decision import best_so_far
from trainer.arguments import folder as folder_named
from trainer.command import Command, end

_EXAMPLE = """example:
  python -m search.status studies/demo.yaml
  python -m search.status runs/demo"""


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    command = study_command("search.status")
    return command.run(lambda: _main(argv, command))


def _main(argv: Sequence[str] | None, command: Command) -> int:
    arguments = command_line().parse_args(argv)
    folder = locate(arguments.study, arguments.runs)
    command.folder = folder.path
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    table = Table(title=f"study {folder.path.name}")
    for column in COLUMNS:
        table.add_column(column, justify="right" if column in RIGHT else "left")
    records = list(folder.records())
    for record in records:
        table.add_row(*map(Text, row(record)))
    console.print(table)
    damaged = sorted({*folder.folders()} - {record.number for record in records})
    if damaged:
        numbers = ", ".join(map(str, damaged))
        console.print(f"note: trials {numbers}: the record is damaged or missing; search.run rebuilds it")
    best = best_so_far(records)
    if best is not None and not folder.verdict_file.is_file():
        console.print(f"best so far: trial {best.trial}, score {best.score:.3f} at epoch {best.epoch}")
    if folder.verdict_file.is_file():
        from search.verdict.verdict import Verdict, render

        try:
            console.print(render(Verdict.load(folder.verdict_file), folder.path))
        except DamagedError as error:
            console.print(f"note: {error}", soft_wrap=True)
    return 0


def command_line() -> argparse.ArgumentParser:
    """What the command line may say."""
    parser = argparse.ArgumentParser(
        prog="python -m search.status",
        description="Show a study's trials: settings, epochs, score, onset, state.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("study", metavar="STUDY.yaml", help="the study file, or its folder under runs/")
    parser.add_argument(
        "--runs",
        type=folder_named,
        default=Path("runs"),
        metavar="DIR",
        help="where studies leave files (default: runs)",
    )
    return parser


if __name__ == "__main__":
    end(main)
