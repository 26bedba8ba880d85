"""What every command does alike: it prints on any console, and tells whatever goes wrong in one line.

    command = Command("metrics.run", refused=(MetricsError,))
    sys.exit(command.run(work))

`trainer.command` is its twin: the two packages stand alone.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import os
import re
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, NoReturn, TextIO

from metrics.interrupts import INTERRUPTED, ignore_signals, interruptible

DONE, FAILED, WRONG_INPUT = 0, 1, 2
PREFIX = "error: "
"""Stands before every line that says what went wrong."""
LOG = "error.log"
_LONGEST = 300  # characters of what a library says

_REASONS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "no permission",
    errno.EPERM: "no permission",
    errno.ENOENT: "no such file or folder (moved or deleted meanwhile?)",
    errno.EEXIST: "is already there",
    errno.ENOTDIR: "a folder is needed where a file is",
    errno.EISDIR: "a file is needed where a folder is",
    errno.ENOTEMPTY: "the folder is not empty",
    errno.ENAMETOOLONG: "the name is too long",
    errno.ELOOP: "the links go round in a circle",
    errno.EMFILE: "too many files are open",
    errno.ENFILE: "too many files are open",
    errno.EIO: "the disk cannot be read or written",
    errno.EADDRINUSE: "the port is taken",
}
_INPUT = {errno.ENAMETOOLONG, errno.ELOOP}  # never the machine's fault
_OF_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO}
_SIGNS = str.maketrans("·–—…×→←−•≤≥“”‘’„", '---.x><-*<>""\'\'"')  # as wide as they were: tables stay straight


class Told(NamedTuple):
    """A line for the user, the exit code, and whether the traceback is worth a log file."""

    line: str
    code: int
    log: bool = False


@dataclass
class Command:
    """How one command tells what goes wrong.

    Attributes:
        name: as people call it, such as "search.run".
        refused: errors about the input, whose text is for the user: exit code 2.
        failed: errors of the work, whose text is for the user: exit code 1.
        interrupted: what is said after Ctrl-C or a termination signal.
        folder: where the traceback of what nobody foresaw goes, once it is known; else the folder for temporary files.
        explain: what the caller knows about errors of further libraries; None where it does not know one.
    """

    name: str
    refused: tuple[type[Exception], ...] = ()
    failed: tuple[type[Exception], ...] = ()
    interrupted: str = "interrupted"
    folder: Path | None = None
    explain: Callable[[BaseException], Told | None] | None = None

    def run(self, work: Callable[[], int]) -> int:
        """The exit code of `work`, or of what it raises: one line on stderr, never a traceback."""
        show_anything()
        with interruptible(self.interrupted):
            try:
                code = work()
                if sys.stdout is not None:
                    sys.stdout.flush()
            except KeyboardInterrupt:
                _say(self.interrupted)
                return INTERRUPTED
            except Exception as error:
                if _nobody_reads(error):
                    return FAILED
                _drop_what_cannot_be_written()
                told = self._told(error)
                log = f"; {self._write_log(error)}" if told.log else ""
                _say("\n".join(f"{PREFIX}{line}" for line in told.line.split("\n")) + log)
                return told.code
        return code

    def _told(self, error: Exception) -> Told:
        if isinstance(error, self.refused):
            return Told(str(error), WRONG_INPUT)
        if isinstance(error, self.failed):
            return Told(str(error), FAILED)
        return (self.explain and self.explain(error)) or explain(error, self.folder)

    def _write_log(self, error: Exception) -> str:
        text = "\n".join(
            (
                f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {self.name}  {' '.join(map(repr, sys.argv[1:]))}",
                f"Python {sys.version.split()[0]} on {sys.platform}",
                "".join(traceback.format_exception(error)),
            )
        )
        for folder in (self.folder, None):
            if folder is not None and not folder.is_dir():
                continue
            try:
                if folder is None:
                    number, name = tempfile.mkstemp(prefix=f"onset-{self.name}-", suffix=".log")
                    os.close(number)
                path = folder / LOG if folder is not None else Path(name)
                with path.open("a", encoding="utf-8", errors="backslashreplace") as file:
                    file.write(text + "\n")
            except OSError:
                continue
            return f"details are in {one_line(path)}"
        return "no file could be written with the details"


def end(main: Callable[[], int]) -> NoReturn:
    """Ends the process with the exit code of `main`, whatever signals come while Python tidies up."""
    code = main()
    ignore_signals()
    sys.exit(code)


def explain(error: BaseException, folder: Path | None = None) -> Told:
    """What Python and its libraries raise, in plain words.

    Args:
        folder: where the command works: named where the disk is at fault and no file is known.
    """
    said = one_line(str(error))[:_LONGEST]
    number = _os_error_number(error)
    if number is not None:
        names = [getattr(error, name, None) for name in ("filename", "filename2")]
        where = " → ".join(one_line(os.fsdecode(name)) for name in names if isinstance(name, str | bytes))
        if not where and folder is not None and number in _OF_DISK:
            where = one_line(folder)
        why = _REASONS.get(number, getattr(error, "strerror", None) or said)
        return Told(f"{where}: {why}" if where else why, WRONG_INPUT if number in _INPUT else FAILED, not where)
    if isinstance(error, OSError):  # shutil's own
        return Told(said, FAILED)
    if isinstance(error, MemoryError):
        return Told("out of memory: close other programs, or take a smaller batch_size or smaller photos", FAILED, True)
    if isinstance(error, RecursionError):
        return Told("something is nested too deeply to be read", FAILED, True)
    if isinstance(error, UnicodeError):
        return Told(f"a text or a file name is not what its encoding allows: {said}", FAILED, True)
    if isinstance(error, ModuleNotFoundError):
        return Told(f"the package {error.name} is not installed", FAILED, True)
    if type(error).__module__.startswith("yaml."):
        return Told(f"not valid YAML: {said}", WRONG_INPUT)
    return Told(f"failed unexpectedly: {type(error).__name__}: {said}", FAILED, True)


def reason(error: OSError) -> str:
    """Why the system refused, in a few plain words."""
    return _REASONS.get(error.errno or 0, error.strerror or str(error))


def one_line(text: str | Path) -> str:
    """A path or a message on one line: line breaks and other control characters as escapes."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]", lambda c: ascii(c[0])[1:-1], str(text))


def show_anything() -> None:
    """Lets no character end the command: signs that the console lacks become plain ones, bytes of names that are no
    text and other characters become escapes. A width of nothing is as good as none."""
    if os.environ.get("COLUMNS", "1").strip("0") == "":
        del os.environ["COLUMNS"]
    codecs.register_error("onset.shown", _replace)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="onset.shown")


def _replace(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    found = error.object[error.start : error.end]
    escaped = re.sub("[\udc80-\udcff]", lambda c: f"\\x{ord(c[0]) - 0xDC00:02x}", found.translate(_SIGNS))
    return escaped.encode("ascii", "backslashreplace").decode(), error.end


def _say(line: str) -> None:
    with contextlib.suppress(OSError, ValueError):  # a console that is gone
        print(line, file=sys.stderr, flush=True)


def _os_error_number(error: BaseException) -> int | None:
    """The number of the system's error; libraries written in Rust (safetensors, tokenizers) say it in their text."""
    if isinstance(error, OSError):
        return error.errno
    found = re.search(r"\(os error (\d+)\)", str(error))
    return int(found[1]) if found else None


def _nobody_reads(error: Exception) -> bool:
    """Whether the reader of our output has gone (`| head`): then there is nobody to tell. A pipe to another process
    may break, too, and that is a failure."""
    if not isinstance(error, BrokenPipeError):
        return False
    gone = [stream for stream in (sys.stdout, sys.stderr) if _has_no_reader(stream)]
    for stream in gone:
        _turn_off(stream)
    return bool(gone)


def _has_no_reader(stream: TextIO) -> bool:
    import select

    try:
        poll = select.poll()
        poll.register(stream.fileno(), 0)
        return any(event & select.POLLERR for _, event in poll.poll(0))
    except (AttributeError, OSError, ValueError):  # no pipe, no console, or Windows
        return False


def _drop_what_cannot_be_written() -> None:
    """Python flushes once more when it ends: what could not be written then must not be told a second time."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            _turn_off(stream)
        except (ValueError, AttributeError):  # closed, or none at all
            continue


def _turn_off(stream: TextIO) -> None:
    with contextlib.suppress(OSError, ValueError), open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), stream.fileno())
