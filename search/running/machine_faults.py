"""Faults of the machine, told apart from faults of a trial: a full disk says nothing about settings."""

import errno
import os
import re
import traceback
from collections.abc import Callable
from dataclasses import dataclass

from metrics.errors import MetricsError
from search.errors import MACHINE_ERRNOS
from search.running.coordinator_line import HUNG_UP, Ended
from search.study.objective import ObjectiveError
from trainer.command import reason
from trainer.devices import has_no_exact_form, repeat_nearly
from trainer.errors import TrainerError

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
    """What a trial that does not fit the memory is told, with what takes less; None: it is another error."""
    text = " ".join(str(error).split())
    on_gpu = "out of memory" in text and "CUDA" in text
    if not on_gpu and not isinstance(error, MemoryError) and "can't allocate memory" not in text:
        return None
    amount = re.search(r"[Tt]ried to allocate ([\d.]+ \w+)", text)
    wanted = f" ({amount[1]} more were asked for)" if amount else ""
    whose = "the GPU" if on_gpu else "this machine"
    return (
        f"{whose} is out of memory{wanted}: a smaller batch_size, rank or resolution, gradient_checkpointing: true, "
        "precision: bf16 or fewer workers take less"
    )


@dataclass(frozen=True)
class Fault:
    """Why a trial could not go on.

    Attributes:
        text: for people.
        again: whether trying once more may help.
        machine: whether no trial could have.
        memory: whether there was too little of it.
    """

    text: str
    again: bool
    machine: bool = False
    memory: bool = False


def fault_of(error: Exception) -> Fault:
    """What an error of a trial means. Where it is an operation without an exact form, nearly the same numbers are
    allowed from now on."""
    known = isinstance(error, TrainerError | MetricsError | ObjectiveError)
    memory = out_of_memory(error)
    text = str(error) if known else memory or f"{type(error).__name__}: {error}"
    if has_no_exact_form(error):
        text = repeat_nearly(error)
    machine = machine_fault(error)
    return Fault(machine or text, again=not known, machine=machine is not None, memory=memory is not None)


def seen_fault(error: Exception) -> Fault:
    """`fault_of` an error that nobody foresaw: it is printed, and where the device is lost this process ends."""
    if not isinstance(error, TrainerError | MetricsError):
        traceback.print_exception(error)
    if device_is_lost(error):
        os._exit(1)  # the next process has a device that works, or the coordinator gives up
    return fault_of(error)


def fault_in(work: Callable[[], object]) -> Fault | None:
    """`seen_fault` of what goes wrong in it, if anything does; nothing of the error is held any more then. The end of
    this worker is no fault."""
    try:
        work()
    except (Ended, *HUNG_UP):
        raise
    except Exception as error:
        return seen_fault(error)
    return None
