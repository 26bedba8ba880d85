"""What a text tells of the person who wrote it and of their disk: paths, home folders' names, mail addresses, keys."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Kind = Literal["path", "name", "mail address", "key"]
_PART = r"[^\s'\"<>|:;,()\[\]{}\\/]+"
_SEP = r"(?:/|\\\\?)"
_PATHS = re.compile(
    rf"(?<![\w:/.~…-])(?:file://)?(?:~?/(?:{_PART}/)+|[A-Za-z]:{_SEP}(?:{_PART}{_SEP})*|~[\\/]|\\\\{{1,3}}{_PART}{_SEP}"
    rf"(?:{_PART}{_SEP})*)({_PART})"
)
_WITH_SPACES = re.compile(r"(?:/|~/|[A-Za-z]:[\\/]|\\\\)[^\x00-\x1f\"<>|]*[\\/]([^\\/\x00-\x1f\"<>|]+)")
_HOMES = re.compile(rf"(?:/home/|/Users/|[A-Za-z]:{_SEP}Users{_SEP})({_PART})", re.IGNORECASE)
_MAIL = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
_KEY = re.compile(r"\b(?:hf_[A-Za-z0-9]{20,}|sk-[A-Za-z0-9_-]{20,}|ghp_[A-Za-z0-9]{20,}|[0-9a-f]{40}(?=\W*wandb))\b")
_PATTERNS: tuple[tuple[Kind, re.Pattern[str]], ...] = (("path", _PATHS), ("mail address", _MAIL), ("key", _KEY))
_NO_NAMES = {"user", "root", "public", "default", "admin", "ubuntu", "runner", "home", "app", "workspace", "all"}


@dataclass(frozen=True)
class Private:
    """One thing that tells of a person. text: as it stands there."""

    kind: Kind
    text: str


def private_in(text: str, names: Iterable[str] = ()) -> tuple[Private, ...]:
    """What in a text is private, each thing once.

    Args:
        names: further names to look for, as `home_names` finds them elsewhere.
    """
    found: dict[str, Private] = {}
    for kind, pattern in _PATTERNS:
        for match in pattern.finditer(text):
            found.setdefault(match.group(), Private(kind, match.group()))
    if _is_path(text):
        found = {text: Private("path", text)}
    rest = _PATHS.sub(" ", text) if not _is_path(text) else ""
    for name in names:
        if named := _word(name).search(rest):
            found.setdefault(named.group(), Private("name", named.group()))
    return tuple(found.values())


def home_names(text: str) -> frozenset[str]:
    """Names of people as the home folders in a text have them: `anna` of `/home/anna/…`."""
    found = {match.group(1) for match in _HOMES.finditer(text)}
    return frozenset(name for name in found if len(name) > 2 and name.lower() not in _NO_NAMES)


def without_private(text: str, names: Iterable[str] = ()) -> str:
    """A text without them: paths keep their last part, names, mail addresses and keys become `…`.

    >>> without_private("trained by anna@example.org on /home/anna/models/base.safetensors", ["anna"])
    'trained by … on …/base.safetensors'
    """
    if _is_path(text):
        text = _WITH_SPACES.sub(r"…/\1", text)
    text = without_private_paths(text)
    for pattern in (_MAIL, _KEY, *(_word(name) for name in names)):
        text = pattern.sub("…", text)
    return text


def without_private_paths(text: str) -> str:
    """Absolute paths in a text shortened to their last part.

    >>> without_private_paths("data: /home/anna/cats/20_sks cat, https://example.org/a/b stays")
    'data: …/20_sks cat, https://example.org/a/b stays'
    """
    return _PATHS.sub(r"…/\1", text)


def _is_path(text: str) -> bool:
    """Whether a text is a path and nothing else, which may have spaces in it."""
    return len(text) < 4096 and _WITH_SPACES.fullmatch(text) is not None


def _word(name: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![^\W_]){re.escape(name)}(?![^\W_])", re.IGNORECASE)
