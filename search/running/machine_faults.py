"""Faults of the machine, told apart from faults of a trial: a full disk says nothing about settings."""

import errno
import re

from search.errors import MACHINE_ERRNOS
from trainer.command import reason

# what libraries that write files themselves make of the same: safetensors, torch, SQLite
_IN_WORDS = (
    (re.compile(r"no space left on device|database or disk is full|os error 28\b", re.I), errno.ENOSPC),
    (re.compile(r"disk quota exceeded|os error 122\b", re.I), errno.EDQUOT),
    (re.compile(r"read-only file system|os error 30\b", re.I), errno.EROFS),
    (re.compile(r"too many open files|os error 24\b", re.I), errno.EMFILE),
)


def machine_fault(error: BaseException) -> str | None:
    """What is wrong with the machine, in a few words with the file where it is known; None: it may be the trial.

    Args:
        error: what was raised, by us or by a library; what it was raised from is looked at, too.
    """
    at: BaseException | None = error
    while at is not None:
        number = at.errno if isinstance(at, OSError) else None
        if number not in MACHINE_ERRNOS:
            number = next((code for pattern, code in _IN_WORDS if pattern.search(str(at))), None)
        if number is not None:
            where = getattr(at, "filename", None)
            why = reason(OSError(number, str(at)))
            return f"{where}: {why}" if where else why
        at = at.__cause__ or at.__context__
    return None


def device_is_lost(error: BaseException) -> bool:
    """Whether nothing more can run on the GPU in this process: a CUDA error stays until the process ends. Memory that
    ran out is no such error."""
    text = f"{type(error).__name__}: {error}"
    return "CUDA error" in text and "out of memory" not in text


def out_of_memory(error: BaseException) -> str | None:
    """What a trial that does not fit the GPU's memory is told, with what takes less; None: it is another error."""
    text = " ".join(str(error).split())
    if "out of memory" not in text or "CUDA" not in text:
        return None
    amount = re.search(r"Tried to allocate ([\d.]+ \w+)", text)
    wanted = f" ({amount[1]} more were asked for)" if amount else ""
    return (
        f"the GPU is out of memory{wanted}: a smaller batch_size, rank or resolution, gradient_checkpointing: true, "
        "precision: bf16 or fewer workers take less"
    )
