"""Captions beside photos: which file, in which encoding, and what of it is the caption."""

from __future__ import annotations

import codecs
import os
from pathlib import Path

from trainer.errors import DataError
from trainer.files import shown

SUFFIXES = (".txt", ".caption")
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_ADVICE = "save the caption as UTF-8 (Windows-1252, Shift-JIS and GBK cannot be told apart)"


def read_caption(photo: Path, warnings: list[str]) -> str | None:
    """The first line with words in `.txt`, else `.caption`, as kohya reads it; None when there is no such file.

    Args:
        warnings: gets a line for what is not read, or read otherwise than by kohya.

    Raises:
        DataError: not text in UTF-8 (or UTF-16), by name.
    """
    for suffix in SUFFIXES:
        file = photo.with_suffix(suffix)
        if not os.path.isfile(file):  # also where a photo's name is as long as can be, and this one longer
            continue
        lines = [line.strip() for line in _read_text(file, warnings).splitlines() if line.strip()]
        if len(lines) > 1:
            warnings.append(f"{shown(file)}: {len(lines)} lines: only the first is the caption, as kohya reads it")
        if not lines:
            warnings.append(f"{shown(file)}: empty: the photo is trained without a caption")
        return lines[0] if lines else ""
    return None


def _read_text(file: Path, warnings: list[str]) -> str:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise DataError(f"{shown(file)}: cannot be read ({error.strerror})") from error
    encoding = next((encoding for mark, encoding in _MARKS if content.startswith(mark)), None)
    if encoding is None:
        encoding = _without_mark(content)
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise DataError(f"{shown(file)}: not UTF-8 text (byte {error.start}): {_ADVICE}") from error
    if "\0" in text:
        raise DataError(f"{shown(file)}: not UTF-8 text (it holds NUL bytes): {_ADVICE}")
    if not encoding.startswith("utf-8"):
        warnings.append(f"{shown(file)}: read as {encoding[:6].upper()}: other trainers want captions in UTF-8")
    return text


def _without_mark(content: bytes) -> str:
    """UTF-8, unless half of the bytes are the NULs that UTF-16 has beside Latin letters."""
    for encoding, high in (("utf-16-le", content[1::2]), ("utf-16-be", content[0::2])):
        if len(content) % 2 == 0 and high.count(0) * 2 > len(high):
            return encoding
    return "utf-8"
