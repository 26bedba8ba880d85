"""What every command does alike: any console, one line for each failure, quiet where nobody reads."""

import errno
import importlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from argparse import ArgumentTypeError
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from trainer import arguments
from trainer.command import FAILED, INTERRUPTED, WRONG_INPUT

ROOT = Path(__file__).parents[2]


def python(code: str, *, encoding: str = "utf-8", **options) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": encoding}
    code = f"from trainer.command import Command, end\n{code}"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment, **options)


@pytest.fixture(params=["trainer", "metrics"])
def twin(request: pytest.FixtureRequest) -> ModuleType:
    return importlib.import_module(f"{request.param}.command")


def told(twin: ModuleType, error: BaseException, capsys, **options) -> tuple[int, str]:
    """Exit code and the one line on stderr of a command whose work raises `error`."""

    def work() -> int:
        raise error

    code = twin.Command("test.run", refused=(KeyError,), failed=(ArithmeticError,), **options).run(work)
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert line.startswith("error: ") != isinstance(error, KeyboardInterrupt)
    return code, line.removeprefix("error: ").rstrip("\n")


@pytest.mark.parametrize("name", ["command.py", "interrupts.py"])
def test_the_twin_in_metrics_is_one(name: str):
    ours, theirs = ((ROOT / package / name).read_text() for package in ("trainer", "metrics"))
    ours, theirs = (text.split('"""', 2)[2] for text in (ours, theirs))
    assert ours.replace("from trainer.", "from metrics.") == theirs


@pytest.mark.parametrize("encoding", ["cp932", "gbk", "ascii", "latin-1", "utf-8:strict"])
def test_any_console_shows_everything(encoding: str):
    said = "3 of 14 · ETA – … × → ≥ 犬 café"
    done = python(
        f"end(lambda: Command('t').run(lambda: print({said!r}, '\\udc8e\\udcca.png') or 0))", encoding=encoding
    )
    assert done.returncode == 0, done.stderr
    shown = done.stdout.decode(encoding.split(":")[0])
    assert r"\x8e\xca.png" in shown  # bytes that are no text
    assert len(shown) >= len(said)
    assert "3 of 14" in shown
    if encoding == "ascii":
        assert shown.startswith(r"3 of 14 - ETA - . x > > \u72ac caf\xe9")


def test_a_table_on_a_console_without_its_lines_is_drawn_with_plain_ones():
    code = """
from rich.console import Console; from rich.table import Table
def work():
    table = Table(title='study · dog'); table.add_column('trial'); table.add_row('1'); Console().print(table); return 0
end(lambda: Command('t').run(work))"""
    done = python(code, encoding="cp932")
    assert done.returncode == 0, done.stderr
    assert "+-------+" in done.stdout.decode("ascii")


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (KeyError("no such trial"), WRONG_INPUT, "'no such trial'"),
        (ArithmeticError("the loss is NaN"), FAILED, "the loss is NaN"),
        (OSError(errno.ENOSPC, "No space left on device", "runs/a.json"), FAILED, "runs/a.json: the disk is full"),
        (OSError(errno.EROFS, "Read-only", "runs"), FAILED, "runs: the file system is read-only"),
        (PermissionError(errno.EACCES, "denied", b"runs/\x8e"), FAILED, "runs/\\x8e: no permission"),
        (NotADirectoryError(errno.ENOTDIR, "x", "a/b"), FAILED, "a/b: a folder is needed where a file is"),
        (OSError(errno.ENAMETOOLONG, "x", "name"), WRONG_INPUT, "name: the name is too long"),
        (FileNotFoundError(errno.ENOENT, "x", "a", None, "b"), FAILED, "a → b: no such file or folder"),
        (FileNotFoundError(errno.ENOENT, "x", "a\nb\x1b[31m"), FAILED, "a\\nb\\x1b[31m: no such file or folder"),
        (shutil.SameFileError("'a' and 'b' are the same file"), FAILED, "'a' and 'b' are the same file"),
        (MemoryError(), FAILED, "out of memory: "),
        (RecursionError("maximum recursion depth exceeded"), FAILED, "something is nested too deeply"),
        (UnicodeDecodeError("utf-8", b"\x8e", 0, 1, "invalid start byte"), FAILED, "a text or a file name is not"),
        (ModuleNotFoundError("No module named 'foo'", name="foo"), FAILED, "the package foo is not installed"),
        (RuntimeError("I/O error: No space left on device (os error 28)"), FAILED, "the disk is full"),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), FAILED, "Broken pipe"),  # of a worker: our own output is read
        (KeyboardInterrupt(), INTERRUPTED, "interrupted"),
    ],
    ids=repr,
)
def test_what_libraries_raise_becomes_a_line(twin: ModuleType, error, code: int, line: str, capsys):
    found, said = told(twin, error, capsys)
    assert found == code
    assert said.startswith(line)
    assert "Traceback" not in said


def test_a_disk_at_fault_is_named_by_the_folder_where_no_file_is_known(twin: ModuleType, tmp_path, capsys):
    error = RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)")  # safetensors'
    assert told(twin, error, capsys, folder=tmp_path) == (
        FAILED,
        f"{tmp_path}: the disk is full",
    )


def test_broken_yaml_is_a_line(twin: ModuleType, capsys):
    with pytest.raises(yaml.YAMLError) as caught:
        yaml.safe_load("a: [1")
    assert told(twin, caught.value, capsys)[0] == WRONG_INPUT


def test_what_nobody_foresaw_goes_to_a_log_file_that_the_line_names(twin: ModuleType, tmp_path, capsys):
    code, line = told(twin, TypeError("by zero\nand more"), capsys, folder=tmp_path)
    assert code == FAILED
    assert line == f"failed unexpectedly: TypeError: by zero\\nand more; details are in {tmp_path}/error.log"
    told(twin, TypeError("again"), capsys, folder=tmp_path)
    log = (tmp_path / "error.log").read_text()
    assert log.count("Traceback (most recent call last)") == 2
    assert "test_command.py" in log


def test_the_log_goes_to_the_temporary_folder_where_there_is_no_other(twin: ModuleType, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    _, line = told(twin, TypeError(), capsys, folder=tmp_path / "none")
    assert "TypeError" in Path(re.search(r"details are in (.*)", line)[1]).read_text()
    assert not (tmp_path / "none").exists()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    assert told(twin, TypeError(), capsys)[1].endswith("no file could be written with the details")


def test_a_reader_that_goes_away_ends_the_command_quietly():
    code = "end(lambda: Command('t').run(lambda: [print(i) for i in range(10**6)] and 0))"
    head = f'set -o pipefail; {sys.executable} -c "from trainer.command import Command, end\n{code}" | head -1'
    done = subprocess.run(
        ["bash", "-c", head], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert (done.stdout, done.stderr, done.returncode) == ("0\n", "", FAILED)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a full device")
def test_an_output_that_is_full_is_a_line():
    with open("/dev/full", "w") as full:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        code = "from trainer.command import Command, end\nend(lambda: Command('t').run(lambda: print('x') or 0))"
        done = subprocess.run([sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, env=environment)
    assert done.returncode == FAILED
    assert done.stderr.decode().startswith("error: the disk is full; details are in ")
    assert done.stderr.count(b"\n") == 1


@pytest.mark.parametrize("module", ["search.run", "search.status", "trainer.run", "metrics.run"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_modules_are_imported_is_an_interruption(tmp_path, module: str, number: int):
    (tmp_path / "argparse.py").write_text(f"import os\nos.kill(os.getpid(), {int(number)})\n")  # one that is imported
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    done = subprocess.run(
        [sys.executable, "-m", module, "x"],
        capture_output=True,
        env=environment,
        cwd=tmp_path,
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),  # a shell's background job ignores Ctrl-C
    )
    assert (done.returncode, done.stderr) == (INTERRUPTED, b"")


def test_a_termination_signal_is_an_interruption_and_a_second_one_does_not_hurt():
    code = """
import atexit, os, signal
atexit.register(lambda: os.kill(os.getpid(), signal.SIGINT))
def work():
    try:
        os.kill(os.getpid(), signal.SIGTERM)
    finally:
        os.kill(os.getpid(), signal.SIGINT)
end(lambda: Command('t', interrupted='it is kept').run(work))"""
    done = python(code)
    assert (done.returncode, done.stderr) == (INTERRUPTED, b"it is kept\n")
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL  # as before in this process


@pytest.mark.parametrize("text", ["-1", "65536", "9" * 5000, "1e3", "٣", "", "8080.0", "nope"])
def test_impossible_ports_are_refused(text: str):
    with pytest.raises(ArgumentTypeError, match="expected a whole number from 0 to 65535, got ") as caught:
        arguments.port(text)
    assert len(str(caught.value)) < 200


def test_ports_and_numbers_are_read():
    assert arguments.port("0") == 0
    assert arguments.port("8080") == 8080
    assert arguments.whole(0)("12") == 12


def test_a_folder_is_one_or_can_become_one(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    assert arguments.folder_to_write(str(tmp_path / "new" / "deep")) == tmp_path / "new" / "deep"
    for text, why in (
        (str(tmp_path / "file"), "expected a folder, got .* is a file"),
        (str(tmp_path / "file" / "below"), "expected a folder, got .* is a file"),
        (str(tmp_path / "link"), "is a link to nothing"),
        (str(tmp_path / ("x" * 5000)), "the name is too long"),
        ("", "expected the name of a folder, got"),
    ):
        with pytest.raises(ArgumentTypeError, match=why) as caught:
            arguments.folder(text)
        assert len(str(caught.value)) < 250


def test_a_folder_that_may_not_be_written_into_is_refused():
    def ask() -> None:
        with pytest.raises(ArgumentTypeError, match=r"nothing can be written into .*closed"):
            arguments.folder_to_write(str(closed / "new"))

    with tempfile.TemporaryDirectory() as home:  # pytest's own folders are closed to others
        closed = Path(home) / "closed"
        closed.mkdir(mode=0o555)
        os.chmod(home, 0o755)
        assert as_nobody(ask) == 0


def as_nobody(work: Callable[[], None]) -> int:
    """Exit code of a child process that works without root's rights: root may write anywhere."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            if os.geteuid() == 0:
                os.setgid(65534)
                os.setuid(65534)
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_pipe_whose_reader_has_gone_is_told_from_one_that_is_read_and_turned_off(twin: ModuleType):
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as stream:
        assert not twin._has_no_reader(stream)
        os.close(reading)
        assert twin._has_no_reader(stream)
        print("nobody reads", file=stream)
        with pytest.raises(BrokenPipeError):
            stream.flush()
        twin._turn_off(stream)
        assert not twin._has_no_reader(stream)
        stream.flush()
    assert not twin._has_no_reader(stream), "it is closed"


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        ("ascii", r"3 - ETA - . x > > \u72ac caf\xe9 \x8e"),
        ("latin-1", r"3 - ETA · . × > > \u72ac café \x8e"),
        ("utf-8", r"3 – ETA · … × → ≥ 犬 café \x8e"),
    ],
)
def test_a_stream_shows_what_it_cannot_write_in_plain_signs(
    twin: ModuleType, encoding: str, shown: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with (tmp_path / "out").open("w", encoding=encoding) as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        twin.show_anything()
        print("3 – ETA · … × → ≥ 犬 café \udc8e", end="")
    assert (tmp_path / "out").read_bytes().decode(encoding) == shown


@pytest.mark.parametrize(("columns", "left"), [("", None), ("0", None), ("000", None), ("80", "80"), (None, None)])
def test_a_width_of_nothing_is_as_good_as_none(
    twin: ModuleType, columns: str | None, left: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    if columns is not None:
        monkeypatch.setenv("COLUMNS", columns)
    twin.show_anything()
    assert os.environ.get("COLUMNS") == left


def test_what_the_caller_knows_of_an_error_goes_before_what_is_known_here(twin: ModuleType, capsys) -> None:
    def known(error: BaseException) -> object:
        return twin.Told("a lamp went out\nand another", 5) if isinstance(error, OSError) else None

    def work() -> int:
        raise OSError(errno.EIO, "x")

    command = twin.Command("test.run", explain=known)
    assert command.run(work) == 5
    assert capsys.readouterr().err == "error: a lamp went out\nerror: and another\n"
    assert told(twin, MemoryError(), capsys, explain=known)[1].startswith("out of memory: ")
    assert command.run(lambda: 3) == 3


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(errno.EIO, "x"), "the disk cannot be read or written"),
        (OSError(errno.EXDEV, "Invalid link"), "Invalid link"),
        (OSError(9999, None), "Unknown"),
    ],
)
def test_why_the_system_refused_is_said_in_plain_words(twin: ModuleType, error: OSError, line: str) -> None:
    if error.strerror is None:
        assert twin.reason(error) == str(error)
    else:
        assert twin.reason(error) == line
    assert twin.one_line("a\nb\u202e\x7f") == r"a\nb\u202e\x7f"
