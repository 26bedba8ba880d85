"""Typefaces for what people write: DejaVu, a Japanese one that is installed with us, and what the system has.

`metrics.images.fonts` is its twin: the two packages stand alone.
"""

from __future__ import annotations

import unicodedata
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import ImageFont

SYSTEM = (
    "Noto Sans CJK JP", "Noto Sans JP", "Hiragino Sans", "Yu Gothic", "Meiryo", "MS Gothic", "Noto Sans CJK SC",
    "Microsoft YaHei", "PingFang SC", "WenQuanYi Zen Hei", "Noto Sans CJK KR", "Malgun Gothic", "NanumGothic",
    "Apple SD Gothic Neo", "Arial Unicode MS", "Noto Sans", "Noto Sans Thai", "Noto Sans Arabic",
)  # fmt: skip
"""Families that hold other scripts, in the order in which they are tried."""
LACKING = "·"
"""Stands for a character that no typeface here has."""


def font(size: int, *, bold: bool = False, text: str = "") -> ImageFont.FreeTypeFont:
    """The typeface for a text: the first that has all of it, or else the most."""
    return _loaded(_best(text, bold), size)


def drawable(text: str) -> str:
    """A text as it can be drawn: what its typeface lacks becomes a dot, and what has no width is left out."""
    glyphs = _glyphs(_best(text, False))
    shown = (c for c in text if unicodedata.category(c) not in ("Cf", "Mn") or ord(c) in glyphs)
    return "".join(c if c.isspace() or ord(c) in glyphs else LACKING for c in shown)


def _best(text: str, bold: bool) -> Path:
    known = _files(bold)
    if text.isascii():
        return known[0]
    wanted = {ord(c) for c in text if not c.isspace()}
    return max(known, key=lambda file: len(wanted & _glyphs(file)))  # of equals, the first


@cache
def _files(bold: bool) -> tuple[Path, ...]:
    from matplotlib import font_manager, get_data_path

    own = Path(get_data_path()) / "fonts" / "ttf" / ("DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf")
    there = {entry.name: Path(entry.fname) for entry in reversed(font_manager.fontManager.ttflist)}
    return (own, *_shipped(), *(there[name] for name in SYSTEM if name in there))


def _shipped() -> tuple[Path, ...]:
    """IPAex Gothic; importing its package would change matplotlib's settings."""
    spec = find_spec("matplotlib_fontja")
    folders = [] if spec is None else list(spec.submodule_search_locations or ())
    return tuple(file for folder in folders for file in sorted(Path(folder, "fonts").glob("*.ttf")))


@cache
def _glyphs(file: Path) -> frozenset[int]:
    from matplotlib.ft2font import FT2Font

    return frozenset(FT2Font(str(file)).get_charmap())


@cache
def _loaded(file: Path, size: int) -> ImageFont.FreeTypeFont:
    from PIL import ImageFont

    return ImageFont.truetype(str(file), size)
