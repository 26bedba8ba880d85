"""Types of command-line arguments, each refusing in words what cannot be meant."""

from __future__ import annotations

import contextlib
import os
import re
import stat
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from trainer.command import PREFIX, WRONG_INPUT, one_line, reason, show_anything
from trainer.errors import Plain, mistake, nearest

LARGEST = 10**9
_CHOICE = re.compile(r"invalid choice: (?P<quote>['\"])(?P<given>.*)(?P=quote) \(choose from (?P<all>.*)\)")


class Arguments(ArgumentParser):
    """A command line whose mistakes are told as those in files are: `error: --port: expected …, got …`."""

    def error(self, message: str) -> NoReturn:
        """One line on stderr, exit code 2."""
        show_anything()
        self.exit(WRONG_INPUT, f"{PREFIX}{self._in_words(message)}; --help says more\n")

    def _in_words(self, message: str) -> str:
        known = [option for action in self._actions for option in action.option_strings]
        found = re.fullmatch(r"(?:argument (?P<key>\S+): )?(?P<said>.*)", message, re.DOTALL)
        key, said = (found["key"], found["said"]) if found else (None, message)
        name = (key or "").split("/")[-1]
        if choice := _CHOICE.match(said):
            choices = re.findall(r"[\w.-]+", choice["all"])
            return mistake(None, name, choice["given"], " or ".join(choices) + nearest(choice["given"], choices))
        if wanting := re.match(r"the following arguments are required: (.*)", said):
            return mistake(None, wanting[1], None, "a value")
        if strange := re.match(r"unrecognized arguments: (\S+)", said):
            given = strange[1].partition("=")[0]
            return mistake(None, "command line", given, f"an option that there is{nearest(given, known)}")
        if re.match(r"expected (one|at least one) argument", said):
            return mistake(None, name, None, "a value")
        if kind := re.match(r"invalid (?P<kind>\w+) value: (?P<given>.*)", said):
            expected = {"float": "a number", "int": "a whole number"}.get(kind["kind"], "a path")
            return mistake(None, name, Plain(kind["given"]), expected)
        return f"{name}: {said}" if name else said


def whole(low: int, high: int = LARGEST) -> Callable[[str], int]:
    """A whole number from `low` to `high`, in digits."""

    def read(text: str) -> int:
        if re.fullmatch(r"[+-]?[0-9]{1,18}", text.strip()) and low <= int(text) <= high:
            return int(text)
        raise _refused(text, f"a whole number from {low} to {high}")

    return read


def number(low: float, high: float) -> Callable[[str], float]:
    """A number from `low` to `high`."""

    def read(text: str) -> float:
        with contextlib.suppress(ValueError):
            if low <= float(text) <= high:
                return float(text)
        raise _refused(text, f"a number from {low:g} to {high:g}")

    return read


def port(text: str) -> int:
    """A port that a server may listen at; 0 for any free one."""
    return whole(0, 65535)(text)


def folder(text: str) -> Path:
    """A folder that is there, or could be as far as its name says."""
    return _folder(text, written=False)


def folder_to_write(text: str) -> Path:
    """A folder that is there or can be made, and can be written into."""
    return _folder(text, written=True)


def picture_to_write(text: str) -> Path:
    """A .png file in a folder that is there or can be made; it may be there."""
    path = Path(text)
    if path.suffix.lower() != ".png" or path.is_dir():
        raise _refused(text, "the name of a .png file")
    _folder(str(path.parent), written=True)
    return path


def _folder(text: str, *, written: bool) -> Path:
    if not text.strip():
        raise _refused(text, "the name of a folder")
    expected = "a folder that can be written into" if written else "a folder"
    path = Path(text)
    for above in (path, *path.absolute().parents):
        try:
            mode = above.stat().st_mode
        except (FileNotFoundError, NotADirectoryError):
            if above.is_symlink():
                raise _refused(text, expected, f"{_short(above)} is a link to nothing") from None
            continue
        except OSError as error:
            raise _refused(text, expected, reason(error)) from None
        if not stat.S_ISDIR(mode):
            raise _refused(text, expected, f"{_short(above)} is a file")
        if written and not os.access(above, os.W_OK | os.X_OK):
            raise _refused(text, expected, f"nothing can be written into {_short(above)}")
        break
    return path


def _refused(text: str, expected: str, why: str = "") -> ArgumentTypeError:
    return ArgumentTypeError(mistake(None, "", Plain(repr(_short(text))), expected, why))


def _short(name: str | Path) -> str:
    text = one_line(name)
    return text if len(text) <= 80 else f"{text[:40]}…{text[-39:]}"
