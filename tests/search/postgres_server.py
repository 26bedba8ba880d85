"""A real PostgreSQL server for tests: its own folder, on loopback, as a user that is not root."""

import glob
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any


class PostgresServer:
    """Made and started by `PostgresServer()`; `close` leaves nothing behind."""

    def __init__(self) -> None:
        self._bin = _binaries()
        self.folder = Path(tempfile.mkdtemp(prefix="onset-postgres-"))
        self._data = self.folder / "data"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._as: dict[str, Any] = {}
        if os.getuid() == 0:  # it refuses to be run by root
            account = pwd.getpwnam("postgres")
            os.chown(self.folder, account.pw_uid, account.pw_gid)
            self._as = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
        self._run("initdb", "-D", str(self._data), "-U", "onset", "-A", "trust", "-E", "UTF8", "--no-sync")
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        arguments = ["-D", str(self._data), "-h", "127.0.0.1", "-p", str(self.port), "-k", str(self.folder)]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._bin / "postgres", *arguments, "-c", "fsync=off"],
                stdout=log, stderr=log, cwd=self.folder, **self._as,
            )  # fmt: skip
        ready = [str(self._bin / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        while subprocess.run(ready, check=False).returncode:
            assert self._process.poll() is None, (self.folder / "log").read_text()
            time.sleep(0.05)

    def stop(self, *, how: str = "immediate") -> None:
        """End it; `immediate` is what a crash leaves."""
        assert self._process is not None
        self._run("pg_ctl", "-D", str(self._data), "-m", how, "stop")
        self._process.wait()

    def new_database(self, name: str) -> str:
        """The address of a database that is empty."""
        self._run("createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", "onset", name)
        return f"postgresql+psycopg://onset@127.0.0.1:{self.port}/{name}"

    def close(self) -> None:
        """End it, and delete its folder."""
        if self._process is not None and self._process.poll() is None:
            self.stop()
        shutil.rmtree(self.folder)

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [self._bin / program, *arguments], check=True, stdout=subprocess.DEVNULL, cwd=self.folder, **self._as
        )


def _binaries() -> Path:
    places = [
        *sorted(glob.glob("/usr/lib/postgresql/*/bin"), reverse=True),
        *os.environ.get("PATH", "").split(os.pathsep),
    ]
    for place in map(Path, places):
        if (place / "initdb").is_file():
            return place
    raise FileNotFoundError("PostgreSQL is not installed: apt-get install postgresql")
