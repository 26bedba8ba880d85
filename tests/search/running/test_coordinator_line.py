"""A worker's line: what is said and heard over a real pipe, and when it shows life."""

import threading
from collections.abc import Iterator
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from search.record.events import Alive, Doing, GoOn
from search.running import coordinator_line
from search.running.coordinator_line import HUNG_UP, Line
from trainer.base_model.load import load_base


@pytest.fixture
def ends() -> Iterator[tuple[Line, Connection]]:
    ours, theirs = Pipe()
    yield Line(theirs), ours
    ours.close()
    theirs.close()


def said(connection: Connection) -> list[object]:
    found = []
    while connection.poll():
        found.append(connection.recv())
    return found


def test_what_is_said_names_what_which_trial_and_how_far(ends) -> None:
    line, coordinator = ends
    line.say("loading the base")
    line.say("training", 3, 4.5)
    line.send(GoOn(1, 2))
    assert said(coordinator) == [Doing("loading the base", None, 0), Doing("training", 3, 4.5), GoOn(1, 2)]


def test_all_that_has_come_is_heard_in_turn_and_nothing_is_waited_for(ends) -> None:
    line, coordinator = ends
    assert list(line.heard(block=False)) == []
    for number in range(3):
        coordinator.send(GoOn(number, 1))
    assert list(line.heard(block=False)) == [GoOn(number, 1) for number in range(3)]
    for number in range(2):
        coordinator.send(GoOn(number, 2))
    assert list(line.heard(block=True)) == [GoOn(number, 2) for number in range(2)], "one was enough to wait for"
    assert said(coordinator) == []


def test_who_waits_shows_life_until_something_comes(ends, monkeypatch) -> None:
    line, coordinator = ends
    monkeypatch.setattr(coordinator_line, "_IDLE_SECONDS", 0.01)
    heard = []
    send = line.send

    def answered(message: object) -> None:
        send(message)
        heard.append(message)
        if len(heard) == 3:
            coordinator.send(GoOn(7, 1))

    monkeypatch.setattr(line, "send", answered)
    late = threading.Timer(10.0, coordinator.send, [GoOn(0, 0)])  # else it would wait for ever
    late.daemon = True
    late.start()
    assert list(line.heard(block=True)) == [GoOn(7, 1)]
    late.cancel()
    assert said(coordinator) == [Alive()] * 3


@pytest.mark.parametrize("block", [True, False])
def test_a_coordinator_that_is_gone_is_noticed(block: bool) -> None:
    ours, theirs = Pipe()
    ours.close()
    with pytest.raises(HUNG_UP):
        list(Line(theirs).heard(block=block))
    theirs.close()


def test_a_sign_of_life_is_given_at_most_once_a_second(ends, monkeypatch) -> None:
    line, coordinator = ends
    now = [100.0]
    monkeypatch.setattr(coordinator_line, "time", SimpleNamespace(monotonic=lambda: now[0]))
    for at in (100.0, 100.5, 101.0, 101.25, 101.5, 102.25, 102.5):
        now[0] = at
        line.alive()
        given = len(said(coordinator))
        assert given == (at in (100.0, 101.25, 102.5)), at


def test_each_pass_through_a_part_of_the_base_shows_life(ends, monkeypatch, tiny_sd15: Path) -> None:
    line, coordinator = ends
    base = load_base(str(tiny_sd15), family="sd15", device=torch.device("cpu"), precision="fp32")
    monkeypatch.setattr(coordinator_line, "_LIFE_EVERY_SECONDS", -1.0)
    line.show_life(base)
    with torch.no_grad():
        base.vae.decode(torch.zeros(1, base.vae.config.latent_channels, 4, 4))
        assert said(coordinator) == [Alive()]
        base.vae.encode(torch.zeros(1, 3, 32, 32))
        assert said(coordinator) == [Alive()]
        (text,) = base.text_encoders
        states = text(torch.zeros(1, 8, dtype=torch.long))[0]
        assert said(coordinator) == [Alive()]
        base.denoiser(torch.zeros(1, base.denoiser.config.in_channels, 8, 8), torch.tensor(1), states)
        assert said(coordinator) == [Alive()]
