"""Shell completion: `onset completion bash` writes a script that knows every command, option and choice; no Python runs
when a key is pressed."""

from __future__ import annotations

import argparse
from argparse import Action, ArgumentParser

SHELLS = ("bash", "zsh", "fish")
_FILES = ("CSV", "FILE", "PNG")


def script(parser: ArgumentParser, shell: str) -> str:
    """The script that completes `parser` and its subcommands.

    Args:
        shell: one of SHELLS.
    """
    import shtab

    _mark(parser)
    return str(shtab.complete(parser, shell))


def _mark(parser: ArgumentParser) -> None:
    """Arguments that are paths complete to files, or to folders alone."""
    import shtab

    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                _mark(command)
        elif action.nargs != 0 and action.choices is None and (kind := _kind(action)) is not None:
            vars(action)["complete"] = shtab.DIRECTORY if kind == "folder" else shtab.FILE


def _kind(action: Action) -> str | None:
    named = str(action.metavar or "")
    if named == "DIR":
        return "folder"
    file = named in _FILES or "." in named or named == "LORA" or action.dest == "base"
    return "file" if file else None
