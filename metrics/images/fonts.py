"""Typefaces of matplotlib for what people write: DejaVu, a Japanese one that is installed with us, the system's.

`trainer.inference.fonts` is its twin: the two packages stand alone.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path

SYSTEM = (
    "Noto Sans CJK JP", "Noto Sans JP", "Hiragino Sans", "Yu Gothic", "Meiryo", "MS Gothic", "Noto Sans CJK SC",
    "Microsoft YaHei", "PingFang SC", "WenQuanYi Zen Hei", "Noto Sans CJK KR", "Malgun Gothic", "NanumGothic",
    "Apple SD Gothic Neo", "Arial Unicode MS", "Noto Sans", "Noto Sans Thai", "Noto Sans Arabic",
)  # fmt: skip
"""Families that hold other scripts, in the order in which they are tried."""
_BOLD = (600, 700, 800, "semibold", "bold", "heavy")
LACKING = "·"
"""Stands for a character that no typeface here has."""


@contextmanager
def any_script() -> Iterator[None]:
    """Inside, texts of a figure are drawn by the first typeface that has each character."""
    import matplotlib

    with matplotlib.rc_context({"font.family": list(_families())}):
        yield


def drawable(text: str) -> str:
    """A text as it can be drawn: what no typeface has becomes a dot, and what has no width is left out."""
    if text.isascii():
        return text
    shown = (c for c in text if unicodedata.category(c) not in ("Cf", "Mn") or ord(c) in _glyphs())
    return "".join(c if c.isspace() or ord(c) in _glyphs() else LACKING for c in shown)


@cache
def _families() -> tuple[str, ...]:
    from matplotlib import font_manager

    spec = find_spec("matplotlib_fontja")  # importing it would change settings of matplotlib
    shipped = []
    for folder in [] if spec is None else spec.submodule_search_locations or ():
        for file in sorted(Path(folder, "fonts").glob("*.ttf")):
            font_manager.fontManager.addfont(str(file))
            shipped.append(font_manager.FontProperties(fname=str(file)).get_name())
    entries = font_manager.fontManager.ttflist
    there = {entry.name: entry for entry in reversed(entries)}
    others = (*shipped, *(name for name in SYSTEM if name in there and name not in shipped))
    for name in others:  # matplotlib logs a line for each bold title that a typeface without bold letters might draw
        if not any(entry.name == name and entry.weight in _BOLD for entry in entries):
            entries.append(replace(there[name], weight=700))
    return ("DejaVu Sans", *others)


@cache
def _glyphs() -> frozenset[int]:
    from matplotlib import font_manager
    from matplotlib.ft2font import FT2Font

    files = [font_manager.findfont(font_manager.FontProperties(family=[name])) for name in _families()]
    return frozenset().union(*(FT2Font(file).get_charmap() for file in files))
