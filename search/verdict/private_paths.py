"""Files that people pass on (the report, the verdict) say nothing of where a project lies on its maker's disk."""

import re
from collections.abc import Mapping
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

_PART = r"[^\s'\"<>|:;,()\[\]{}\\/]+"
_PATHS = re.compile(rf"(?<![\w:/.~…-])(?:file://)?(?:~?/(?:{_PART}/)+|[A-Za-z]:[\\/](?:{_PART}[\\/])*|~[\\/])({_PART})")


def without_private_paths(text: str) -> str:
    """Absolute paths in a text shortened to their last part.

    >>> without_private_paths("data: /home/anna/cats/20_sks cat, https://example.org/a/b stays")
    'data: …/20_sks cat, https://example.org/a/b stays'
    """
    return _PATHS.sub(r"…/\1", text)


def shareable(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config whose absolute paths are shortened to their last part; hub ids and relative paths stay."""
    return {name: _short(value) for name, value in config.items()}


def _short(value: Any) -> Any:
    if isinstance(value, Mapping):
        return shareable(value)
    if isinstance(value, list | tuple):
        return [_short(each) for each in value]
    if not isinstance(value, str):
        return value
    for kind in (PurePosixPath, PureWindowsPath):
        path = kind(value)
        if path.is_absolute() or value.startswith("~"):
            return f"…/{path.name}"
    return value
