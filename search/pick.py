"""Records the checkpoint that a person chose by looking at the pictures, beside the verdict.

python -m search.pick studies/demo.yaml --trial 1 --epoch 12 --why "the eyes are right only here"
"""

if __name__ == "__main__":  # before anything slow is imported
    from trainer.interrupts import end_at_once

    end_at_once()

import argparse
from collections.abc import Sequence
from datetime import date

from search.command import add_study, study_command
from search.errors import StudyError
from search.record.person_pick import PersonPick
from search.record.record import StudyFolder
from search.study.find_study import locate
from trainer.arguments import Arguments, whole
from trainer.command import Command, end
from trainer.errors import mistake

_EXAMPLE = """example:
  python -m search.pick studies/demo.yaml --trial 1 --epoch 12 --why "the eyes are right only here"
  python -m search.pick studies/demo.yaml --clear       the verdict's again
  python -m search.export studies/demo.yaml --to out    exports what was picked"""


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    command = study_command("search.pick")
    return command.run(lambda: _main(argv, command))


def _main(argv: Sequence[str] | None, command: Command) -> int:
    options = command_line().parse_args(argv)
    folder = locate(options.study, options.runs)
    command.folder = folder.path
    if options.clear:
        PersonPick.file(folder).unlink(missing_ok=True)
        print("No pick any more: exports take the verdict's trial and epoch.")
    else:
        for name, value in (("--trial", options.trial), ("--epoch", options.epoch)):
            if value is None:
                raise StudyError([mistake(None, name, None, "a number, as the report and search.status show them")])
        pick_checkpoint(folder, options.trial, options.epoch, options.why)
        print(f"Picked: trial {options.trial}, epoch {options.epoch}. search.export takes it from now on.")
    _write_report(folder)
    return 0


def pick_checkpoint(folder: StudyFolder, trial: int, epoch: int, why: str = "") -> PersonPick:
    """Records a choice; an earlier one is replaced.

    Raises:
        StudyError: no such trial, or its LoRA of that epoch is not kept.
    """
    from search.exports.pick import pick

    pick(folder, trial, epoch)
    chosen = PersonPick(trial, epoch, " ".join(why.split()), date.today().isoformat())
    chosen.save(folder)
    return chosen


def _write_report(folder: StudyFolder) -> None:
    """With the pick, where the study has a verdict."""
    from search.verdict.verdict import known_verdict

    verdict = known_verdict(folder)
    if verdict is not None:
        from search.verdict.report import write_report

        print(f"The report says so: {write_report(folder, verdict)}")


def command_line() -> Arguments:
    """What the command line may say."""
    parser = Arguments(
        prog="python -m search.pick",
        description="Record the checkpoint that you chose by looking. The verdict stays as it is.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_study(parser)
    parser.add_argument("--trial", metavar="N", type=whole(0), help="number of the trial")
    parser.add_argument("--epoch", metavar="E", type=whole(1), help="one of its epochs whose LoRA is kept")
    parser.add_argument("--why", metavar="TEXT", default="", help="a note for the report")
    parser.add_argument("--clear", action="store_true", help="forget the pick")
    return parser


if __name__ == "__main__":
    end(main)
