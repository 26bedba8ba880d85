"""One command for all: `onset run study.yaml` is `python -m search.run study.yaml`.

onset run dog.yaml
onset train kohya.toml
onset demo
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.resources import files
from typing import NamedTuple, NoReturn

from onset import __version__, completion
from trainer.arguments import Arguments
from trainer.command import DONE, Command, end
from trainer.errors import ConfigError, nearest
from trainer.interrupts import end_at_once


class Module(NamedTuple):
    """A command of its own: `python -m name` does the same. `before`: arguments that go before those given."""

    name: str
    what: str
    before: tuple[str, ...] = ()


COMMANDS = {
    "run": Module("search.run", "try LoRA settings, and find the epoch to ship"),
    "status": Module("search.status", "how far a study is, or what it found"),
    "dashboard": Module("search.dashboard", "the study in the browser"),
    "pick": Module("search.pick", "record the checkpoint that you chose by looking"),
    "export": Module("search.export", "the production run, for this and other trainers"),
    "data-check": Module("search.data_check", "look photos and captions over"),
    "flow": Module("search.flow", "write a flow: data check, border, final run, delivery"),
    "train": Module("trainer.run", "train one LoRA, from train.yaml or a run of kohya's"),
    "draw": Module("trainer.draw", "draw your own prompts with LoRA files"),
    "deliver": Module("trainer.deliver", "look a LoRA file over before it is passed on"),
    "metrics": Module("metrics.run", "compare images with photos, or find the onset in a table of losses"),
    "demo": Module("search.run", "run the demo study, which comes with Onset", (str(files("studies") / "demo.yaml"),)),
}


COMPLETION = "completion"
_COMPLETES = "what a shell needs to complete commands and options: bash, zsh or fish"


def script() -> NoReturn:
    """What the shell calls: modules in the working folder are found, but never instead of Onset's."""
    end_at_once()
    here = os.getcwd()
    sys.path[:] = [*(place for place in sys.path if place not in ("", here)), here]
    end(main)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command that is named first with the arguments behind it; returns its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given and given[0] in COMMANDS:
        module = COMMANDS[given[0]]
        if {"-h", "--help"}.intersection(given[1:]):
            called(given[0]).print_help()
            return DONE
        code: int = import_module(module.name).main([*module.before, *given[1:]])
        return code
    return Command("onset", refused=(ConfigError,)).run(lambda: _without(given))


def called(name: str) -> argparse.ArgumentParser:
    """What the command line of a command may say, under the name that it has here."""
    module = COMMANDS[name]
    parser: argparse.ArgumentParser = import_module(module.name).command_line()
    parser.prog = f"onset {name}"
    for short, other in COMMANDS.items():
        if not other.before:
            parser.epilog = (parser.epilog or "").replace(f"python -m {other.name} ", f"onset {short} ")
    for action in [each for each in parser._actions if not each.option_strings][: len(module.before)]:
        action.help, action.nargs = argparse.SUPPRESS, "?"  # it is given already
    return parser


def _without(given: Sequence[str]) -> int:
    """What is said where no command is named."""
    if given and given[0] == COMPLETION:
        print(completion.script(_all_commands(), _completion_line().parse_args(given[1:]).shell))
        return DONE
    if given and not given[0].startswith("-"):
        known = [*COMMANDS, COMPLETION]
        raise ConfigError(None, "command", given[0], f"one of {', '.join(known)}{nearest(given[0], known)}")
    command_line().parse_args(given)
    command_line().print_help()
    return DONE


def command_line() -> Arguments:
    """What may stand in a command's place."""
    width = max(map(len, COMMANDS))
    told = {name: module.what for name, module in COMMANDS.items()} | {COMPLETION: _COMPLETES}
    listed = "\n".join(f"  {name:{width}}  {what}" for name, what in told.items())
    parser = Arguments(
        prog="onset",
        usage="onset COMMAND …",
        description="Finds good LoRA settings, and the epoch at which a LoRA begins to overfit.",
        epilog=f"commands:\n{listed}\n\n`onset COMMAND --help` says more of each.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"onset {__version__}")
    return parser


def _completion_line() -> Arguments:
    parser = Arguments(
        prog=f"onset {COMPLETION}",
        description="Print what a shell needs to complete commands and options.",
        epilog="for every new shell:\n"
        "  mkdir -p ~/.local/share/bash-completion/completions\n"
        "  onset completion bash > ~/.local/share/bash-completion/completions/onset\n"
        "  onset completion zsh > ~/.zfunc/_onset    (a folder of $fpath, before compinit)\n"
        "  onset completion fish > ~/.config/fish/completions/onset.fish",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("shell", choices=completion.SHELLS, help="your shell")
    return parser


def _all_commands() -> argparse.ArgumentParser:
    """One command line with all others in it."""
    parser = argparse.ArgumentParser(prog="onset")
    parser.add_argument("--version", action="store_true", help="the version")
    commands = parser.add_subparsers()
    for name, module in COMMANDS.items():
        commands.add_parser(name, help=module.what, parents=[called(name)], add_help=False)
    commands.add_parser(COMPLETION, help=_COMPLETES, parents=[_completion_line()], add_help=False)
    return parser
