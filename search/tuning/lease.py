"""Which coordinator a study belongs to: noted in the study's own storage, so that machines that share only the storage
know it, too.

A lease has a token, which is another one each time that it is taken. Every commit of the coordinator's is refused where
the token is not its own any more (a fence), so one that was thought dead and wakes up again writes nothing.
"""

import contextlib
import os
import platform
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import sqlalchemy
from optuna.storages import RDBStorage
from sqlalchemy import Column, DateTime, Integer, MetaData, String, Table, func, insert, select, update
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from search.errors import BusyError
from search.tuning.patience import Patience

LASTS_SECONDS = 30.0
"""Without a sign of life for so long, a coordinator on another machine has lost the study."""
_EVERY_SECONDS = 8.0
_LEASES = Table(
    "onset_leases",
    MetaData(),
    Column("study", String(512), primary_key=True),
    Column("token", Integer, nullable=False),
    Column("holder", String(512), nullable=False),  # for people; "" when nobody has it
    Column("process", String(512), nullable=False),
    Column("alive_at", DateTime(timezone=True), nullable=False),
)


class LostLeaseError(BusyError):
    """Another coordinator has taken the study over meanwhile."""


@dataclass(frozen=True)
class Process:
    """A process, told apart from all others anywhere: machine, its start, pid and when that began."""

    host: str
    boot: str
    pid: int
    began: float

    @classmethod
    def this(cls) -> "Process":
        return cls(platform.node().replace(" ", "-"), _boot(), os.getpid(), _began(os.getpid()) or 0.0)

    @classmethod
    def read(cls, text: str) -> "Process | None":
        """What `str` made of it; None for anything else."""
        with contextlib.suppress(ValueError):
            host, boot, pid, began = text.split(" ")
            return cls(host, boot, int(pid), float(began))
        return None

    def __str__(self) -> str:
        return f"{self.host} {self.boot} {self.pid} {self.began!r}"

    @property
    def is_gone(self) -> bool:
        """Whether it surely lives no more; of other machines nothing is known."""
        if self.host != platform.node().replace(" ", "-"):
            return False
        if self.boot.partition("/")[0] != _boot().partition("/")[0]:
            return True  # the machine was started again since
        began = _began(self.pid)
        return self.boot == _boot() and (began is None or abs(began - self.began) > 5.0)


class Lease:
    """The right to write to a study.

    Args:
        storage: of the study; its commits are fenced from `take` to `release`.
        study: its name there.
        patience: with a storage that does not answer.
    """

    def __init__(self, storage: RDBStorage, study: str, patience: Patience | None = None) -> None:
        self._call = (patience or Patience(None)).call
        self._engine: Engine = storage.engine
        self._sessions, self._study = storage.scoped_session, study
        self._token = 0
        self._renewed = 0.0
        self._lost: str | None = None
        self._stop = threading.Event()

    def take(self) -> None:
        """Take the study, and show signs of life from now on.

        Raises:
            BusyError: another coordinator has it.
        """
        with contextlib.suppress(SQLAlchemyError):  # two at once; the second finds it there
            _LEASES.create(self._engine)
        self._token = self._taken()
        self._renewed = _now()
        sqlalchemy.event.listen(self._sessions, "before_commit", self._fence)
        threading.Thread(target=self._show_life, daemon=True).start()

    def check(self) -> None:
        """To be called before files are written; asks the storage where nothing was heard of it for a while.

        Raises:
            LostLeaseError: the study is another coordinator's now.
        """
        if self._lost is None and _now() - self._renewed > LASTS_SECONDS / 2:
            self._call(self._renew)
        if self._lost is not None:
            raise LostLeaseError(self._lost)

    def release(self) -> None:
        """Give the study back; does nothing where it is another one's, or the storage cannot be reached."""
        self._stop.set()
        if sqlalchemy.event.contains(self._sessions, "before_commit", self._fence):
            sqlalchemy.event.remove(self._sessions, "before_commit", self._fence)
        with contextlib.suppress(SQLAlchemyError), self._engine.begin() as connection:
            connection.execute(update(_LEASES).where(*self._ours).values(holder="", process=""))

    @property
    def _ours(self) -> tuple[Any, ...]:
        return _LEASES.c.study == self._study, _LEASES.c.token == self._token

    def _taken(self) -> int:
        here = Process.this()
        about = {"holder": f"pid {here.pid} on {here.host}", "process": str(here), "alive_at": func.now()}
        with self._engine.begin() as connection:
            row = self._row(connection)
            if row is None:
                with contextlib.suppress(IntegrityError):
                    connection.execute(insert(_LEASES).values(study=self._study, token=1, **about))
                    return 1
        with self._engine.begin() as connection:
            row = self._row(connection)
            assert row is not None
            silent = (_plain(row.now) - _plain(row.alive_at)).total_seconds()
            holder = Process.read(row.process)
            if row.holder and silent < LASTS_SECONDS and not (holder is not None and holder.is_gone):
                raise BusyError(self._busy(row.holder, silent))
            same = update(_LEASES).where(_LEASES.c.study == self._study, _LEASES.c.token == row.token)
            if connection.execute(same.values(token=row.token + 1, **about)).rowcount:
                return int(row.token) + 1
        with self._engine.begin() as connection:  # somebody was faster
            row = self._row(connection)
            raise BusyError(self._busy("another one" if row is None else row.holder, 0.0))

    def _busy(self, holder: str, silent: float) -> str:
        again = ""
        if silent > 2 * _EVERY_SECONDS:
            again = (
                f"; it has been silent for {silent:.0f} s, and if it is dead, the same command works in "
                f"{max(1.0, LASTS_SECONDS - silent):.0f} s"
            )
        return f"{self._study}: another process ({holder}) is running this study{again}"

    def _row(self, connection: Connection) -> Any:
        return connection.execute(
            select(_LEASES, func.now().label("now")).where(_LEASES.c.study == self._study)
        ).one_or_none()

    def _renew(self) -> None:
        began = _now()
        with self._engine.begin() as connection:
            if connection.execute(update(_LEASES).where(*self._ours).values(alive_at=func.now())).rowcount:
                self._renewed = began
            else:
                self._lost = self._lost or self._taken_over(self._row(connection))

    def _taken_over(self, row: Any) -> str:
        by = f" ({row.holder})" if row is not None and row.holder else ""
        return f"{self._study}: another process{by} has taken this study over: nothing more is written here"

    def _fence(self, session: Any) -> None:
        """Within the transaction that is about to be committed: nobody can take the study before it is."""
        session.flush()
        token = select(_LEASES.c.token).where(_LEASES.c.study == self._study)
        if session.bind.dialect.name == "postgresql":
            token = token.with_for_update(read=True)
        if session.execute(token).scalar() != self._token:
            self._lost = self._lost or self._taken_over(self._row(session.connection()))
            raise LostLeaseError(self._lost)

    def _show_life(self) -> None:
        while not self._stop.wait(_EVERY_SECONDS) and self._lost is None:
            with contextlib.suppress(SQLAlchemyError):  # the next one may come through
                self._renew()


def _plain(moment: datetime) -> datetime:
    return moment.replace(tzinfo=None)


def _clock() -> Callable[[], float]:
    if hasattr(time, "CLOCK_BOOTTIME"):  # goes on while a machine sleeps
        return lambda: time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic


_now = _clock()


def _boot() -> str:
    """The start of this machine that it runs since, and its own room of processes in it."""
    boot, room = "", ""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        room = os.readlink("/proc/self/ns/pid").replace(" ", "")
    if not boot:
        import psutil

        boot = f"{psutil.boot_time():.0f}"
    return f"{boot}/{room}"


def _began(pid: int) -> float | None:
    """When a process of this machine began, in seconds of a clock that is never set where there is one; None when there
    is none, or it has ended and nobody has asked how."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if after_name[0] in "ZX" else int(after_name[19]) / os.sysconf("SC_CLK_TCK")
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else float(process.create_time())
    except psutil.Error:
        return None
