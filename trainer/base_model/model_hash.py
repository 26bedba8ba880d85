"""Hashes by which WebUIs tell checkpoints apart, as kohya's files name the base that they were trained on."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

_OLD_START, _OLD_LENGTH = 0x100000, 0x10000


def model_hashes(source: str | Path) -> dict[str, str]:
    """`ss_sd_model_hash` and `ss_new_sd_model_hash` of a single-file base; nothing for a folder or a hub id.

    The new one is the file's SHA-256, the old one the first eight digits of that of 64 KiB at 1 MiB (sd-scripts,
    train_util.model_hash). A file is read once a process: several gigabytes take seconds.
    """
    path = Path(source)
    if not path.is_file():
        return {}
    about = path.stat()
    old, new = _hashes(path.resolve(), about.st_size, about.st_mtime_ns)
    return {"ss_sd_model_hash": old, "ss_new_sd_model_hash": new}


@functools.lru_cache(maxsize=8)
def _hashes(path: Path, size: int, changed: int) -> tuple[str, str]:
    with path.open("rb") as file:
        new = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(_OLD_START)
        return hashlib.sha256(file.read(_OLD_LENGTH)).hexdigest()[:8], new
