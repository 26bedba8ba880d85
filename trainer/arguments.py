"""Types of command-line arguments, each refusing in words what cannot be meant."""

from __future__ import annotations

import os
import re
import stat
from argparse import ArgumentTypeError
from collections.abc import Callable
from pathlib import Path

from trainer.command import one_line, reason

LARGEST = 10**9


def whole(low: int, high: int = LARGEST) -> Callable[[str], int]:
    """A whole number from `low` to `high`, in digits."""

    def read(text: str) -> int:
        if re.fullmatch(r"[+-]?[0-9]{1,18}", text.strip()) and low <= int(text) <= high:
            return int(text)
        raise ArgumentTypeError(f"{_short(text)} is not allowed: a whole number from {low} to {high}")

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


def _folder(text: str, *, written: bool) -> Path:
    def refuse(why: str) -> ArgumentTypeError:
        return ArgumentTypeError(f"{_short(text)} is not allowed: {why}")

    if not text.strip():
        raise refuse("the name of a folder is needed")
    path = Path(text)
    for above in (path, *path.absolute().parents):
        try:
            mode = above.stat().st_mode
        except (FileNotFoundError, NotADirectoryError):
            if above.is_symlink():
                raise refuse(f"{_short(above)} is a link to nothing") from None
            continue
        except OSError as error:
            raise refuse(reason(error)) from None
        if not stat.S_ISDIR(mode):
            raise refuse(f"{_short(above)} is a file, not a folder")
        if written and not os.access(above, os.W_OK | os.X_OK):
            raise refuse(f"nothing can be written into {_short(above)}")
        break
    return path


def _short(name: str | Path) -> str:
    text = one_line(name)
    return text if len(text) <= 80 else f"{text[:40]}…{text[-39:]}"
