"""Names of devices, and whether this machine has them. `why_no_device` needs no torch."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from trainer.errors import ConfigError, ModelError, mistake

if TYPE_CHECKING:
    import torch

DEVICES = "auto, cpu, cuda, cuda:N (N from 0) or mps"
_CUBLAS, _CUBLAS_EXACT = "CUBLAS_WORKSPACE_CONFIG", (":4096:8", ":16:8")
_NAME = re.compile(r"auto|cpu|mps|cuda(:\d{1,3})?")


def why_no_device(name: str) -> str | None:
    """What the name of a device would have to be, None when it is one; whether the machine has it is not asked."""
    return None if _NAME.fullmatch(name) else DEVICES


def find_device(name: str, *, key: str = "device") -> torch.device:
    """The device of this name; "auto" is the first CUDA device, then Apple's, then the CPU.

    Args:
        key: the setting that an error is about.

    Raises:
        ConfigError: it is no name of a device, or this machine has no such device.
    """
    import torch

    if (expected := why_no_device(name)) is not None:
        raise ConfigError(None, key, name, expected)
    kind, _, number = name.partition(":")
    if name == "auto":
        if torch.cuda.is_available():
            kind = "cuda"
        else:
            kind = "mps" if torch.backends.mps.is_available() else "cpu"
    if kind == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if int(number or 0) >= count:
            found = "no CUDA device" if not count else "cuda:0" if count == 1 else f"cuda:0 to cuda:{count - 1}"
            raise ConfigError(None, key, name, "a device of this machine", f"it has {found}; auto and cpu always work")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise ConfigError(None, key, name, "a device of this machine", "it has no Apple GPU; auto and cpu always work")
    place = torch.device(f"{kind}:{number}" if number else kind)
    try:
        torch.empty(1, device=place)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0][:120]
        raise ModelError(mistake(None, key, name, "a device that works here", f"{reason}; cpu always works")) from error
    return place


def check_quantize(kind: str | None, device: torch.device) -> None:
    """Raises ConfigError when a base is to be quantised where there is no CUDA device."""
    if kind is not None and device.type != "cuda":
        raise ConfigError(None, "quantize", kind, f"nothing on {device}", "quantised weights need a CUDA GPU")


def repeat_exactly(device: torch.device) -> None:
    """Let this process compute the same bits each time on a CUDA device, whose sums are else taken in any order. To be
    called before anything is computed there; other devices are left as they are. What has no such form raises a
    RuntimeError (`has_no_exact_form`), attention's gradient among it if such things were only to warn."""
    import torch

    if device.type != "cuda":
        return
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # only shows reads of what was never written
    if os.environ.get(_CUBLAS) not in _CUBLAS_EXACT:
        os.environ[_CUBLAS] = _CUBLAS_EXACT[0]
        if torch.cuda.is_available():
            _take_back_the_variable(device)


def _take_back_the_variable(device: torch.device) -> None:
    """torch asks for the variable at its first matrix product and remembers that it was there. Its size it reads and
    parses at each product as long as it stands: 35 to 120 µs each, which made a step of SD1.5 1.6 times as long.
    Without it torch gives cuBLAS a workspace of its own for each stream, which is what sums in one order need."""
    import torch

    square = torch.ones(16, 16, device=device)
    torch.mm(square, square)
    value = os.environ.pop(_CUBLAS)
    try:
        torch.mm(square, square)
    except RuntimeError:  # a torch that asks each time
        os.environ[_CUBLAS] = value


def has_no_exact_form(error: BaseException) -> bool:
    """Whether `repeat_exactly` forbids what failed."""
    return "does not have a deterministic implementation" in str(error)


def repeat_nearly(error: BaseException) -> str:
    """Let this process compute what has no exact form after all; the sentence that says so.

    Args:
        error: what `has_no_exact_form` knows.
    """
    import torch

    torch.use_deterministic_algorithms(False)
    operation = str(error).split(" ")[0]
    return f"{operation} has no form that gives the same numbers each time on this GPU: they will differ a little"
