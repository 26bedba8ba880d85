"""Fingerprint of a base: a digest of all that is read of it, the same wherever it lies. Imports no torch.

All weights count, not samples of them: the next version of a checkpoint may differ in a few tensors only. Checksums
of blocks (CRC-32, some gigabytes a second on each core, and sure to see any 32 bits beside each other that differ) are
digested together: enough against mistakes, not against forgery. A file that was read before is not read again while
its size, times and inode are the same.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from trainer.base_model.load import check_family
from trainer.families import layout
from trainer.families.prediction import noise_settings
from trainer.files import write_whole

_BLOCK_BYTES = 8 * 2**20
_REMEMBERED = "base-fingerprints.json"
_UNTOLD = ("_diffusers_version", "_name_or_path", "transformers_version")


def fingerprint_base(source: str | Path, *, remember: Path | None = None) -> str:
    """64 hexadecimal digits that change with any weight, shape, setting or token of a base.

    The path, other files in the folder, and notes in a checkpoint's metadata play no part.

    Args:
        source: hub id, diffusers folder or single .safetensors file, as in a train.yaml.
        remember: a folder in which digests of files are kept, so that large ones are not read each time.

    Raises:
        ModelError: the base is not there, or not whole.
    """
    family = check_family(source)
    path = layout.locate(source)
    total = hashlib.sha256(json.dumps([family.name, noise_settings(path, family.name)], sort_keys=True).encode())
    known = _Known(remember)
    if path.is_file():
        total.update(known.digest(path).encode())
    else:
        for name, part in sorted(layout.read_parts(path).items()):
            if name == "scheduler":
                continue
            total.update(f"{name} {part.class_name}\n".encode())
            for file in _files(part):
                plain = file.suffix == ".json"
                total.update(f"{file.name} {_json_digest(file) if plain else known.digest(file)}\n".encode())
    known.keep()
    return total.hexdigest()


def fingerprint_folder(folder: Path, *, remember: Path | None = None) -> str:
    """64 hexadecimal digits that change with the name or content of any file in a folder, hidden ones apart.

    Args:
        remember: as for `fingerprint_base`.
    """
    known, total = _Known(remember), hashlib.sha256()
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        if not any(part.startswith(".") for part in file.relative_to(folder).parts):
            total.update(f"{file.relative_to(folder).as_posix()} {known.digest(file)}\n".encode())
    known.keep()
    return total.hexdigest()


class _Known:
    """Digests of files by their sizes, times and inodes; on disk in `folder`, when there is one."""

    def __init__(self, folder: Path | None) -> None:
        self._file = None if folder is None else folder / _REMEMBERED
        self._before = self._read()
        self._now = dict(self._before)

    def digest(self, path: Path) -> str:
        about = path.stat()
        stamp = [about.st_size, about.st_mtime_ns, about.st_ctime_ns, about.st_ino]
        key = str(path.resolve())
        kept = self._now.get(key)
        if not (isinstance(kept, list) and len(kept) == 2 and kept[0] == stamp and isinstance(kept[1], str)):
            self._now[key] = kept = [stamp, _content_digest(path)]
        return kept[1]

    def keep(self) -> None:
        if self._file is None or self._now == self._before:
            return
        text = json.dumps(self._now, indent=1)
        with contextlib.suppress(FileNotFoundError, FileExistsError):  # the folder was deleted that very moment
            write_whole(self._file, lambda file: file.write(text.encode()), durable=False)

    def _read(self) -> dict[str, Any]:
        try:
            found = json.loads(self._file.read_text(encoding="utf-8")) if self._file is not None else {}
        except (OSError, ValueError):
            return {}  # a cache: what cannot be read is made anew
        return found if isinstance(found, dict) else {}


def _files(part: layout.Part) -> list[Path]:
    """All files of a part that are read; shards' index apart, since it only says where tensors lie."""
    if part.has_weights:
        return [part.config_file, *layout.weight_files(part)[0]]
    return sorted(file for file in part.folder.iterdir() if file.is_file() and not file.name.startswith("."))


def _json_digest(path: Path) -> str:
    """Digest of a JSON file's content, whichever way it is laid out and whichever version wrote it."""
    content = {key: value for key, value in layout.read_json(path).items() if key not in _UNTOLD}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _content_digest(path: Path) -> str:
    """Digest of a file; of a .safetensors file its shapes and data, without the notes in its metadata."""
    start, total = 0, hashlib.sha256()
    if path.suffix == ".safetensors":
        layout.read_header(path)  # says so in one line when it is none
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        total.update(json.dumps(header, sort_keys=True).encode())
        start = 8 + length
    places = range(start, path.stat().st_size, _BLOCK_BYTES)
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        for checksum in pool.map(lambda place: _checksum(path, place), places):
            total.update(checksum)
    return total.hexdigest()


def _checksum(path: Path, start: int) -> bytes:
    with path.open("rb") as file:
        file.seek(start)
        return zlib.crc32(file.read(_BLOCK_BYTES)).to_bytes(4, "little")
