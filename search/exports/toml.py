"""TOML text with a comment at its head: sd-scripts' files."""

from collections.abc import Mapping
from typing import Any

import tomli_w

from search.study.comment_lines import comment_lines


def toml(values: Mapping[str, Any], *, comment: str = "") -> str:
    """TOML text of a mapping of plain values, mappings (tables) and lists of mappings (arrays of tables)."""
    head = "\n".join(comment_lines(comment))
    return f"{head}\n\n{tomli_w.dumps(values)}".lstrip("\n")
