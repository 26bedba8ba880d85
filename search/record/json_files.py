"""JSON files, and others, written whole or not at all and read by type. Loads neither numpy nor pydantic by itself."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import Field, fields
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

from metrics.files import write_whole


class _Dataclass(Protocol):
    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]


T = TypeVar("T", bound=_Dataclass)
_ADAPTERS: dict[type, Any] = {}  # made once: each takes milliseconds


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all; makes its folder."""
    write_whole(path, lambda file: file.write(content))


def write_json(path: Path, content: object) -> None:
    """Write JSON aside, fsync and rename, so that a reader sees the old file or the new one."""
    write_bytes(path, (json.dumps(content, indent=2, default=_plain) + "\n").encode())


def write_fields(path: Path, values: Mapping[str, object]) -> None:
    """Write a mapping as `write_json` does, with a line for each name and none within a value: Python indents in slow
    code of its own, and some files are written at each event."""
    encode = json.JSONEncoder(default=_plain).encode
    lines = (f"  {encode(name)}: {encode(value)}" for name, value in values.items())
    write_bytes(path, ("{\n" + ",\n".join(lines) + "\n}\n").encode())


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def digest_of(content: object) -> str:
    """SHA-256 of what JSON says of something: the same for the same content, in whatever order its keys stand."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def checked(kind: type[T], values: Any) -> T:
    """A dataclass from what a JSON file holds; names that it does not know are left out.

    Raises:
        ValueError: something is missing, or of another type.
    """
    if not isinstance(values, dict):
        raise ValueError(f"a {kind.__name__} is a mapping")
    if kind not in _ADAPTERS:
        from pydantic import TypeAdapter

        _ADAPTERS[kind] = TypeAdapter(kind)
    names = {each.name for each in fields(kind)}
    found: T = _ADAPTERS[kind].validate_python({k: v for k, v in values.items() if k in names})
    return found


def read_if_whole(kind: type[T], path: Path) -> T | None:
    """The dataclass that a JSON file holds; None where the file is missing or damaged."""
    try:
        return checked(kind, read_json(path))
    except (OSError, ValueError):
        return None


def _plain(value: object) -> object:
    """numpy scalars, paths and tuples as JSON has them."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")
