"""How far a study is, without running anything.

python -m search.status studies/demo.yaml
"""

if __name__ == "__main__":  # before anything slow is imported
    from trainer.interrupts import end_at_once

    end_at_once()

import argparse
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from search.command import add_study, study_command
from search.errors import DamagedError
from search.record.person_pick import PersonPick
from search.record.record import StudyFolder, TrialRecord
from search.running.live_table import grid, row
from search.running.progress import best_text
from search.study.find_study import locate
from search.study.flow_file import read_flow
from search.verdict.decision import best_so_far, decide, unit_of
from trainer.arguments import Arguments
from trainer.command import Command, end

if TYPE_CHECKING:
    from search.verdict.verdict import Verdict

_WINNER = "*"
_EXAMPLE = """example:
  python -m search.status studies/demo.yaml
  python -m search.status runs/demo"""


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    command = study_command("search.status")
    return command.run(lambda: _main(argv, command))


def _main(argv: Sequence[str] | None, command: Command) -> int:
    arguments = command_line().parse_args(argv)
    flow = read_flow(arguments.study)
    if flow is None:
        folder = locate(arguments.study, arguments.runs)
        command.folder = folder.path
        if arguments.json:
            print(json.dumps(_as_json(folder), indent=2))
        else:
            _show(folder, everything=arguments.all)
        return 0
    if arguments.json:
        begun = [StudyFolder(arguments.runs / step.study) for step in flow.steps]
        print(json.dumps([_as_json(folder) for folder in begun if folder.path.is_dir()], indent=2))
        return 0
    for step in flow.steps:
        folder = StudyFolder(arguments.runs / step.study)
        command.folder = folder.path
        if folder.path.is_dir():
            _show(folder, everything=arguments.all)
        else:
            print(f"study {step.study} ({step.file}) has not begun")
    return 0


def _show(folder: StudyFolder, *, everything: bool) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console()
    records = list(folder.records())
    verdict, note = _verdict(folder, records)
    winner = None if verdict is None or not verdict.decision.ships else verdict.trial
    rows = [_marked(row(record), record.number == winner) for record in records]
    console.print(Text(f"study {folder.path.name}", style="bold"))
    unit = unit_of(records[0]) if records else "epoch"
    for line in grid(rows, 0, console.width, headed=True, unit=unit, whole_settings=everything):
        console.print(line, no_wrap=True, overflow="ellipsis", crop=True)
    if winner is not None:
        console.print(Text(f"{_WINNER} the trial to ship", style="dim"))
    pick = PersonPick.load(folder)
    if pick is not None:
        console.print(Text(pick.sentence))
    damaged = sorted({*folder.folders()} - {record.number for record in records})
    if damaged:
        numbers = ", ".join(map(str, damaged))
        console.print(f"note: trials {numbers}: the record is damaged or missing; search.run rebuilds it")
    best = best_so_far(records)
    if best is not None and verdict is None:
        console.print(best_text(best, next(r for r in records if r.number == best.trial), score="score "))
    if verdict is not None:
        from search.verdict.terminal import render

        console.print(render(verdict, folder.path, brief=not everything))
    elif note:
        console.print(f"note: {note}", soft_wrap=True, markup=False)


def _as_json(folder: StudyFolder) -> dict[str, Any]:
    """A study for a program: its trials, and the verdict on them or null."""
    from search.verdict.attributes import study_attributes, trial_attributes

    records = list(folder.records())
    verdict, note = _verdict(folder, records)
    pick = PersonPick.load(folder)
    return {
        "study": folder.path.name,
        "folder": str(folder.path),
        "trials": [
            {
                "number": record.number,
                "state": record.state,
                "stopped": record.stopped,
                "params": dict(record.params),
                "epochs": record.epochs,
                "epochs_trained": record.epochs_trained,
                "score": decide(record).score,
                "epoch_shipped": decide(record).shipped,
                **trial_attributes(record),
            }
            for record in records
        ],
        "verdict": None if verdict is None else study_attributes(verdict) | {"files": dict(verdict.files)},
        "pick": None if pick is None else pick.sentence,
        "note": note,
    }


def command_line() -> Arguments:
    """What the command line may say."""
    parser = Arguments(
        prog="python -m search.status",
        description="Show a study's trials: settings, epochs, score, onset, state.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_study(parser)
    parser.add_argument(
        "--all",
        action="store_true",
        help="the whole verdict: also why, how sure, and what it took; and all settings of each trial",
    )
    parser.add_argument("--json", action="store_true", help="for a program: trials and verdict as JSON")
    return parser


def _verdict(folder: StudyFolder, records: Sequence[TrialRecord]) -> "tuple[Verdict | None, str]":
    """The verdict on these trials if there is one, or why it is not shown."""
    if not folder.verdict_file.is_file():
        return None, ""
    from search.verdict.sentences import headline
    from search.verdict.verdict import Verdict, belongs

    try:
        verdict = Verdict.load(folder.verdict_file)
    except DamagedError as error:
        return None, str(error)
    if belongs(verdict, records):
        return verdict, ""
    return None, f"the study has gone on since its verdict of {len(verdict.trials)} trials: {headline(verdict)}"


def _marked(cells: tuple[str, ...], wins: bool) -> tuple[str, ...]:
    return (f"{_WINNER} {cells[0]}" if wins else cells[0], *cells[1:])


if __name__ == "__main__":
    end(main)
