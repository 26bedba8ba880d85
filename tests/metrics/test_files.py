"""Files appear whole or not at all, and names are shown in one line."""

import errno
import os
from pathlib import Path
from typing import BinaryIO

import pytest

from metrics.errors import mistake, nearest
from metrics.files import shown, write_whole


@pytest.mark.parametrize(("durable", "flushes"), [(True, 1), (False, 0)])
def test_a_file_is_written_whole_and_flushed_where_it_has_to_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durable: bool, flushes: int
) -> None:
    real, flushed = os.fsync, []

    def fsync(descriptor: int) -> None:
        flushed.append(descriptor)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    path = tmp_path / "new" / "a.json"
    for content in (b"one", b"two"):
        write_whole(path, lambda file, content=content: file.write(content), durable=durable)
    assert path.read_bytes() == b"two"
    assert len(flushed) == 2 * flushes
    assert [each.name for each in path.parent.iterdir()] == ["a.json"]


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "full", "aside", None, "other"), ValueError("bad"), KeyboardInterrupt()]
)
def test_what_fails_leaves_the_old_file_and_names_it(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b"old")

    def fails(file: BinaryIO) -> None:
        file.write(b"half")
        raise error

    with pytest.raises(type(error)) as caught:
        write_whole(path, fails)
    assert caught.value is error
    assert path.read_bytes() == b"old"
    assert [each.name for each in tmp_path.iterdir()] == ["a.json"]
    if isinstance(error, OSError):
        assert (error.filename, error.filename2) == (str(path), None)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("a b/é犬.png", "a b/é犬.png"),
        (os.fsdecode(b"a\x8e.png"), "a\\x8e.png"),
        ("a\nb\x1b", "a\\nb\\x1b"),
        ("a\u202eb", "a\\u202eb"),
    ],
)
def test_a_path_is_shown_in_one_line(path: str, text: str) -> None:
    assert shown(path) == shown(Path(path)) == text


@pytest.mark.parametrize(
    ("parts", "line"),
    [
        (("--epoch", 3, "0 or 10"), "--epoch: expected 0 or 10, got 3"),
        (("--json", None, "a file"), "--json: expected a file, got nothing"),
        (("--json", "x", "a file", "it is a folder"), "--json: expected a file, got 'x': it is a folder"),
    ],
)
def test_a_mistake_is_told_in_one_form(parts: tuple, line: str) -> None:
    assert str(mistake(*parts)) == line


@pytest.mark.parametrize(
    ("name", "found"),
    [("promt", " (did you mean prompt?)"), ("PROMPT", " (did you mean prompt?)"), ("prompt", ""), ("zzz", "")],
)
def test_the_nearest_name_is_named(name: str, found: str) -> None:
    assert nearest(name, ["prompt", "copying"]) == found
