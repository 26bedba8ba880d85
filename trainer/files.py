"""Files and folders appear whole or not at all and outlast a power cut, under the rules of POSIX and of Windows."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

# systems and file systems that do not flush folders say so in one of these ways (Windows, SMB, FUSE)
_FOLDERS_NOT_FLUSHED = {errno.EINVAL, errno.EBADF, errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENOTSUP}
_PATIENCE = (0.05, 0.2, 0.5)  # seconds: a virus scanner or an indexer holds a new file on Windows for a moment


def write_whole(path: Path, write: Callable[[BinaryIO], object], *, durable: bool = True) -> None:
    """Writes aside, flushes to the disk, renames: readers see the old file or the new one.

    Args:
        path: its folder is made where there is none.
        write: is given the open file.
        durable: also wait for the disk, so that the file survives a power cut; a cache need not.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = _aside(path.parent)
    try:
        with aside.open("xb") as file:
            write(file)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        move(aside, path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    if durable:
        flush_folder(path.parent)


def write_folder_whole(path: Path, fill: Callable[[Path], None]) -> None:
    """Has `fill` put files into a folder aside, flushes them, renames it to `path`; what was there is replaced.

    Nobody ever sees a part of it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = _aside(path.parent)
    aside.mkdir()
    try:
        fill(aside)
        for file in aside.iterdir():
            flush_file(file)
        flush_folder(aside)
        if path.exists():
            old = _aside(path.parent)
            move(path, old)
            move(aside, path)
            shutil.rmtree(old, ignore_errors=True)
        else:
            move(aside, path)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    flush_folder(path.parent)


def clear_leftovers(folder: Path) -> None:
    """Removes what a writer that was killed left aside in `folder`. Only for who is its one writer."""
    for path in folder.glob(".*.part"):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def move(source: Path, target: Path) -> None:
    """Renames, over a file that is there; tries again for a moment where another program holds it (Windows)."""
    for seconds in _PATIENCE:
        try:
            return os.replace(source, target)
        except PermissionError:
            time.sleep(seconds)
    os.replace(source, target)


def flush_file(path: Path) -> None:
    """Waits until a file's content is on the disk. Windows flushes only what is open for writing."""
    with path.open("r+b") as file:
        os.fsync(file.fileno())


def flush_folder(path: Path) -> None:
    """Waits until a folder's names are on the disk, where the system knows how."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError as error:
        if error.errno in _FOLDERS_NOT_FLUSHED:
            return
        raise
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _FOLDERS_NOT_FLUSHED:
            raise
    finally:
        os.close(descriptor)


def shown(path: str | Path) -> str:
    """A path as it can be printed and stored in one line: bytes that are no UTF-8, and control and direction
    characters, as escapes (`\\x8e`)."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


def _aside(folder: Path) -> Path:
    """A new name that does not grow with the target's, which may be as long as names can be."""
    return folder / f".{secrets.token_hex(8)}.part"
