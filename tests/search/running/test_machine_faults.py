"""Faults of the machine are told from faults of a trial, whichever library raises them."""

import errno
import sqlite3
from pathlib import Path

import pytest

from search.running.machine_faults import device_is_lost, fault_of, machine_fault, out_of_memory, seen_fault
from search.running.trial_at_work import check_there
from trainer.errors import TrainerError
from trainer.files import write_whole


def test_a_full_disk_is_the_machine() -> None:
    with pytest.raises(OSError) as caught, open("/dev/full", "wb", buffering=0) as file:
        file.write(b"x")
    assert machine_fault(caught.value) == "the disk is full"


def test_a_full_database_is_the_machine(tmp_path: Path) -> None:
    database = sqlite3.connect(tmp_path / "small.db")
    database.execute("PRAGMA max_page_count = 4")
    database.execute("CREATE TABLE t (b)")
    with pytest.raises(sqlite3.OperationalError) as caught:
        database.execute("INSERT INTO t VALUES (zeroblob(1000000))")
    assert machine_fault(caught.value) == "the disk is full"


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    error = OSError(errno.EROFS, "Read-only file system", str(tmp_path / "x"))
    assert machine_fault(error) == f"{tmp_path / 'x'}: the file system is read-only"


@pytest.mark.parametrize(
    "said",
    [
        "Error while serializing: I/O error: No space left on device (os error 28)",  # safetensors on a full tmpfs
        "[enforce fail at inline_container.cc:672] . unexpected pos 4000704 vs 598",  # torch, from an OSError
    ],
)
def test_what_libraries_make_of_a_full_disk_is_the_machine_too(said: str) -> None:
    error = RuntimeError(said)
    error.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    assert machine_fault(error) == "the disk is full"


@pytest.mark.parametrize("error", [ValueError("rank"), RuntimeError("CUDA out of memory"), FileNotFoundError(2, "no")])
def test_everything_else_may_be_the_trial(error: Exception) -> None:
    assert machine_fault(error) is None
    assert not device_is_lost(error)


@pytest.mark.parametrize(
    ("said", "lost"),
    [
        ("CUDA error: device-side assert triggered", True),
        ("CUDA error: out of memory", False),
        ("CUDA out of memory. Tried to allocate 2.00 GiB", False),
        ("the optimizer's state is gone", False),
    ],
)
def test_a_device_is_lost_by_an_error_of_its_own_and_not_by_too_little_memory(said: str, lost: bool) -> None:
    assert device_is_lost(RuntimeError(said)) == lost


@pytest.mark.parametrize(("error", "printed"), [(ZeroDivisionError("by zero"), True), (TrainerError("no LoRA"), False)])
def test_where_it_happened_is_printed_only_of_what_nobody_foresaw(error: Exception, printed: bool, capsys) -> None:
    with pytest.raises(type(error)) as caught:
        raise error
    assert str(error) in seen_fault(caught.value).text
    assert (Path(__file__).name in capsys.readouterr().err) == printed


def test_a_lost_device_is_known_by_its_error() -> None:
    assert device_is_lost(RuntimeError("CUDA error: device-side assert triggered"))


def test_a_trial_that_does_not_fit_is_told_what_takes_less() -> None:
    error = RuntimeError("CUDA out of memory. Tried to allocate 68.00 MiB. GPU 0 has a total capacity of 79 GiB of …")
    said = out_of_memory(error)
    assert said is not None
    assert said.startswith("the GPU is out of memory (68.00 MiB more were asked for): a smaller batch_size")
    assert out_of_memory(ValueError("rank")) is None


def test_a_file_that_is_too_large_for_the_disk_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    path.write_bytes(b"old")

    def fail(file: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError):
        write_whole(path, fail)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["record.json"]


@pytest.mark.parametrize(
    ("error", "text", "again"),
    [
        (TrainerError("rank: expected at most 8"), "rank: expected at most 8", False),
        (RuntimeError("shapes differ"), "RuntimeError: shapes differ", True),
    ],
)
def test_a_trial_fails_with_the_words_of_its_error_and_a_strange_one_is_named(
    error: Exception, text: str, again: bool
) -> None:
    fault = fault_of(error)
    assert (fault.text, fault.again, fault.machine, fault.memory) == (text, again, False, False)


def test_a_trial_whose_folder_is_gone_ends_before_half_of_it_is_made_again(tmp_path: Path) -> None:
    check_there(tmp_path)
    with pytest.raises(TrainerError, match="gone: moved or deleted"):
        check_there(tmp_path / "trials")
