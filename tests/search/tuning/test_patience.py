"""A write whose answer was lost is looked for before it is made again."""

from types import SimpleNamespace

import pytest
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

from search.errors import SearchError
from search.tuning import patience
from search.tuning.patience import Patience, is_gone, reason_of


def test_after_a_pause_the_other_question_is_asked() -> None:
    said, asked = list[str](), list[str]()

    def write() -> str:
        asked.append("write")
        raise OperationalError("INSERT", {}, Exception("gone"), connection_invalidated=True)

    def look() -> str:
        asked.append("look")
        return "it was written"

    assert Patience(said.append).call(write, again=look) == "it was written"
    assert asked == ["write", "look"]
    assert len(said) == 2
    with pytest.raises(OperationalError):
        Patience(None).call(write)


def gone(said: str = "gone") -> OperationalError:
    return OperationalError("SELECT", {}, Exception(said), connection_invalidated=True)


class Clock:
    """Only pauses take time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.pauses = 1000.0, list[float]()
        clock = SimpleNamespace(monotonic=lambda: self.now, sleep=self.sleep)
        monkeypatch.setattr(patience, "time", clock)

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        assert len(self.pauses) < 2000, "it never gives up"
        self.now += seconds


def test_it_asks_again_after_longer_and_longer_pauses_and_says_so_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, said, left = Clock(monkeypatch), list[str](), [8]

    def ask() -> str:
        left[0] -= 1
        if left[0] >= 0:
            raise gone("no route to host\nand more")
        return "found"

    assert Patience(said.append).call(ask) == "found"
    assert clock.pauses == [0.2, 0.5, 1.0, 2.0, 5.0, 5.0, 5.0, 5.0]
    assert said == [
        "the storage does not answer: waiting for it (no route to host)",
        "the storage answers again after 24 s: going on",
    ]
    said.clear()
    assert Patience(said.append).call(lambda: "at once") == "at once"
    assert said == []


def test_after_an_hour_it_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, said = Clock(monkeypatch), list[str]()

    def ask() -> None:
        raise gone()

    with pytest.raises(SearchError, match=r"^the storage has not answered for an hour \(gone\); every finished"):
        Patience(said.append).call(ask)
    assert len(said) == 1
    assert 3600 < clock.now - 1000 <= 3606


def test_another_error_is_not_waited_out(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    for error in (ValueError("a bug"), DBAPIError("SELECT", {}, Exception("no such table"))):

        def ask(error: Exception = error) -> None:
            raise error

        with pytest.raises(type(error)):
            Patience(lambda text: None).call(ask)
    assert clock.pauses == []


def test_what_says_that_a_server_is_gone() -> None:
    caused = ValueError("while it was read")
    caused.__cause__ = gone()
    assert [is_gone(each) for each in (
        gone(), caused, InterfaceError("SELECT", {}, Exception("closed")),
        DBAPIError("SELECT", {}, Exception("x"), connection_invalidated=True),
        DBAPIError("SELECT", {}, Exception("x")), ValueError("x"),
    )] == [True, True, True, True, False, False]  # fmt: skip
    assert reason_of(caused) == "gone"
    assert reason_of(gone("x" * 200)) == "x" * 160
    assert reason_of(gone(" \n")) == "OperationalError"
    assert reason_of(ValueError("plain\nmore")) == "plain"
