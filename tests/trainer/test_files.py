"""What is written appears whole or not at all, also where the system flushes only what is open for writing."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from trainer import files


def test_a_file_and_a_folder_are_written_under_windows_flush_rules(tmp_path: Path, windows_rules: list[str]) -> None:
    files.write_whole(tmp_path / "new" / "a.json", lambda file: file.write(b"one"))
    assert (tmp_path / "new" / "a.json").read_bytes() == b"one"
    assert len(windows_rules) == 1

    def fill(folder: Path) -> None:
        (folder / "lora.bin").write_bytes(b"weights")
        (folder / "state.json").write_text("{}")

    files.write_folder_whole(tmp_path / "0001", fill)
    assert sorted(windows_rules[1:]) == ["lora.bin", "state.json"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0001", "new"]


def test_a_failure_of_the_disk_is_not_taken_for_a_folder_that_cannot_be_flushed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(OSError, match="Input/output"):
        files.flush_folder(tmp_path)
    with pytest.raises(OSError, match="Input/output"):
        files.write_whole(tmp_path / "a", lambda file: file.write(b"one"))
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_another_program_holds_for_a_moment_is_replaced_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, tries = os.replace, []

    def held(source: Any, target: Any) -> None:
        tries.append(source)
        if len(tries) < 3:
            raise PermissionError(errno.EACCES, "Access is denied")
        real(source, target)

    monkeypatch.setattr(os, "replace", held)
    monkeypatch.setattr(files, "_PATIENCE", (0.0, 0.0))
    files.write_whole(tmp_path / "a", lambda file: file.write(b"one"))
    assert (tmp_path / "a").read_bytes() == b"one"
    tries[:] = []
    monkeypatch.setattr(files, "_PATIENCE", (0.0,))
    with pytest.raises(PermissionError):
        files.write_whole(tmp_path / "a", lambda file: file.write(b"two"))
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_bytes() == b"one"


def test_the_longest_name_that_the_system_has_can_be_written(tmp_path: Path) -> None:
    name = "n" * os.pathconf(tmp_path, "PC_NAME_MAX")
    files.write_whole(tmp_path / name, lambda file: file.write(b"one"))
    files.write_folder_whole(tmp_path / "folder" / name, lambda folder: None)
    assert (tmp_path / name).is_file()
    assert (tmp_path / "folder" / name).is_dir()


def test_what_a_killed_writer_left_aside_is_cleared_and_nothing_else(tmp_path: Path) -> None:
    keep = ["0001", ".hidden", "a.part"]
    for name in keep:
        (tmp_path / name).write_text("kept")

    class _KilledError(BaseException):
        pass

    def killed(folder: Path) -> None:
        (folder / "half").write_text("half")
        copy = tmp_path / ".0123456789abcdef.part"
        copy.mkdir()
        (copy / "half").write_text("half")
        raise _KilledError

    with pytest.raises(_KilledError):
        files.write_folder_whole(tmp_path / "0002", killed)
    (tmp_path / ".fedcba9876543210.part").write_text("half a file")
    files.clear_leftovers(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(keep)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="looks at open files")
def test_contents_are_flushed_before_names_and_no_file_stays_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, flushed = os.fsync, []

    def fsync(descriptor: int) -> None:
        flushed.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).relative_to(tmp_path).as_posix())
        real(descriptor)

    def fill(folder: Path) -> None:
        (folder / "a").write_text("a")
        (folder / "b").write_text("b")

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(files.secrets, "token_hex", lambda size: "x" * size)
    before = len(os.listdir("/proc/self/fd"))
    files.write_whole(tmp_path / "one", lambda file: file.write(b"1"))
    assert flushed == [".xxxxxxxx.part", "."]
    flushed.clear()
    files.write_folder_whole(tmp_path / "many", fill)
    assert sorted(flushed[:2]) == [".xxxxxxxx.part/a", ".xxxxxxxx.part/b"]
    assert flushed[2:] == [".xxxxxxxx.part", "."]
    flushed.clear()
    files.write_whole(tmp_path / "cache", lambda file: file.write(b"1"), durable=False)
    assert flushed == []
    assert len(os.listdir("/proc/self/fd")) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "many", "one"]


def test_a_folder_that_was_there_is_replaced_whole(tmp_path: Path) -> None:
    (tmp_path / "0001").mkdir()
    (tmp_path / "0001" / "old").write_text("old")
    files.write_folder_whole(tmp_path / "0001", lambda folder: (folder / "new").write_text("new"))
    assert [path.name for path in (tmp_path / "0001").iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["0001"]


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EBADF, errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENOTSUP])
@pytest.mark.parametrize("call", ["open", "fsync"])
def test_where_folders_cannot_be_flushed_nothing_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, call: str
) -> None:
    def fails(*_: object) -> None:
        raise OSError(number, "no")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fails)
        files.flush_folder(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(os, call, lambda *_: fails_with(errno.EIO))
        with pytest.raises(OSError, match="no"):
            files.flush_folder(tmp_path)


def fails_with(number: int) -> None:
    raise OSError(number, "no")


def test_links_among_leftovers_are_removed_and_not_followed(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").write_text("kept")
    (tmp_path / ".0.part").symlink_to(kept)
    files.clear_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert (kept / "file").read_text() == "kept"


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("a b/é犬.png", "a b/é犬.png"),
        (os.fsdecode(b"a\x8e\xca.png"), "a\\x8e\\xca.png"),
        ("a\nb\x1b[31m", "a\\nb\\x1b[31m"),
        ("a\u202eb", "a\\u202eb"),
        ("a\xa0b", "a\\xa0b"),
    ],
)
def test_a_path_is_shown_in_one_line_that_shows_all_of_it(path: str, text: str) -> None:
    assert files.shown(path) == files.shown(Path(path)) == text
