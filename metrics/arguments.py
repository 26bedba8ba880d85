"""A command line whose mistakes are told as all others are; `trainer.arguments` has its twin."""

from __future__ import annotations

import re
from argparse import ArgumentParser
from typing import NoReturn

from metrics.command import PREFIX, WRONG_INPUT, show_anything
from metrics.errors import mistake, nearest


class Arguments(ArgumentParser):
    """A command line whose mistakes are told as those in files are: `error: --epoch: expected …, got …`."""

    def error(self, message: str) -> NoReturn:
        """One line on stderr, exit code 2."""
        show_anything()
        self.exit(WRONG_INPUT, f"{PREFIX}{self._in_words(message)}; --help says more\n")

    def _in_words(self, message: str) -> str:
        if strange := re.match(r"unrecognized arguments: (\S+)", message):
            known = [option for action in self._actions for option in action.option_strings]
            given = strange[1].partition("=")[0]
            return str(mistake("command line", given, f"an option that there is{nearest(given, known)}"))
        if lacking := re.fullmatch(r"argument (\S+): expected one argument", message):
            return str(mistake(lacking[1], None, "a value"))
        return message.removeprefix("argument ")
