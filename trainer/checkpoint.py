"""Checkpoints: complete or absent, with all state to go on exactly kept for the newest two, and no pickle anywhere."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.errors import TrainerError

if TYPE_CHECKING:
    import torch

LORA_FILE = "lora.safetensors"
STATE_TENSORS = "state.safetensors"
STATE_FILE = "state.json"
STATES_KEPT = 2


def write_checkpoint(folder: Path, epoch: int, write: Callable[[Path], None]) -> Path:
    """Has `write` fill a folder aside, then renames it to `folder`/0010 (for epoch 10). Returns that path.

    A checkpoint of the same epoch is replaced. Nobody ever sees a part of one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    final = checkpoint_path(folder, epoch)
    aside = Path(tempfile.mkdtemp(prefix=f".{final.name}-", dir=folder))
    try:
        write(aside)
        for file in aside.iterdir():
            _sync(file)
        _sync(aside)
        if final.exists():
            old = aside.with_name(aside.name + "-old")
            final.rename(old)
            aside.rename(final)
            shutil.rmtree(old)
        else:
            aside.rename(final)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    final.chmod(0o755)
    _sync(folder)
    return final


def checkpoint_path(folder: Path, epoch: int) -> Path:
    """Where the checkpoint of `epoch` is, whether it exists or not."""
    return folder / f"{epoch:04d}"


def checkpoints(folder: Path) -> list[Path]:
    """Complete checkpoints, oldest epoch first."""
    if not folder.is_dir():
        return []
    return sorted((path for path in folder.iterdir() if path.name.isdigit()), key=lambda path: int(path.name))


def newest_state(folder: Path) -> Path | None:
    """The newest checkpoint that a run can go on from, or None."""
    return next((path for path in reversed(checkpoints(folder)) if (path / STATE_FILE).exists()), None)


def drop_old_states(folder: Path, *, keep: int = STATES_KEPT) -> None:
    """Removes the state (not the LoRA) of all but the newest `keep` checkpoints."""
    holders = [path for path in checkpoints(folder) if (path / STATE_FILE).exists()]
    for path in holders[:-keep]:
        (path / STATE_FILE).unlink()  # first: it is what says that the state is whole
        (path / STATE_TENSORS).unlink(missing_ok=True)


def save_state(folder: Path, state: dict[str, Any]) -> None:
    """Writes nested dicts, lists, tuples, numbers, strings, None and tensors into two files in `folder`."""
    from safetensors.torch import save_file

    tensors: dict[str, torch.Tensor] = {}
    tree = _encode(state, "state", tensors, {})
    save_file(tensors, folder / STATE_TENSORS)
    (folder / STATE_FILE).write_text(json.dumps(tree))


def load_state(folder: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """What `save_state` wrote, bit for bit.

    Raises:
        TrainerError: the files are missing or broken.
    """
    from safetensors.torch import load_file

    try:
        tree = json.loads((folder / STATE_FILE).read_text())
        tensors = load_file(folder / STATE_TENSORS, device=str(device))
    except Exception as error:
        raise TrainerError(
            f"{folder}: the run cannot go on from here: {error}; delete this folder to go on from the one before it"
        ) from error
    state: dict[str, Any] = _decode(tree, tensors)
    return state


def _encode(value: Any, name: str, tensors: dict[str, torch.Tensor], seen: dict[int, str]) -> Any:
    import torch

    if isinstance(value, torch.Tensor):
        # one tensor held by many (bitsandbytes' quantisation map) is written once
        key = seen.setdefault(id(value), name)
        if key == name:
            tensors[name] = value.detach().to("cpu", copy=True).contiguous()
        return {"tensor": key}
    if isinstance(value, dict):
        return {"map": [[key, _encode(item, f"{name}/{key}", tensors, seen)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {kind: [_encode(item, f"{name}/{index}", tensors, seen) for index, item in enumerate(value)]}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"{name}: a {type(value).__name__} cannot be kept in a checkpoint")


def _decode(tree: Any, tensors: dict[str, torch.Tensor]) -> Any:
    if not isinstance(tree, dict):
        return tree
    ((kind, value),) = tree.items()
    if kind == "tensor":
        return tensors[value]
    if kind == "map":
        return {key: _decode(item, tensors) for key, item in value}
    items = [_decode(item, tensors) for item in value]
    return tuple(items) if kind == "tuple" else items


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
