"""Reads a YAML file that people write: only what settings need, within bounds, every mistake named by its line."""

from __future__ import annotations

import re
import stat
import unicodedata
from pathlib import Path
from typing import Any

import yaml

from trainer.errors import ConfigError, Plain, shown

MOST_BYTES = 2**20
MOST_VALUES = 10_000
"""Values in one file, those that aliases repeat counted each time."""
MOST_LEVELS = 30
_MOST_DIGITS = 100
_EXPONENT = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)[eE][+-]?\d+")
_YAML = "tag:yaml.org,2002:"
_TAGS = frozenset(f"{_YAML}{name}" for name in ("null", "bool", "int", "float", "str", "timestamp", "seq", "map"))
_ADVICE = {  # for what people write on Windows, by words of YAML's own message
    "'\\t'": "indent with blanks, not with tabs",
    "escape": "in double quotes \\ begins an escape; leave the quotes out, or write / in paths",
}
_WORDS = {"int": "a whole number", "float": "a number", "bool": "true or false", "null": "null"}


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The mapping of settings in a YAML file. Dates stay the text that was written.

    Raises:
        ConfigError: it is missing, no regular file, above `MOST_BYTES`, not UTF-8, not YAML or no mapping; it nests or
            repeats without bound, names a key twice, or holds control characters.
    """
    path = Path(path)
    values = parse_yaml(_read(path), path)
    if not isinstance(values, dict):
        raise ConfigError(path, "", values, "a mapping of settings, one `key: value` a line")
    return values


def parse_yaml(text: str, file: str | Path) -> Any:
    """The value that a text says, read as strictly as a file. `file`: what an error names.

    Raises:
        ConfigError: as `read_yaml`.
    """
    try:
        _check_bounds(text)
        return yaml.load(text, Loader=_StrictLoader)
    except yaml.YAMLError as error:
        where, what = _said(error)
        raise ConfigError(file, where, Plain(f"a mistake ({what})"), "valid YAML") from None
    except RecursionError:
        raise ConfigError(file, "", Plain("more"), f"at most {MOST_LEVELS} levels of settings") from None


def as_number(value: Any) -> Any:
    """YAML 1.1 reads 1e-5 as text: such text becomes the number that is meant, in lists too; else no change."""
    if isinstance(value, list):
        return [as_number(item) for item in value]
    if isinstance(value, str) and _EXPONENT.fullmatch(value.strip()):
        return float(value)
    return value


def _read(path: Path) -> str:
    try:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode):
            kind = "a folder" if stat.S_ISDIR(about.st_mode) else "a device or a pipe"
            raise ConfigError(path, "", Plain(kind), "a YAML file")
        if about.st_size > MOST_BYTES:
            raise ConfigError(path, "", Plain(f"{about.st_size:,} bytes"), "a YAML file of at most 1 MiB")
        with open(path, "rb") as file:
            content = file.read(MOST_BYTES + 1)
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(path, "", Plain(f"other bytes (at {error.start})"), "text in UTF-8") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        why = getattr(error, "strerror", None) or str(error)
        raise ConfigError(
            shown(str(path)), "", None, "a YAML file that can be read", why[:1].lower() + why[1:]
        ) from None


def _check_bounds(text: str) -> None:
    """Looks at the file's events alone: nothing is built, so that nothing can grow."""
    sizes: dict[str, int] = {}  # of anchored values, what they repeat included
    open_: list[tuple[str | None, int]] = []  # of each collection that is open: its anchor, the count before it
    count = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes:
                raise _wrong(f"*{event.anchor} stands for nothing that is whole before it", event)
            count += sizes[event.anchor]
        elif isinstance(event, yaml.ScalarEvent):
            count += 1
            if event.anchor is not None:
                sizes[event.anchor] = 1
        elif isinstance(event, yaml.CollectionStartEvent):
            if event.anchor is not None:
                sizes.pop(event.anchor, None)
            open_.append((event.anchor, count))
            count += 1
            if len(open_) > MOST_LEVELS:
                raise _wrong(f"settings go more than {MOST_LEVELS} levels deep", event)
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_.pop()
            if anchor is not None:
                sizes[anchor] = count - before
        if count > MOST_VALUES:
            raise _wrong(f"there are more than {MOST_VALUES:,} values, those that aliases repeat included", event)


class _StrictLoader(yaml.SafeLoader):
    """SafeLoader that refuses a key given twice, keys that are no names, and values that no setting can have."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        if node.tag not in _TAGS:
            raise _wrong(f"{node.tag.replace(_YAML, '!!')} is a tag that no setting has", node)
        try:
            return super().construct_object(node, deep)
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
            kind = _WORDS.get(node.tag.rpartition(":")[2], node.tag)
            raise _wrong(f"{shown(node.value)} is not {kind}", node) from None

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            if key_node.tag == f"{_YAML}merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise _wrong(f"{shown(key)} is a key, and keys are names", key_node)
            if key in seen:
                raise _wrong(f"{shown(key)} is given twice", key_node)
            seen.add(key)
        return super().construct_mapping(node, deep)

    def whole_number(self, node: yaml.ScalarNode) -> int:
        """As YAML has it, but of few digits, and never by sixties (1:30) or silently by eights (010)."""
        text = str(self.construct_scalar(node))
        if len(text) > _MOST_DIGITS:
            raise _wrong(f"a number of {len(text):,} digits is given", node)
        digits = text.lstrip("+-").replace("_", "")
        if ":" in digits or (len(digits) > 1 and digits[0] == "0" and digits[1] not in "xb"):
            raise _wrong(f"{text} is another number than it looks like; leave out the colon or the first 0", node)
        return int(super().construct_yaml_int(node))

    def text(self, node: yaml.ScalarNode) -> str:
        """Text that can be written to a file and shown on a terminal."""
        value = str(self.construct_scalar(node))
        if strange := next((c for c in value if unicodedata.category(c) in ("Cc", "Cs") and c not in "\t\n"), None):
            raise _wrong(f"the control character U+{ord(strange):04X} stands in a text", node)
        return value


_StrictLoader.add_constructor(f"{_YAML}int", _StrictLoader.whole_number)
_StrictLoader.add_constructor(f"{_YAML}timestamp", _StrictLoader.text)
_StrictLoader.add_constructor(f"{_YAML}str", _StrictLoader.text)


def _wrong(what: str, place: Any) -> yaml.constructor.ConstructorError:
    return yaml.constructor.ConstructorError(None, None, what, place.start_mark)


def _said(error: yaml.YAMLError) -> tuple[str, str]:
    """(where, what is wrong), without the excerpt that YAML adds."""
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return "", " ".join(str(error).split())[:300]
    context = getattr(error, "context", None)
    wrong = str(getattr(error, "problem", ""))
    what = " ".join(f"{context + ': ' if context else ''}{wrong}".split())[:300]
    what += next((f"; {advice}" for sign, advice in _ADVICE.items() if sign in f"{context or ''} {wrong}"), "")
    return f"line {mark.line + 1}, column {mark.column + 1}", what
