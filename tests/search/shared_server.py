"""One server for the workers of all tests of a process, or with `own_server` one that begins as a study's does.

It is a process of its own, as in a study. Forked from the tests' process, which would spare it the imports, it would
have torch's pool of threads without the threads: a worker that computes with more than one then waits for ever."""

import contextlib
from collections.abc import Callable, Iterator
from multiprocessing import forkserver

import pytest

_PRELOADED = "search.running.preloaded"


def share_one_server(patch: pytest.MonkeyPatch) -> None:
    """All teams of this session are served by one server, which can do what real workers need, whoever comes first."""
    ask = forkserver.set_forkserver_preload
    patch.setattr(forkserver, "set_forkserver_preload", lambda modules: ask([_PRELOADED]))


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
        try:
            yield
        finally:
            server._stop()
