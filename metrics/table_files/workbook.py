"""Reads the sheet of an Excel workbook that holds the losses."""

from __future__ import annotations

import importlib.util
import io
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from metrics.command import one_line
from metrics.errors import MetricsError

if TYPE_CHECKING:
    import pandas

_FIRST_ROWS = 20  # among which the header is
_MOST_BYTES = 256 * 2**20  # of a workbook unpacked: far more than the rows that a sheet can hold of losses
_UNREADABLE = (  # what openpyxl and its parsers of zip and XML raise; a ParseError is a SyntaxError
    *(ValueError, KeyError, TypeError, AttributeError, OSError, EOFError),
    *(SyntaxError, RuntimeError, NotImplementedError, zlib.error, zipfile.BadZipFile),
)


def read_workbook(path: Path, raw: bytes, save: str) -> pandas.DataFrame:
    """The one sheet with a column of losses, or else the only one that is not empty; the index is the row in the sheet
    less two.

    Args:
        path: named in errors.
        raw: the file.
        save: what to do where it cannot be read.

    Raises:
        MetricsError: openpyxl is not installed, the workbook is damaged, or it holds several such sheets.
    """
    import pandas

    name = one_line(path)
    if importlib.util.find_spec("openpyxl") is None:
        raise MetricsError(
            f"{name}: an Excel workbook is read by the package openpyxl: pip install openpyxl, or {save}"
        )
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as packed:
            unpacked = sum(part.file_size for part in packed.infolist())
        if unpacked > _MOST_BYTES:
            raise ValueError(f"{unpacked / 2**20:.0f} MiB unpacked: at most {_MOST_BYTES // 2**20} are read")
        sheets = pandas.read_excel(io.BytesIO(raw), sheet_name=None, header=None, engine="openpyxl")
    except _UNREADABLE as error:
        why = one_line(str(error).splitlines()[0] if str(error) else type(error).__name__)[:200]
        raise MetricsError(f"{name}: an Excel workbook that cannot be read ({why}): {save}") from error
    tables = {title: _headed(sheet) for title, sheet in sheets.items() if not sheet.dropna(how="all").empty}
    losses = {
        title: table for title, table in tables.items() if any("loss" in str(each).lower() for each in table.columns)
    }
    chosen = losses or tables
    if not chosen:
        raise MetricsError(f"{name}: the workbook is empty")
    if len(chosen) > 1:
        titles = one_line(", ".join(map(str, chosen)))
        raise MetricsError(f"{name}: several sheets hold tables ({titles}); save the one with the losses as CSV")
    return next(iter(chosen.values()))


def _headed(sheet: pandas.DataFrame) -> pandas.DataFrame:
    """A sheet with its header as columns: the first row with two texts, so that a title above is passed over."""
    texts = [
        sum(isinstance(cell, str) and bool(cell.strip()) for cell in row) for row in _rows(sheet.head(_FIRST_ROWS))
    ]
    header = next(row for row, count in enumerate(texts) if count >= min(2, max(texts)))
    names = _rows(sheet)[header]
    named = [place for place, cell in enumerate(names) if cell is not None and cell == cell]
    table = sheet.iloc[header + 1 :, named].dropna(how="all")
    table.columns = [str(names[place]) for place in named]
    return table.apply(_as_numbers).set_axis(table.index - 1)


def _rows(sheet: pandas.DataFrame) -> list[list[object]]:
    return sheet.to_numpy(object).tolist()


def _as_numbers(column: pandas.Series) -> pandas.Series:
    """Numbers where all cells are, those that are kept as text (with either decimal sign), too."""
    import pandas

    column = column.infer_objects()
    if column.dtype.kind in "OU" or pandas.api.types.is_string_dtype(column):
        texts = column.astype("string").str.strip().str.replace(r"^(-?\d+),(\d+)$", r"\1.\2", regex=True)
        numbers = pandas.to_numeric(texts, errors="coerce")
        if numbers.notna().sum() == column.notna().sum():
            return numbers.astype(float)
    return column
