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

from onset import __version__
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
        code: int = import_module(module.name).main([*module.before, *given[1:]])
        return code
    return Command("onset", refused=(ConfigError,)).run(lambda: _without(given))


def _without(given: Sequence[str]) -> int:
    """What is said where no command is named."""
    if given and not given[0].startswith("-"):
        known = ", ".join(COMMANDS)
        raise ConfigError(None, "command", given[0], f"one of {known}{nearest(given[0], list(COMMANDS))}")
    command_line().parse_args(given)
    command_line().print_help()
    return DONE


def command_line() -> Arguments:
    """What may stand in a command's place."""
    width = max(map(len, COMMANDS))
    listed = "\n".join(f"  {name:{width}}  {module.what}" for name, module in COMMANDS.items())
    parser = Arguments(
        prog="onset",
        usage="onset COMMAND …",
        description="Finds good LoRA settings, and the epoch at which a LoRA begins to overfit.",
        epilog=f"commands:\n{listed}\n\n`onset COMMAND --help` says more of each.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"onset {__version__}")
    return parser
