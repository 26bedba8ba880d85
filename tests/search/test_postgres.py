"""Studies whose trials are on a real PostgreSQL server, shared by several of them."""

import contextlib
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import create_trial

from search.errors import BusyError, StudyError
from search.record.clock import Clock
from search.record.json_files import write_json
from search.record.probe_description import PROBE_FILE
from search.record.record import StudyFolder
from search.recovery.study_folder import recover
from search.running.coordinator import Coordinator
from search.running.progress import Board
from search.study.server import Kept
from search.study.study import load_study
from search.tuning.lease import LostLeaseError
from search.tuning.ledger import Ledger
from search.verdict.verdict import finish
from tests.search.conftest import study_writer
from tests.search.one_process import OneProcess
from tests.search.postgres_server import PostgresServer
from tests.search.running.test_coordinator_processes import Killed, _kill_after, _outcome

pytestmark = pytest.mark.services

TRIALS, SLOTS = 6, 2


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    started = PostgresServer()
    yield started
    started.close()


class Sitting:
    """A study of workers that train nothing, run to its end."""

    def __init__(self, home: Path, url: str | None, name: str = "small", runs: str = "runs") -> None:
        if not (home / "photos").exists():
            study_writer(home)(
                study="small",
                train={"resolution": 64, "save_every_n_epochs": 2, "epochs": 12},
                search={
                    "lr_scheduler": {"values": ["constant", "cosine"]},
                    "learning_rate_scale": {"min": 0.5, "max": 8, "log": True},
                    "rank": {"values": [2, 4, 8, 12]},
                },
                budget={"trials": TRIALS, "startup_trials": 3},
            )
        file = home / f"{name}.yaml"
        file.write_text((home / "study.yaml").read_text().replace("study: small", f"study: {name}"))
        self.study = load_study(file, [] if url is None else [f"storage={url}"])
        self.folder = StudyFolder(home / runs / name)
        self.folder.path.mkdir(parents=True, exist_ok=True)
        about = {"prompts": ["a photo of sks toy"], "sets": ["C"], "seeds": [11, 12], "size": [64, 64]}
        write_json(self.folder.path / PROBE_FILE, {**about, "trained": ["a"]})
        self.said: list[str] = []

    def ledger(self) -> Ledger:
        return Ledger.of(self.study, self.folder, say=self.said.append, leased=True)

    def run(self, before: Callable[[Coordinator], object] = lambda coordinator: None) -> list[tuple[Any, ...]]:
        with contextlib.closing(self.ledger()) as ledger:
            self.said += recover(self.study, self.folder, ledger if self.study.server else None)
            board, clock = Board(self.study.name, TRIALS, SLOTS), Clock(self.folder)
            coordinator = Coordinator(
                self.study, self.folder, OneProcess(SLOTS, self.folder), board, clock=clock, ledger=ledger
            )
            before(coordinator)
            coordinator.run()
            return _outcome(ledger.as_stored(), self.folder)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Any, ...]]:
    """The same study in `study.db`."""
    return Sitting(tmp_path_factory.mktemp("file"), None).run()


def test_a_study_on_a_server_is_the_study_in_a_file(server, tmp_path, undisturbed) -> None:
    sitting = Sitting(tmp_path, server.new_database("same"))
    assert sitting.run() == undisturbed
    assert not sitting.folder.database.exists()
    verdict = finish(sitting.folder, storage=sitting.study.server.url)
    assert "database" not in verdict.files
    plain = optuna.load_study(study_name="small", storage=sitting.study.server.url)
    assert len(plain.trials) == TRIALS
    assert sitting.run() == undisturbed  # nothing is asked for once more


def test_a_trial_that_has_ended_is_given_other_attributes(server, tmp_path) -> None:
    sitting = Sitting(tmp_path, server.new_database("amended"))
    sitting.run()
    with contextlib.closing(sitting.ledger()) as ledger:
        ledger.amend(0, twins=3, epoch_shipped=4, safe_epoch=None)

    def told() -> dict[str, Any]:
        return optuna.load_study(study_name="small", storage=sitting.study.server.url).trials[0].user_attrs

    amended = told()
    assert (amended["twins"], amended["epoch_shipped"]) == (3, 4)
    assert "safe_epoch" not in amended
    with contextlib.closing(sitting.ledger()) as ledger:
        assert ledger.trial(0).user_attrs == amended
        ledger.amend(0, twins=None)
    assert "twins" not in told()


def test_several_studies_share_a_database_and_their_names_are_unique(server, tmp_path, undisturbed) -> None:
    url = server.new_database("shared")
    for name in ("one", "two"):
        assert len(Sitting(tmp_path, url, name).run()) == TRIALS
    assert {s.study_name for s in optuna.get_all_study_summaries(url)} == {"one", "two"}
    with pytest.raises(StudyError, match="one without a study named 'one' of another folder"):
        Sitting(tmp_path, url, "one", runs="others").run()
    assert Kept.load(StudyFolder(tmp_path / "others" / "one")) is None
    optuna.create_study(study_name="three", storage=url).add_trial(create_trial(value=0.5))
    with pytest.raises(StudyError, match="'three' of another folder"):
        Sitting(tmp_path, url, "three").run()
    optuna.create_study(study_name="four", storage=url, direction="maximize").enqueue_trial({"rank": 4})
    assert Sitting(tmp_path, url, "four").run()[0][2]["rank"] == 4


@pytest.mark.parametrize("writes", [3, 20, 41])
def test_a_killed_coordinator_goes_on_to_the_same_numbers(server, tmp_path, undisturbed, writes: int) -> None:
    url = server.new_database(f"killed{writes}")
    with pytest.raises(Killed):
        Sitting(tmp_path, url).run(lambda coordinator: _kill_after(coordinator, writes))
    assert Sitting(tmp_path, url).run() == undisturbed


@pytest.mark.parametrize("writes", [5, 24])
def test_a_server_that_is_gone_for_a_while_is_waited_for(server, tmp_path, undisturbed, writes: int) -> None:
    sitting = Sitting(tmp_path, server.new_database(f"gone{writes}"))

    def crash(coordinator: Coordinator) -> None:
        write, left = coordinator.optuna_study._storage.backend.set_trial_user_attr, [writes]

        def writing(*args: Any) -> None:
            left[0] -= 1
            if left[0] == 0:
                server.stop()
                threading.Timer(3.0, server.start).start()
            write(*args)

        coordinator.optuna_study._storage.backend.set_trial_user_attr = writing

    assert sitting.run(crash) == undisturbed
    assert ["does not answer" in line for line in sitting.said].count(True) == 1
    assert any("answers again after" in line for line in sitting.said)


def test_a_write_that_was_done_although_no_answer_came_is_not_done_twice(server, tmp_path, undisturbed) -> None:
    sitting = Sitting(tmp_path, server.new_database("unanswered"))

    def cut(coordinator: Coordinator) -> None:
        backend = coordinator.optuna_study._storage.backend
        for name in ("create_new_trial", "set_trial_state_values", "set_trial_param", "set_trial_intermediate_value"):
            setattr(backend, name, unanswered(getattr(backend, name)))

    def unanswered(write: Callable[..., Any]) -> Callable[..., Any]:
        def writing(*args: Any) -> Any:
            from sqlalchemy.exc import OperationalError

            found = write(*args)
            if not failed:
                failed.append(1)
                raise OperationalError("", {}, Exception("the connection was closed"))
            return found

        failed: list[int] = []
        return writing

    assert sitting.run(cut) == undisturbed


def test_two_coordinators(server, tmp_path) -> None:
    url = server.new_database("leased")
    first = Sitting(tmp_path, url).ledger()
    with pytest.raises(BusyError, match=r"small: another process \(pid \d+ on .*\) is running this study"):
        Sitting(tmp_path, url).ledger()
    with first._mirror.backend.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE onset_leases SET token = token + 1, holder = 'pid 1 on another'")
    with pytest.raises(LostLeaseError, match=r"another process \(pid 1 on another\) has taken this study over"):
        first.study.set_user_attr("late", 1)
    first.close()
    assert "late" not in optuna.load_study(study_name="small", storage=url).user_attrs


def test_a_database_that_was_lost_is_filled_from_the_folder(server, tmp_path, undisturbed) -> None:
    first = Sitting(tmp_path, server.new_database("lost"))
    first.run()
    again = Sitting(tmp_path, server.new_database("fresh"))
    rows = again.run()
    assert [row[:4] for row in rows] == [row[:4] for row in undisturbed]
    assert any("did not know of trials 0, 1, 2, 3, 4, 5: rebuilt from their records" in line for line in again.said)


def test_a_study_that_begins_anew_may_keep_what_it_had(server, tmp_path, undisturbed) -> None:
    sitting = Sitting(tmp_path, server.new_database("anew"))
    sitting.run()
    with contextlib.closing(sitting.ledger()) as ledger:
        ledger.begin_anew(keep_as="small before-1")
        assert (ledger.trials(), ledger.tried.trials) == ([], 0)
    url = sitting.study.server.url
    assert {s.study_name: s.n_trials for s in optuna.get_all_study_summaries(url)} == {
        "small": 0,
        "small before-1": TRIALS,
    }
    shutil.rmtree(sitting.folder.path / "trials")
    assert sitting.run() == undisturbed


def test_one_that_cannot_be_reached_is_told_in_a_line_before_anything_is_loaded(server, tmp_path) -> None:
    study_writer(tmp_path)(storage=f"postgresql+psycopg://onset:secret@127.0.0.1:{server.port}/nowhere")
    command = [sys.executable, "-m", "search.run", "study.yaml"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    (line,) = ended.stderr.strip().splitlines()
    assert 'database "nowhere" does not exist' in line
    assert "secret" not in line
    assert not (tmp_path / "runs").exists()
