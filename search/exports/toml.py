"""TOML text of plain values: what sd-scripts' files need, and no more."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from search.study.comment_lines import comment_lines


def toml(values: Mapping[str, Any], *, comment: str = "") -> str:
    """TOML text of a mapping of plain values, mappings (tables) and lists of mappings (arrays of tables)."""
    lines = comment_lines(comment)
    _toml_table(values, (), lines)
    return "\n".join(lines).strip() + "\n"


def _toml_table(values: Mapping[str, Any], path: Sequence[str], lines: list[str]) -> None:
    nested = {k: v for k, v in values.items() if isinstance(v, Mapping) or _is_tables(v)}
    for key, value in values.items():
        if key not in nested:
            lines.append(f"{key} = {_toml_value(value)}")
    for key, value in nested.items():
        tables = [value] if isinstance(value, Mapping) else value
        head = "[{}]" if isinstance(value, Mapping) else "[[{}]]"
        for table in tables:
            lines += ["", head.format(".".join((*path, key)))]
            _toml_table(table, (*path, key), lines)


def _is_tables(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(v, Mapping) for v in value)


def _toml_value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)  # JSON's escapes are TOML's
    if isinstance(value, list):
        return f"[{', '.join(_toml_value(v) for v in value)}]"
    return repr(value)
