"""The server that workers are forked from is forked itself, from the process of the tests, which has imported all that
workers need: a process of its own takes seconds for that. With `own_server` a test has one that begins as a study's."""

import contextlib
import os
from collections.abc import Callable, Iterator
from multiprocessing import forkserver, util
from pathlib import Path
from typing import Any

import pytest

_PRELOADED = "search.running.preloaded"
_FILES = Path("/proc/self/fd")
_SPAWN = util.spawnv_passfds


def share_one_server(patch: pytest.MonkeyPatch) -> None:
    """All teams of this session are served by one server, which can do what real workers need, whoever comes first."""
    ask = forkserver.set_forkserver_preload

    def begin(modules: list[str]) -> None:
        ask([_PRELOADED])
        if _FILES.is_dir():
            import search.running.preloaded  # noqa: F401

            forkserver.ensure_running()  # here, where no other thread is at work, and not in the team's

    patch.setattr(forkserver, "set_forkserver_preload", begin)
    if _FILES.is_dir():
        patch.setattr(util, "spawnv_passfds", _forked)


def _forked(path: bytes, arguments: list[Any], files: list[int]) -> int:
    """Stands where `spawnv_passfds` does."""
    if _PRELOADED not in str(arguments[-1]):
        return _SPAWN(path, arguments, files)
    process = os.fork()
    if process == 0:
        try:
            for number in (int(file.name) for file in [*_FILES.iterdir()]):
                if number > 2 and number not in files:
                    with contextlib.suppress(OSError):  # closed already: what listed them
                        os.close(number)
            forkserver.main(*files, [])
        finally:
            os._exit(0)
    return process


def forget_server(set_attribute: Callable[[object, str, None], None] = setattr) -> None:
    """From now on this process has no server, as before its first team."""
    for name in ("_forkserver_pid", "_forkserver_address", "_forkserver_alive_fd"):
        set_attribute(forkserver._forkserver, name, None)


@contextlib.contextmanager
def own_server() -> Iterator[None]:
    """Inside, workers are forked from a server that is started for them and imports what they ask for."""
    server = forkserver._forkserver
    with pytest.MonkeyPatch.context() as patch:
        forget_server(patch.setattr)
        patch.setattr(server, "_preload_modules", [])
        patch.setattr(forkserver, "set_forkserver_preload", server.set_forkserver_preload)
        patch.setattr(util, "spawnv_passfds", _SPAWN)
        try:
            yield
        finally:
            server._stop()
