"""Checkpoints: complete or absent, with all state to go on exactly kept for the newest two, and no pickle anywhere."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.errors import TrainerError
from trainer.files import write_folder_whole

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
    final = checkpoint_path(folder, epoch)
    write_folder_whole(final, write)
    return final


def checkpoint_path(folder: Path, epoch: int) -> Path:
    """Where the checkpoint of `epoch` is, whether it exists or not."""
    return folder / f"{epoch:04d}"


def checkpoints(folder: Path) -> list[Path]:
    """Complete checkpoints, oldest epoch first."""
    if not folder.is_dir():
        return []
    found = [path for path in folder.iterdir() if path.name.isascii() and path.name.isdigit() and path.is_dir()]
    return sorted(found, key=lambda path: int(path.name))


def newest_state(folder: Path, *, say: Callable[[str], None] | None = None) -> Path | None:
    """The newest checkpoint under `folder` that a run can go on from: one whose state is whole; None without one.

    Args:
        say: is told of each newer one whose state is damaged, in one line.
    """
    for path in reversed(checkpoints(folder)):
        if not (path / STATE_FILE).exists():
            continue
        damage = state_damage(path)
        if damage is None:
            return path
        if say is not None:
            say(f"{path}: {damage}: this checkpoint is passed over")
    return None


def is_whole(folder: Path) -> bool:
    """Whether the checkpoint `folder` has a LoRA as it was written and, where it has a state, that one as well."""
    return lora_damage(folder) is None and (not (folder / STATE_FILE).exists() or state_damage(folder) is None)


def state_damage(folder: Path) -> str | None:
    """What is wrong with the state in the checkpoint `folder`, in a few words; None when a run can go on from it.

    Loads no torch. A state without digests, as earlier versions wrote it, is taken for whole when it can be read.
    """
    try:
        _read_state(folder)
    except _Damaged as damaged:
        return str(damaged)
    return None


def lora_damage(folder: Path) -> str | None:
    """What is wrong with the LoRA in the checkpoint `folder`, in a few words; None when it is as it was written.

    Loads no torch.
    """
    return lora_file_damage(folder / LORA_FILE)


def lora_file_damage(path: Path) -> str | None:
    """The same of any LoRA file of ours: it says itself what the hash of its weights is."""
    try:
        content = path.read_bytes()
        metadata, weights = _read_header(content)
        hashed = metadata.get("sshs_model_hash")
    except FileNotFoundError:
        return f"{path.name} is missing"
    except OSError as error:
        return f"{path.name} cannot be read ({error.strerror})"
    except ValueError:
        return f"{path.name} is damaged"
    changed = hashed is not None and hashlib.sha256(weights).hexdigest() != hashed
    return f"{path.name} is damaged" if changed else None


def drop_old_states(folder: Path, *, keep: int = STATES_KEPT) -> None:
    """Removes the state (not the LoRA) of all but the newest `keep` checkpoints."""
    holders = [path for path in checkpoints(folder) if (path / STATE_FILE).exists()]
    for path in holders[:-keep]:
        (path / STATE_FILE).unlink()  # first: it is what says that the state is whole
        (path / STATE_TENSORS).unlink(missing_ok=True)


def save_state(folder: Path, state: dict[str, Any]) -> None:
    """Writes nested dicts, lists, tuples, numbers, strings, None and tensors into two files in `folder`, with the
    digests by which `state_damage` knows them again."""
    from safetensors.torch import save

    tensors: dict[str, torch.Tensor] = {}
    tree = _encode(state, "state", tensors, {})
    content = save(tensors)
    digests = {"tensors": hashlib.sha256(content).hexdigest(), "tree": _digest(tree)}
    (folder / STATE_TENSORS).write_bytes(content)
    (folder / STATE_FILE).write_text(json.dumps({"sha256": digests, "tree": tree}), encoding="utf-8")


def load_state(folder: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """What `save_state` wrote, bit for bit.

    Raises:
        TrainerError: the files are missing or damaged.
    """
    from safetensors.torch import load

    try:
        tree, content = _read_state(folder)
    except _Damaged as damaged:
        raise TrainerError(f"{folder}: {damaged}: the run cannot go on from here") from damaged
    # not mapped from the file: Windows deletes no mapped file, and a state makes room for the next
    tensors = {name: tensor.to(device) for name, tensor in load(content).items()}
    state: dict[str, Any] = _decode(tree, tensors)
    return state


class _Damaged(Exception):
    """A state is not as it was written; says what is wrong in a few words."""


def _read_state(folder: Path) -> tuple[Any, bytes]:
    """(tree, bytes of the tensors' file) of a state that is whole. Raises _Damaged."""
    name = STATE_FILE
    try:
        tree = json.loads((folder / STATE_FILE).read_text(encoding="utf-8"))
        if not isinstance(tree, dict) or not tree:
            raise ValueError
        digests = tree.get("sha256")
        if digests is not None:
            tree = tree["tree"]
            if _digest(tree) != digests["tree"]:
                raise ValueError
        name = STATE_TENSORS
        content = (folder / STATE_TENSORS).read_bytes()
        if digests is None:
            _read_header(content)
        elif hashlib.sha256(content).hexdigest() != digests["tensors"]:
            raise ValueError
    except FileNotFoundError:
        raise _Damaged(f"{name} is missing") from None
    except OSError as error:
        raise _Damaged(f"{name} cannot be read ({error.strerror})") from error
    except (ValueError, LookupError, TypeError, RecursionError):
        raise _Damaged(f"{name} is damaged") from None
    return tree, content


def _read_header(content: bytes) -> tuple[dict[str, str], memoryview]:
    """(metadata, bytes of the tensors) of a safetensors file. Raises ValueError when it is damaged."""
    try:
        (length,) = struct.unpack("<Q", content[:8])
        header = json.loads(content[8 : 8 + length])
        metadata = header.pop("__metadata__", {})
        end = max((entry["data_offsets"][1] for entry in header.values()), default=0)
        data = memoryview(content)[8 + length :]
    except (struct.error, LookupError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError("no safetensors header") from error
    if len(data) != end:
        raise ValueError("not as long as its header says")
    return metadata, data


def _digest(tree: Any) -> str:
    return hashlib.sha256(json.dumps(tree).encode()).hexdigest()


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
