"""Files appear whole or not at all."""

import contextlib
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO


def write_whole(path: Path, write: Callable[[BinaryIO], object], *, durable: bool = True) -> None:
    """Writes aside, flushes to the disk, renames: readers see the old file or the new one.

    Args:
        path: its folder is made where there is none.
        write: is given the open file.
        durable: also wait for the disk, so that the file survives a power cut; a cache need not.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    try:
        with aside.open("xb") as file:
            write(file)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        aside.replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)
        if isinstance(error, OSError):
            error.filename, error.filename2 = str(path), None  # people know nothing of the file aside
        raise


def shown(path: str | Path) -> str:
    """A path as it can be printed and written in one line: bytes that are no UTF-8, and control and direction
    characters, as escapes (`\\x8e`)."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)
