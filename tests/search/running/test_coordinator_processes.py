"""What the coordinator decides follows from the study alone: not from who is faster, who dies, or when it is killed."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import optuna
import pytest

from search.errors import SearchError, WorkerError
from search.record.clock import Clock
from search.record.events import Lost
from search.record.record import StudyFolder
from search.running.coordinator import Coordinator
from search.running.progress import Board
from search.running.workers import Team
from search.study.study import load_study
from search.tuning.ledger import Ledger
from tests.search.conftest import study_writer
from tests.search.one_process import OneProcess
from tests.search.scripted_worker import Script, scripted

Outcome = list[tuple[Any, ...]]
TRIALS = 7
FEW = ("budget.trials=4", "budget.startup_trials=2")  # where nothing is compared with the whole study


class Killed(Exception):
    """Stands for a kill: nothing of the coordinator runs after it."""


@pytest.fixture(scope="module")
def run_scripted(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Outcome]:
    """Runs a study of scripted trials: `run_scripted("name", count=2, jitter=1, …)`; returns all trials."""
    home = tmp_path_factory.mktemp("scripted")
    path = study_writer(home)(
        train={"resolution": 64, "save_every_n_epochs": 2, "epochs": 24},
        search={
            "lr_scheduler": {"values": ["constant", "cosine"]},
            "epochs": {"values": [12, 16], "when": {"lr_scheduler": "cosine"}},
            "learning_rate_scale": {"min": 0.5, "max": 8, "log": True},
            "rank": {"values": [2, 4, 8, 12]},
        },
        budget={"trials": TRIALS, "startup_trials": 4},
    )

    def run(
        name: str,
        *,
        count: int = 2,
        places: int | None = 1,
        kill_after: int | None = None,
        settings: Sequence[str] = (),
        taking: int = 1,
        **script: Any,
    ) -> Outcome:
        study = load_study(path, settings)
        folder = StudyFolder(home / "runs" / name)
        folder.path.mkdir(parents=True, exist_ok=True)
        team = Team(scripted, Script(folder.path, places=taking, **script), count)
        team.start()
        try:
            board = Board(name, TRIALS, count * (places or 1))
            coordinator = Coordinator(study, folder, team, board, clock=Clock(folder), places=places)
            if kill_after is not None:
                _kill_after(coordinator, kill_after)
            coordinator.run()
        finally:
            team.close()
        outcomes[name] = _outcome(coordinator.optuna_study, folder)
        return outcomes[name]

    outcomes: dict[str, Outcome] = {}
    run.folder = lambda name: StudyFolder(home / "runs" / name)
    return run


@pytest.fixture(scope="module")
def undisturbed(run_scripted: Callable[..., Outcome]) -> Outcome:
    """The study as it goes when nothing happens."""
    return run_scripted("undisturbed", slowest=0.0)


def test_each_trial_ships_and_is_scored_at_the_epoch_that_the_study_asks_for(run_scripted) -> None:
    shipped = {}
    for ship in ("safe", "likeness"):
        run_scripted(ship, settings=[f"score.ship={ship}"])
        folder = run_scripted.folder(ship)
        records = [record for record in folder.records() if record.onset is not None and record.onset.alike is not None]
        for record in records:
            asked = record.onset.safe if ship == "safe" else record.onset.alike
            scores = {reading.epoch: reading.score for reading in folder.trajectory(record.number).readings}
            assert (record.epoch_shipped, record.score) == (asked.epoch, scores[asked.epoch])
        shipped[ship] = {record.number: record.epoch_shipped for record in records}
    assert shipped["safe"] != shipped["likeness"]


def _kill_after(coordinator: Coordinator, writes: int) -> None:
    """Ends the coordinator at its n-th write to the database, alternately before and after the write happened."""
    storage = coordinator.optuna_study._storage
    left = [writes]

    def killing(original: Callable[..., Any]) -> Callable[..., Any]:
        def write(*args: Any, **kwargs: Any) -> Any:
            left[0] -= 1
            if left[0] == 0 and writes % 2:
                raise Killed
            result = original(*args, **kwargs)
            if left[0] == 0:
                raise Killed
            return result

        return write

    for name in (
        "create_new_trial",
        "set_trial_param",
        "set_trial_user_attr",
        "set_trial_intermediate_value",
        "set_trial_state_values",
    ):
        setattr(storage, name, killing(getattr(storage, name)))


def _outcome(study: optuna.Study, folder: StudyFolder) -> Outcome:
    """Everything that a study's numbers are."""
    records = {r.number: r for r in folder.records()}
    return [
        (
            t.number,
            t.state.name,
            t.params,
            t.value,
            t.intermediate_values,
            records[t.number].epochs_trained,
            records[t.number].epoch_shipped,
            records[t.number].stopped,
            records[t.number].score,
            t.user_attrs["slot"],
            t.user_attrs["began"],
            t.user_attrs["startup"],
        )
        for t in study.get_trials()
    ]


def _began(rows: Outcome) -> list[int]:
    """The clock of each trial's slot when it was placed: the epochs that trials before it were trained there."""
    clocks: dict[int, int] = {}
    began = []
    for row in rows:
        epochs, slot = row[5], row[9]
        began.append(clocks.get(slot, 0))
        clocks[slot] = began[-1] + epochs
    return began


def test_a_trial_begins_when_its_slot_is_free_and_is_tidied_up_when_it_has_ended(run_scripted, undisturbed) -> None:
    assert [row[10] for row in undisturbed] == _began(undisturbed)
    assert {row[9] for row in undisturbed} == {0, 1}
    folder = run_scripted.folder("undisturbed")
    # when trial n is asked for, n - 1 have ended: the other slot has one under way
    assert [record.startup for record in folder.records()] == [number - 1 < 4 for number in range(TRIALS)]
    assert [(record.slot, record.began) for record in folder.records()] == [row[9:11] for row in undisturbed]
    assert not list(folder.path.glob("trials/*/readings/*"))


def test_a_study_that_goes_on_counts_what_its_slots_have_trained(run_scripted) -> None:
    first = run_scripted("longer", settings=["budget.trials=3"])
    both = run_scripted("longer", settings=["budget.trials=6"])
    assert both[:3] == first
    assert [row[10] for row in both] == _began(both)


@pytest.mark.slow  # of a pack it is tried each time
def test_the_order_of_arrival_changes_nothing(run_scripted, undisturbed) -> None:
    assert run_scripted("jittered", jitter=2, slowest=0.02) == undisturbed


def test_trials_end_at_their_horizon_at_an_onset_or_against_their_peers(undisturbed) -> None:
    assert len(undisturbed) == TRIALS
    assert {(row[1], row[7]) for row in undisturbed} == {
        ("COMPLETE", "horizon"),
        ("COMPLETE", "onset"),
        ("PRUNED", "pruned"),
    }


def test_lost_workers_change_nothing_and_make_no_new_trials(run_scripted, undisturbed) -> None:
    assert run_scripted("disturbed", dies_at=((0, 2), (1, 12), (3, 10), (4, 4))) == undisturbed


@pytest.mark.parametrize(
    "writes", [62, *(pytest.param(n, marks=pytest.mark.slow) for n in (4, 41, 70, *range(1, 90, 9)))]
)
def test_a_killed_coordinator_goes_on_to_the_same_numbers(run_scripted, undisturbed, writes: int) -> None:
    with pytest.raises(Killed):
        run_scripted(f"killed-{writes}", kill_after=writes)
    assert run_scripted(f"killed-{writes}", jitter=5) == undisturbed


@pytest.mark.slow  # each day's tests run two slots in another order
def test_one_slot_gives_the_same_numbers_again_too(run_scripted) -> None:
    assert run_scripted("one", count=1, jitter=1) == run_scripted("one-again", count=1, jitter=2)


@pytest.fixture(scope="module")
def undisturbed_pack(run_scripted: Callable[..., Outcome]) -> Outcome:
    """The same on one worker that trains three trials at once."""
    return run_scripted("pack", count=1, places=3)


@pytest.mark.slow
def test_workers_may_say_how_many_trials_they_take(run_scripted, undisturbed_pack) -> None:
    assert run_scripted("said", count=1, places=None, taking=3) == undisturbed_pack
    assert len(run_scripted("said-by-one", count=2, places=None, taking=2, never_ready=(1,))) == TRIALS


@pytest.mark.slow
def test_trials_of_one_worker_are_those_of_as_many_workers(run_scripted, undisturbed_pack) -> None:
    assert run_scripted("three", count=3, jitter=1) == undisturbed_pack


PACK_DIES_AT = ((0, 2), (2, 4), (3, 10), (5, 4))


def test_order_of_arrival_and_lost_workers_change_nothing_for_trials_that_share_one(
    run_scripted, undisturbed_pack
) -> None:
    """All trials of the worker go on from their own checkpoints, and none counts twice."""
    assert run_scripted("pack-lost", count=1, places=3, jitter=1, dies_at=PACK_DIES_AT) == undisturbed_pack


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_nor_do_they_for_several_packs(run_scripted, seed: int) -> None:
    lost = run_scripted(f"packs-{seed}", count=2, places=2, jitter=seed, dies_at=PACK_DIES_AT)
    assert lost == run_scripted(f"packs-again-{seed}", count=2, places=2)


@pytest.mark.parametrize("writes", [25, *(pytest.param(n, marks=pytest.mark.slow) for n in range(2, 90, 9))])
def test_a_killed_coordinator_of_a_pack_goes_on_to_the_same_numbers(
    run_scripted, undisturbed_pack, writes: int
) -> None:
    with pytest.raises(Killed):
        run_scripted(f"pack-killed-{writes}", count=1, places=3, kill_after=writes)
    assert run_scripted(f"pack-killed-{writes}", count=1, places=3, jitter=5) == undisturbed_pack


@pytest.mark.slow
def test_a_trial_that_ends_its_worker_each_time_fails_alone(run_scripted) -> None:
    rows = run_scripted("pack-killer", count=1, places=3, kills=((0, 2),))
    assert [row[1] for row in rows].count("FAIL") == 1
    record = next(record for record in run_scripted.folder("pack-killer").records() if record.number == 0)
    assert record.state == "failed"
    assert str(record.error).startswith("its worker was lost 4 times")


@pytest.mark.slow
def test_a_trial_that_fails_fails_no_neighbour(run_scripted, undisturbed_pack) -> None:
    rows = run_scripted("pack-failing", count=1, places=3, fails_at=((1, 6),))
    assert [row[1] for row in rows].count("FAIL") == 1
    for row, before in zip(rows[:3], undisturbed_pack, strict=False):  # later ones are asked for at other times
        assert all(before[4].get(epoch, score) == score for epoch, score in row[4].items())


def test_a_failure_that_repeats_itself_is_recorded_and_the_study_goes_on(run_scripted) -> None:
    rows = run_scripted("failing", fails_at=((2, 6),), settings=FEW)
    assert [row[1] for row in rows].count("FAIL") == 1
    assert rows[2][1] == "FAIL"
    assert len(rows) == 4
    (record,) = [r for r in run_scripted.folder("failing").records() if r.number == 2]
    assert record.state == "failed"
    assert record.error == "planted failure"
    assert record.epochs_trained == 4


def test_a_failure_that_passes_is_tried_again_without_a_trace(run_scripted, undisturbed) -> None:
    assert run_scripted("healed", fails_at=((2, 6), (5, 4)), again=True, heals=True) == undisturbed


def test_a_failure_that_could_pass_but_does_not_is_given_up(run_scripted) -> None:
    rows = run_scripted("hopeless", fails_at=((2, 6),), again=True, settings=FEW)
    assert rows[2][1] == "FAIL"


def test_a_fault_of_the_machine_stops_the_study_and_no_trial_pays_for_it(run_scripted, undisturbed) -> None:
    with pytest.raises(WorkerError, match=r"^planted failure; .*goes on"):
        run_scripted("full-disk", fails_at=((2, 6),), machine=True)
    assert run_scripted("full-disk") == undisturbed


def test_when_trial_after_trial_fails_the_study_stops_and_no_trial_pays_for_it(run_scripted, undisturbed) -> None:
    with pytest.raises(WorkerError, match=r"3 trials in a row failed: planted failure; .*workers\.log"):
        run_scripted("broken", fails_at=tuple((number, 2) for number in range(TRIALS)), again=True)
    assert {r.state for r in run_scripted.folder("broken").records()} == {"running"}
    assert run_scripted("broken") == undisturbed


def test_a_slot_without_a_worker_hands_its_trial_to_the_others(run_scripted) -> None:
    rows = run_scripted("one-slot-short", never_ready=(1,), settings=FEW)
    assert [row[1] for row in rows].count("FAIL") == 0
    assert len(rows) == 4


def test_without_any_worker_the_study_stops_before_a_trial_fails(run_scripted) -> None:
    with pytest.raises(WorkerError, match=r"no worker could start: it ended with exit code 9; .*workers\.log"):
        run_scripted("no-worker", never_ready=(0, 1), settings=FEW)
    assert [row[1] for row in run_scripted("no-worker", settings=FEW)].count("FAIL") == 0


class _Moved(OneProcess):
    """The study's folder is moved while the workers load, so that none of them becomes ready."""

    def __init__(self, folder: Path) -> None:
        super().__init__(1)
        self._folder = folder

    def receive(self, timeout: float) -> list[tuple[int, Any]]:
        self._folder.rename(self._folder.with_name("away"))
        return [(0, Lost("it ended with exit code 1", replaced=False))]


def test_workers_that_find_no_folder_any_more_are_not_to_blame(write_study, tmp_path: Path) -> None:
    study, folder = load_study(write_study()), StudyFolder(tmp_path / "runs" / "small")
    coordinator = Coordinator(study, folder, _Moved(folder.path), Board("small", 1, 1), clock=Clock(folder))
    with pytest.raises(SearchError, match="was moved or deleted while it ran; put it back"):
        coordinator.run()
    assert [path.name for path in folder.path.parent.iterdir()] == ["away"]


def test_trials_after_the_start_up_are_sampled_from_what_was_learned(run_scripted, undisturbed) -> None:
    records = list(run_scripted.folder("undisturbed").records())
    assert [r.startup for r in records][:4] == [True] * 4
    assert sum(not r.startup for r in records) >= 2


def test_a_reattached_trial_is_given_what_it_would_have_been_given(write_study, tmp_path: Path) -> None:
    space = load_study(
        write_study(search={"rank": {"min": 1, "max": 64}, "noise_offset": {"min": 0.0, "max": 1.0}})
    ).space

    def ledger(name: str) -> Ledger:
        return Ledger(tmp_path / f"{name}.db", "s", seed=7, startup_trials=2)

    asked = ledger("whole")
    _, whole = asked.reattach(asked.ask(space, slot=0, began=0), space)
    half = ledger("half")
    half._reseed(0, "")
    trial = half.study.ask()  # killed before anything was suggested…
    half._reseed(0, "rank")
    trial.suggest_int("rank", 1, 64)  # …or after the first
    again, params = ledger("half").reattach(0, space)
    assert again.number == 0
    assert params == whole
    again.report(0.5, 1)
    assert half.study.tell(again, 0.5).value == 0.5
