"""A worker's line to its coordinator: what it says, what it hears, and that it is alive."""

import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import Any

from search.record.events import Alive, Doing
from trainer.families import Base

_LIFE_EVERY_SECONDS = 1.0
_IDLE_SECONDS = 10.0
HUNG_UP = (EOFError, BrokenPipeError, ConnectionResetError)
"""What a line raises once the coordinator is gone."""


class Ended(Exception):
    """The coordinator ends this worker."""


class Line:
    """Both ends speak in the messages of `search.record.events`."""

    def __init__(self, connection: Connection) -> None:
        self._connection, self._alive_at = connection, 0.0

    def send(self, message: object) -> None:
        self._connection.send(message)

    def say(self, what: str, number: int | None = None, epoch: float = 0) -> None:
        """What the worker is at, for the live table."""
        self.send(Doing(what, number, epoch))

    def heard(self, *, block: bool) -> Iterator[Any]:
        """What the coordinator has said since; `block`: at least one message, saying now and then that this worker is
        only waiting."""
        while block or self._connection.poll():
            block = False
            while not self._connection.poll(_IDLE_SECONDS):
                self.send(Alive())
            yield self._connection.recv()

    def alive(self) -> None:
        """A sign of life, at most one a second."""
        now = time.monotonic()
        if now - self._alive_at > _LIFE_EVERY_SECONDS:
            self._alive_at = now
            self.send(Alive())

    def show_life(self, base: Base) -> None:
        """Let each pass through the base be a sign of life: images are drawn and losses read with it."""
        for model in (base.denoiser, base.vae.encoder, base.vae.decoder, *base.text_encoders):
            model.register_forward_hook(lambda *_: self.alive())
