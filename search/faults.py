"""Faults of the machine, told apart from faults of a trial: a full disk or a broken driver says nothing about settings."""

import errno
import re

_NO_ROOM = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the file system is read-only",
    errno.EIO: "the disk has a read or write error",
    errno.EMFILE: "too many files are open",
    errno.ENFILE: "too many files are open",
}
# what libraries that write files themselves make of the same: safetensors, torch, SQLite
_IN_WORDS = (
    (re.compile(r"os error 28\b|code: 28\b|no space left on device|database or disk is full", re.I), errno.ENOSPC),
    (re.compile(r"os error 122\b|code: 122\b|disk quota exceeded", re.I), errno.EDQUOT),
    (re.compile(r"os error 30\b|code: 30\b|read-only file system", re.I), errno.EROFS),
)


def machine_fault(error: BaseException) -> str | None:
    """What is wrong with the machine, in a few words with the file where it is known; None: it may be the trial.

    Args:
        error: what was raised, by us or by a library; what it was raised from is looked at, too.
    """
    seen: set[int] = set()
    at: BaseException | None = error
    while at is not None and id(at) not in seen:
        seen.add(id(at))
        number = at.errno if isinstance(at, OSError) else None
        if number not in _NO_ROOM:
            number = next((code for pattern, code in _IN_WORDS if pattern.search(str(at))), None)
        if number is not None:
            where = getattr(at, "filename", None)
            return f"{where}: {_NO_ROOM[number]}" if where else _NO_ROOM[number]
        at = at.__cause__ or at.__context__
    return None


def device_is_lost(error: BaseException) -> bool:
    """Whether nothing more can run on the GPU in this process: a CUDA error stays until the process ends. Memory that
    ran out is no such error."""
    text = f"{type(error).__name__}: {error}"
    return "CUDA error" in text and "out of memory" not in text
