"""Fixtures of the trainer's tests."""

import errno
import os
import stat
from typing import Any

import pytest


@pytest.fixture
def windows_rules(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Folders cannot be opened, only a descriptor that may write is flushed, and a folder with an open file in it is
    not renamed: the rules of Windows, laid over this system's calls. Lists the files that were flushed."""
    import fcntl

    real_open, real_fsync, flushed = os.open, os.fsync, list[str]()

    def open_(path: Any, flags: int, *args: Any, **keywords: Any) -> int:
        if os.path.isdir(path):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real_open(path, flags, *args, **keywords)

    def fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EBADF, "Bad file descriptor")
        if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, "Bad file descriptor")
        flushed.append(os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}")))
        real_fsync(descriptor)

    monkeypatch.setattr(os, "open", open_)
    monkeypatch.setattr(os, "fsync", fsync)
    return flushed
