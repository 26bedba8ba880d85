"""Where a process of the tests forks its workers from."""

from collections.abc import Callable
from multiprocessing import forkserver

_STATE = ("_forkserver_pid", "_forkserver_address", "_forkserver_alive_fd")


def with_own_fork_server(set_attribute: Callable[[object, str, None], None] = setattr) -> None:
    """From now on this process starts a fork server of its own: what it forks comes from none that ran before."""
    for name in _STATE:
        set_attribute(forkserver._forkserver, name, None)
