"""What a file of settings points at, and what it calls things: paths, hub ids, names that a file can have."""

from __future__ import annotations

import os
import re
import stat
import unicodedata
from pathlib import Path

from trainer.errors import ConfigError, shown

MOST_NAME_BYTES = 100
"""Of a name that folders and files are called by: some systems allow 255 with what is added to it."""
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_BREAKING = ("Cc", "Cs", "Zl", "Zp")  # categories of Unicode
_INVISIBLE = (*_BREAKING, "Cf")
_DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in "123456789¹²³")}


def is_one_line(text: str) -> bool:
    """Whether a caption can say it: joiners and wide blanks of other scripts may stand in it, controls may not."""
    return not any(unicodedata.category(c) in _BREAKING for c in text)


def why_no_file_name(name: str) -> str | None:
    """What a name would have to be to name a file or folder on any system, one line in a terminal and in a script;
    None when it is that."""
    if not name.strip():
        return "a name that is not empty"
    if strange := next((c for c in name if unicodedata.category(c) in _INVISIBLE), None):
        return f"a name without control, line or direction characters (U+{ord(strange):04X} is one)"
    if found := sorted(set(name) & set('/\\:*?"<>|')):
        return f"a name that a folder can have (without {' '.join(found)})"
    if name.startswith(".") or name != name.strip() or name.endswith("."):
        return "a name that neither begins with a dot nor ends with one, without blanks around it"
    if name.split(".")[0].strip().lower() in _DEVICES:
        return "another name: Windows keeps this one for a device"
    if len(name.encode()) > MOST_NAME_BYTES:
        return f"a name of at most {MOST_NAME_BYTES} bytes (this one has {len(name.encode())})"
    return None


def resolve_source(file: Path, key: str, value: str) -> str:
    """A path relative to `file`'s folder as an absolute one; for key "base" also a hub id, unchanged.

    Raises:
        ConfigError: there is nothing at that path and it is no hub id, or it is no folder (base: nor a file).
    """
    also = ", or a hub id such as org/name" if key == "base" else ""
    try:
        path = Path(value).expanduser()
        path = path if path.is_absolute() else file.parent / path
        mode = path.stat().st_mode
        found = str(path.resolve())
    except (FileNotFoundError, NotADirectoryError):
        if key == "base" and _HUB_ID.fullmatch(value):
            return value
        raise ConfigError(
            file, key, value, f"a path that exists{also}", f"looked for {shown(os.path.abspath(path))}"
        ) from None
    except (OSError, ValueError, RuntimeError) as error:  # too long, no permission, a NUL, the home of nobody
        why = getattr(error, "strerror", None) or str(error)
        raise ConfigError(file, key, value, f"a path that can be looked at{also}", why) from None
    if not (stat.S_ISDIR(mode) or (key == "base" and stat.S_ISREG(mode))):
        raise ConfigError(file, key, value, "a folder or a .safetensors file" if key == "base" else "a folder")
    return found
