"""What a process finds around it: variables, which it may have for a while, and whether there may be a GPU."""

import contextlib
import ctypes
import os
from collections.abc import Iterator, Mapping


@contextlib.contextmanager
def variables(values: Mapping[str, str]) -> Iterator[None]:
    """These environment variables, where the user has not set them otherwise, while the block runs."""
    ours = [name for name in values if name not in os.environ]
    os.environ.update({name: values[name] for name in ours})
    try:
        yield
    finally:
        for name in ours:
            os.environ.pop(name, None)


def may_have_gpu() -> bool:
    """Whether a library may find a GPU; asks torch nothing that would begin to use CUDA."""
    import torch

    if torch.version.hip is not None:
        return True
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True
