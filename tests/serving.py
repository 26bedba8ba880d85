"""A server that answers in a thread while something asks it, and is closed at once afterwards."""

import contextlib
import socketserver
import threading
from collections.abc import Iterator

_BETWEEN_SECONDS = 0.01
"""By default half a second passes until a server notices that it is to end."""


@contextlib.contextmanager
def serving(server: socketserver.BaseServer) -> Iterator[None]:
    """Inside, the server answers; afterwards it is closed."""
    thread = threading.Thread(target=server.serve_forever, args=(_BETWEEN_SECONDS,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=10)
