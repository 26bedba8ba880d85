"""How a worker's process begins and ends: what it tells its coordinator where it cannot begin."""

import errno
from collections.abc import Callable
from multiprocessing import Pipe
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from metrics.errors import MetricsError
from search.record.events import Unprepared
from search.record.lock import locked, worker_lock
from search.record.record import StudyFolder
from search.running import worker
from search.study.objective import ObjectiveError
from trainer.errors import TrainerError


@pytest.fixture
def begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Any]]:
    """Runs a worker's process in this one, and returns what it says; `loads` stands for all that it loads."""
    (tmp_path / "toy").mkdir()

    def run(loads: Callable[[], Any], log: Callable[[Path], None] = lambda path: None) -> list[Any]:
        handlers: dict[Any, Any] = {}
        monkeypatch.setattr(worker, "write_to", log)
        monkeypatch.setattr(worker, "die_with_parent", lambda: None)
        monkeypatch.setattr(worker, "OTHERS_SECONDS", 0.05)
        monkeypatch.setattr(worker.signal, "signal", handlers.__setitem__)
        monkeypatch.setattr(worker, "_loaded", lambda connection, slot, study, folder: loads())
        ours, theirs = Pipe()
        study: Any = None
        worker.main(theirs, 0, study, StudyFolder(tmp_path / "toy"))
        assert handlers == {worker.signal.SIGINT: worker.signal.SIG_IGN, worker.signal.SIGTERM: worker.signal.SIG_DFL}
        said = []
        while ours.poll():
            said.append(ours.recv())
        return said

    return run


def failing(error: Exception) -> Callable[[], Any]:
    def loads() -> Any:
        raise error

    return loads


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (TrainerError("no such base"), Unprepared("no such base", wrong_input=True)),
        (MetricsError("no such encoder"), Unprepared("no such encoder", wrong_input=True)),
        (ObjectiveError("no such function"), Unprepared("no such function", wrong_input=True)),
        (ValueError("a bug"), Unprepared("ValueError: a bug", wrong_input=False)),
    ],
)
def test_why_it_cannot_begin_is_told_and_whether_the_input_is_wrong(begin: Any, error: Exception, said: Any) -> None:
    assert begin(failing(error)) == [said]


def test_a_machine_that_cannot_work_is_told_in_its_words_and_printed(begin: Any, capsys) -> None:
    (said,) = begin(failing(OSError(errno.ENOSPC, "No space left on device", "/disk/latents")))
    assert (said.error.startswith("/disk/latents: "), said.wrong_input) == (True, False)
    assert "Traceback" in capsys.readouterr().err


def test_one_that_is_loaded_serves_until_its_coordinator_is_gone(begin: Any) -> None:
    served: list[str] = []

    def serve() -> None:
        served.append("served")
        raise EOFError

    assert begin(lambda: SimpleNamespace(serve=serve)) == []
    assert served == ["served"]


def test_while_the_worker_before_it_lives_it_does_not_begin(begin: Any, tmp_path: Path) -> None:
    with locked(worker_lock(tmp_path / "toy", 0)):
        said = begin(lambda: pytest.fail("it was loaded"))
    assert said == [Unprepared("the worker before this one is still alive", wrong_input=False)]


def test_in_a_folder_that_has_moved_it_says_nothing(begin: Any) -> None:
    def gone(path: Path) -> None:
        raise FileNotFoundError(path)

    assert begin(lambda: pytest.fail("it was loaded"), gone) == []


@pytest.mark.parametrize(("exact", "tries"), [(False, 2), (True, 1)])
def test_what_has_no_exact_form_is_loaded_again_without(
    monkeypatch: pytest.MonkeyPatch, exact: bool, tries: int
) -> None:
    made: list[Any] = []

    def make(*arguments: Any, inexact: str | None = None) -> str:
        made.append((arguments, inexact))
        if len(made) == 1:
            raise RuntimeError("planted")
        return "a worker"

    monkeypatch.setattr(worker, "_Worker", make)
    monkeypatch.setattr(worker, "has_no_exact_form", lambda error: not exact)
    monkeypatch.setattr(worker, "repeat_nearly", lambda error: f"nearly: {error}")
    given: Any = ("line", 1, "study", "folder")
    if exact:
        with pytest.raises(RuntimeError, match="planted"):
            worker._loaded(*given)
    else:
        found: Any = worker._loaded(*given)
        assert found == "a worker"
    assert made == [(given, None), (given, "nearly: planted")][:tries]
