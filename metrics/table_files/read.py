"""Reads the files in which people keep tables: delimited text from anywhere, Markdown, JSON lines, workbooks, logs."""

from __future__ import annotations

import codecs
import io
import json
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from metrics.command import one_line, reason
from metrics.errors import MetricsError
from metrics.table_files.trainer_logs import is_event_log, read_database, read_events
from metrics.table_files.workbook import read_workbook

if TYPE_CHECKING:
    import pandas

_SAVE = "save the table as CSV (in the spreadsheet: File, Save as, CSV UTF-8)"
_NO_TEXT = (  # how files begin that are no text, what they are, and what to do
    (rb"\xd0\xcf\x11\xe0", "an old Excel workbook", _SAVE),
    (rb"PK\x03\x04.*opendocument\.spreadsheet", "an OpenDocument workbook", _SAVE),
    (rb"PK\x03\x04|\x1f\x8b|BZh|7z\xbc\xaf|\xfd7zXZ|Rar!|\x28\xb5\x2f\xfd", "an archive", "unpack it"),
    (rb"PAR1|ARROW1", "a Parquet or Arrow file", "write it with pandas: read_parquet(…).to_csv(…)"),
    (rb"\x89PNG|\xff\xd8\xff|GIF8|RIFF....WEBP|%PDF", "a picture", "the numbers that it shows are needed, as CSV"),
    (rb"\x80[\x02-\x05]", "a pickle", "write the table as CSV"),
    (rb"\s*<(!doctype|html|\?xml)", "a web page", "download the table itself, as CSV"),
)
_WORKBOOK = re.compile(rb"PK\x03\x04.*(xl/|\[Content_Types\])", re.DOTALL)
_MOST_BYTES = 2**30
_RULE = re.compile(r"[|+]?\s*:?-+:?\s*([|+]\s*:?-+:?\s*)*[|+]?")  # of a Markdown table, below its header
_MARKED = re.compile(r"(\*\*|__|`)(.*?)\1")  # bold and code in its cells


def read_table(path: Path) -> pandas.DataFrame:
    """Any delimited text file with a header, JSON with an object for each row, an Excel workbook, or a trainer's log
    (columns step, tag and value). The index of a text is the line in the file less two, which makes the row's number in
    a plain table.

    Raises:
        MetricsError: one line saying what is there instead, and what to do.
    """
    name = one_line(path)
    try:
        if path.is_dir():
            raise MetricsError(f"{name}: a folder, not a table")
        about = path.stat()
        if not stat.S_ISREG(about.st_mode):
            raise MetricsError(f"{name}: a device or a pipe, not a table in a file")
        if about.st_size > _MOST_BYTES:
            raise MetricsError(
                f"{name}: {about.st_size / 2**30:.1f} GiB are too many for a table: at most 1 GiB is read"
            )
        with path.open("rb") as file:
            head = file.read(64)
        if is_event_log(path, head):
            return read_events(path)
        if head.startswith(b"SQLite format 3\0"):
            return read_database(path)
        raw = path.read_bytes()
    except FileNotFoundError as error:
        raise MetricsError(f"{name}: no such file") from error
    except OSError as error:
        raise MetricsError(f"{name}: {reason(error)}") from error
    table = read_workbook(path, raw, _SAVE) if _WORKBOOK.match(_ends(raw)) else _text_table(name, raw)
    table.columns = [str(column).strip() for column in table.columns]
    if table.empty:
        raise MetricsError(f"{name}: the table has no rows")
    return table


def _text_table(name: str, raw: bytes) -> pandas.DataFrame:
    _refuse_what_is_no_text(name, raw)
    text = _decoded(raw).replace("\r\n", "\n").replace("\r", "\n")
    try:
        return _json_table(text) if text.lstrip()[:1] in ("{", "[") else _delimited(text)
    except (ValueError, RecursionError) as error:  # pandas' and json's parser errors are ValueErrors
        raise MetricsError(f"{name}: not a table: {one_line(str(error).splitlines()[0])[:200]}") from error


def _refuse_what_is_no_text(name: str, raw: bytes) -> None:
    if not raw.strip():
        raise MetricsError(f"{name}: not a table: the file is empty")
    for sign, what, to_do in _NO_TEXT:
        if re.match(sign, _ends(raw), re.DOTALL | re.IGNORECASE):
            raise MetricsError(f"{name}: {what}, not a table in text: {to_do}")
    if b"\0" in raw[:4096] and not raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise MetricsError(f"{name}: not text: {_SAVE}")


def _ends(raw: bytes) -> bytes:
    """What tells a file's kind: its beginning, and its end, where archives list what they hold."""
    return raw[:4096] + raw[-4096:]


def _decoded(raw: bytes) -> str:
    """UTF-8, what a spreadsheet saves as Unicode (UTF-16 with its mark), Shift-JIS where kana say so, or else Windows'
    Western text, whose few unused bytes stand for themselves: names only have to differ from each other."""
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return raw.decode("utf-16", "replace")
    for encoding in ("utf-8-sig", "cp932"):
        try:
            text = raw.decode(encoding)
        except UnicodeDecodeError:
            continue
        if encoding == "utf-8-sig" or re.search(r"[\u3041-\u30ff]", text):
            return text
    try:
        return raw.decode("cp1252")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _json_table(text: str) -> pandas.DataFrame:
    """A row for each object: one a line, a list of them, or the `log_history` of transformers' trainer_state.json."""
    import pandas

    try:
        found = json.loads(text)
    except json.JSONDecodeError:
        found = [json.loads(line) for line in text.split("\n") if line.strip()]
    if isinstance(found, dict):
        found = found.get("log_history", [found])
    if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
        raise ValueError("JSON, but not an object for each row")
    plain = [{k: v for k, v in row.items() if not isinstance(v, dict | list)} for row in found]
    return pandas.DataFrame(plain)


def _delimited(text: str) -> pandas.DataFrame:
    import pandas

    separator, lines = _lines(text)
    header = lines[0][1]
    if separator is None:
        separator = max(",;\t|", key=header.count)
        separator = separator if separator in header else r"\s+"
    body = "\n".join(line for _, line in lines)
    decimal, thousands = _signs(body, separator)
    table = pandas.read_csv(
        io.StringIO(body), sep=separator, decimal=decimal, thousands=thousands, skipinitialspace=True
    )
    if len(table) == len(lines) - 1 and isinstance(table.index, pandas.RangeIndex):  # no cell goes over several lines
        table.index = pandas.Index([number - 2 for number, _ in lines[1:]])
    return table


def _lines(text: str) -> tuple[str | None, list[tuple[int, str]]]:
    """The separator where Excel's first line names one, and the lines of the table with their numbers in the file:
    without comments, empty lines and what frames a Markdown table."""
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    separator = None
    if named := re.fullmatch(r'"?sep=(.)"?', lines[0][1].rstrip("\n ")):
        separator, lines = named[1], lines[1:]
    if markdown := _markdown(lines):
        return "|", markdown
    comments = [line for line in lines if line[1].lstrip().startswith("#")]
    rest = [line for line in lines if not line[1].lstrip().startswith("#")]
    if rest and comments and _is_numbers(rest[0][1]):  # numpy's savetxt writes the header as a comment
        number, header = max((line for line in comments if line[0] < rest[0][0]), default=comments[0])
        rest.insert(0, (number, header.lstrip().lstrip("#").lstrip()))
    lines = [(number, line) for number, line in rest or lines if not _RULE.fullmatch(line.strip())]
    if not lines:
        raise ValueError("it has no rows")
    if all(line.strip().startswith("|") for _, line in lines):
        lines = [(number, line.strip().strip("|")) for number, line in lines]
        separator = "|"
    return separator, lines


def _markdown(lines: list[tuple[int, str]]) -> list[tuple[int, str]]:
    """The Markdown table among numbered lines, without its frame: the first with a loss, or else the first; [] without
    one. What is written around it is no part of it."""
    tables = []
    for at in range(1, len(lines)):
        header, rule = lines[at - 1][1], lines[at][1].strip()
        if "|" not in header or not _RULE.fullmatch(rule) or lines[at][0] != lines[at - 1][0] + 1:
            continue
        end = at + 1
        while end < len(lines) and "|" in lines[end][1] and lines[end][0] == lines[end - 1][0] + 1:
            end += 1
        if end > at + 1:
            tables.append([lines[at - 1], *lines[at + 1 : end]])
    if not tables:
        return []
    chosen = next((table for table in tables if "loss" in table[0][1].lower()), tables[0])
    cells = [(number, line.strip().removeprefix("|").removesuffix("|")) for number, line in chosen]
    rows = [(number, _MARKED.sub(r"\2", line)) for number, line in cells if not _RULE.fullmatch(line.strip())]
    return [(number, "|".join(cell.strip() for cell in row.split("|"))) for number, row in rows]


def _is_numbers(line: str) -> bool:
    cells = re.split(r"[,;\t| ]+", line.strip())
    return all(re.fullmatch(r'"?[-+]?(\d[\d.,]*(e[-+]?\d+)?|nan|inf)"?', cell, re.IGNORECASE) for cell in cells)


def _signs(text: str, separator: str) -> tuple[str, str | None]:
    """The decimal sign of a table's numbers, and the one between thousands, if it has any."""
    cells = [cell.strip().strip('"') for cell in re.split(rf"{re.escape(separator)}|\n", text)]
    commas = any(re.fullmatch(r"-?\d+,\d+(e-?\d+)?", cell, re.IGNORECASE) for cell in cells)
    points = [cell for cell in cells if re.fullmatch(r"-?\d+\.\d+(e[+-]?\d+)?", cell, re.IGNORECASE)]
    if separator == "," or not commas or not all(re.fullmatch(r"-?[1-9]\d{0,2}(\.\d{3})+", each) for each in points):
        return ".", None
    return ",", "." if points else None
