"""One coordinator at a time: a lease in the study's storage, which fences every commit."""

import os
import platform
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from search.errors import BusyError
from search.tuning import lease as leases
from search.tuning.lease import LostLeaseError, Process
from search.tuning.ledger import Ledger

HERE = f"pid {os.getpid()} on {Process.this().host}"


def ledger(path: Path) -> Ledger:
    return Ledger(path, "s", seed=0, startup_trials=2, leased=True)


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "study.db"


def held_by(database: Path, process: Process, *, silent: float = 0.0) -> None:
    """Another coordinator has taken the study, and was heard of so many seconds ago."""
    with sqlite3.connect(database) as opened:
        opened.execute(
            "UPDATE onset_leases SET token = token + 1, holder = ?, process = ?, alive_at = datetime('now', ?)",
            (f"pid {process.pid} on {process.host}", str(process), f"-{silent:.0f} seconds"),
        )


def elsewhere(pid: int = 17) -> Process:
    return Process("another-machine", "boot/room", pid, 1.0)


def test_the_second_is_refused_and_names_the_first(database) -> None:
    first = ledger(database)
    with pytest.raises(BusyError, match=rf"^s: another process \({HERE}\) is running this study$"):
        ledger(database)
    first.close()
    ledger(database).close()


def test_studies_of_one_storage_have_a_lease_each(database) -> None:
    first = ledger(database)
    other = Ledger(database, "t", seed=0, startup_trials=2, leased=True)
    other.close()
    first.close()


def test_one_that_lost_its_lease_writes_nothing_more(database) -> None:
    first = ledger(database)
    first.study.set_user_attr("before", 1)
    held_by(database, elsewhere())
    taken = r"another process \(pid 17 on another-machine\) has taken this study over: nothing more is written here"
    with pytest.raises(LostLeaseError, match=taken):
        first.study.set_user_attr("after", 1)
    with pytest.raises(LostLeaseError, match=taken):
        first.in_place()  # asked before files are written
    first.close()  # which is no longer its own to give back
    with sqlite3.connect(database) as opened:
        assert opened.execute("SELECT key FROM study_user_attributes").fetchall() == [("before",)]
        assert opened.execute("SELECT holder FROM onset_leases").fetchone() == ("pid 17 on another-machine",)


def test_before_files_are_written_the_storage_is_asked_once_nothing_was_heard_of_it(database, monkeypatch) -> None:
    first = ledger(database)
    held_by(database, elsewhere())
    assert first.in_place()  # heard of a moment ago: nobody else can have waited long enough
    slept = leases._now() + leases.LASTS_SECONDS
    monkeypatch.setattr(leases, "_now", lambda: slept)  # such as a laptop that was closed
    with pytest.raises(LostLeaseError):
        first.in_place()
    first.close()


def test_a_coordinator_that_is_dead_for_sure_loses_it_at_once(database) -> None:
    code = "import sys; from tests.search.tuning.test_lease import *; ledger(Path(sys.argv[1])); os._exit(9)"
    ended = subprocess.run([sys.executable, "-c", code, str(database)], check=False)
    assert ended.returncode == 9
    with sqlite3.connect(database) as opened:
        (holder,) = opened.execute("SELECT holder FROM onset_leases").fetchone()
    assert holder.startswith("pid ")
    ledger(database).close()


def test_one_of_another_machine_is_waited_for(database) -> None:
    ledger(database).close()
    held_by(database, elsewhere())
    with pytest.raises(BusyError, match=r"\(pid 17 on another-machine\) is running this study$"):
        ledger(database)
    held_by(database, elsewhere(), silent=leases.LASTS_SECONDS - 5)
    with pytest.raises(BusyError, match=r"it has been silent for 2\d s, and if it is dead, the same command works in"):
        ledger(database)
    held_by(database, elsewhere(), silent=leases.LASTS_SECONDS + 2)
    ledger(database).close()


def test_what_is_known_of_a_process() -> None:
    this = Process.this()
    assert Process.read(str(this)) == this
    assert not this.is_gone
    assert Process(this.host, this.boot, this.pid, this.began - 60).is_gone  # its pid is another one's now
    assert Process(this.host, "earlier/" + this.boot.partition("/")[2], this.pid, this.began).is_gone
    assert not Process(this.host, this.boot.partition("/")[0] + "/container", 1, 0.0).is_gone  # whose pids are its own
    assert not Process("not-" + platform.node(), this.boot, 1, 0.0).is_gone
    assert Process.read("") is None


def test_a_killed_process_that_nobody_has_waited_for_is_gone() -> None:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    here, began = Process.this(), leases._began(process.pid)
    assert began is not None
    dead = Process(here.host, here.boot, process.pid, began)
    assert not dead.is_gone
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it stays a zombie
    assert dead.is_gone
    process.wait()


def test_one_that_was_faster_is_named(database, monkeypatch) -> None:
    """Another coordinator takes the study between our look at it and our taking it."""
    ledger(database).close()

    waiting = ledger(database)
    monkeypatch.setattr(Process, "is_gone", property(lambda self: True))
    first = waiting._lease
    assert first is not None
    row, seen = first._row, list[int]()

    def late(connection: Any) -> Any:
        found = row(connection)
        seen.append(1)
        if len(seen) == 2:
            connection.execute(text("UPDATE onset_leases SET token = token + 5, holder = 'pid 17 on another'"))
        return found

    monkeypatch.setattr(first, "_row", late)
    with pytest.raises(BusyError, match=r"^s: another process \(pid 17 on another\) is running this study$"):
        first._taken()
    assert len(seen) == 3
    waiting.close()


@pytest.mark.parametrize(
    ("silent", "said"),
    [(0.0, ""), (leases._EVERY_SECONDS * 2, ""), (leases._EVERY_SECONDS * 2 + 2, "it has been silent for")],
)
def test_of_a_silent_one_it_is_said_when_the_same_command_works(database, silent: float, said: str) -> None:
    one = ledger(database)
    assert one._lease is not None
    told = one._lease._busy("pid 3 on b", silent)
    assert told.startswith("s: another process (pid 3 on b) is running this study")
    assert (said in told) if said else told.endswith("this study")
    if said:
        assert f"works in {leases.LASTS_SECONDS - silent:.0f} s" in told
        assert "works in 1 s" in one._lease._busy("pid 3 on b", leases.LASTS_SECONDS + 9)
    one.close()


def test_a_lease_shows_life_until_it_is_given_back(database, monkeypatch) -> None:
    monkeypatch.setattr(leases, "_EVERY_SECONDS", 0.01)
    one = ledger(database)
    lease = one._lease
    assert lease is not None
    began = lease._renewed
    for _ in range(500):
        if lease._renewed > began:
            break
        time.sleep(0.01)
    assert lease._renewed > began
    one.close()
    with sqlite3.connect(database) as opened:
        assert opened.execute("SELECT holder, process FROM onset_leases").fetchall() == [("", "")]
    assert lease._stop.is_set()
    lease.release()  # once more does nothing


def test_what_a_process_writes_of_itself_is_read_again() -> None:
    here = Process.this()
    assert Process.read(str(here)) == here
    for text_ in ("", "a b c", "host boot seven 1.0", "host boot 7 soon", "host boot 7 1.0 more"):
        assert Process.read(text_) is None
