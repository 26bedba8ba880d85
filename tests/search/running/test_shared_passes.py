"""The packs of one worker, with a real base: who sits where, in which pack, and what is left of it after a fault."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from search.record.pack_width import PackWidth
from search.record.record import StudyFolder
from search.running.shared_passes import SharedPasses, sharers
from search.running.sharing import Sharing
from trainer.base_model.load import load_base
from trainer.config.config import TrainConfig, parse_train_config
from trainer.data.cache import LatentCache
from trainer.data.dataset import Dataset, scan_dataset
from trainer.packing.builder import run_settings
from trainer.packing.pack import Pack
from trainer.packing.training_run import Run


def config_of(**changes: Any) -> TrainConfig:
    values = {"base": "base", "data": "photos", "resolution": 64, "batch_size": 8, "epochs": 2, "rank": 2}
    return parse_train_config({**values, **changes})


@pytest.fixture(scope="module")
def probe(tiny_sd15: Path, tiny_photos: Path) -> Any:
    base = load_base(tiny_sd15)
    return SimpleNamespace(base=base, trained=scan_dataset(tiny_photos), cache=LatentCache(base, None))


class Seats:
    """Runs that take their seats, and what the packs are called in the order in which they are first met."""

    def __init__(self, passes: SharedPasses, home: Path) -> None:
        self.passes, self._home, self._packs, self._count = passes, home, list[Pack](), 0

    def join(self, place: int, config: TrainConfig | None = None, **how: Any) -> tuple[int, Run]:
        config = config or config_of()
        self._count += 1
        home = self._home / str(self._count)
        pack, run = self.passes.join(config, run_settings(config), home, place=place, **how)
        assert run in pack.runs
        assert run.run_dir == home
        if pack not in self._packs:
            self._packs.append(pack)
        return self._packs.index(pack), run

    def pack(self, number: int) -> Pack:
        return self._packs[number]


@pytest.fixture
def seats(probe: Any, tmp_path: Path) -> Any:
    def made(width: int | None = 2, *, asked: Any = 4, places: int = 4) -> Seats:
        sharing = Sharing() if width is None else Sharing(places, width, 8)
        return Seats(SharedPasses(probe, sharing, asked, StudyFolder(tmp_path)), tmp_path)

    return made


def test_each_trial_sits_where_its_place_says_and_a_taken_seat_is_one_of_the_next_pack(seats: Any) -> None:
    these: Seats = seats(2)
    assert [these.join(place)[0] for place in (0, 1, 2, 3)] == [0, 0, 1, 1]
    assert [these.pack(n).free_seats for n in (0, 1)] == [[], []]
    for pack in (these.pack(0), these.pack(1)):
        assert (pack.width, pack.max_rank) == (2, 8)
    pack, (first, second) = these.pack(0), these.pack(0).runs
    pack.leave(second)
    assert pack.free_seats == [1]
    assert these.join(4)[0] == 2, "its seat is the first one, which is taken in both"
    assert these.join(5)[0] == 0
    assert first in pack.runs


def test_other_settings_of_a_pass_are_another_pack(seats: Any) -> None:
    these: Seats = seats(2)
    numbers = [
        these.join(0)[0], these.join(1, config_of(batch_size=4))[0], these.join(1, config_of(rank=8))[0],
        these.join(0, config_of(batch_size=4))[0], these.join(1, config_of(targets="attention"))[0],
    ]  # fmt: skip
    assert numbers == [0, 1, 0, 1, 2]


def test_who_sits_apart_sits_alone_at_the_same_width_until_it_leaves(seats: Any) -> None:
    these: Seats = seats(2)
    assert these.join(0)[0] == 0
    number, run = these.join(1, apart=True)
    assert number == 1
    assert these.pack(1).width == 2
    assert these.pack(1).free_seats == [0]
    assert these.join(2)[0] == 2, "not beside the one apart"
    these.pack(1).leave(run)
    assert these.join(3)[0] == 0
    assert these.join(3)[0] == 2
    assert these.join(5)[0] not in (0, 1, 2), "nobody was left in it, so it was forgotten"


def test_beside_a_pack_of_one_that_sits_apart_the_others_are_filled(seats: Any) -> None:
    these: Seats = seats(2)
    number, run = these.join(0, apart=True)
    assert [these.join(place)[0] for place in (0, 1)] == [1, 1]
    these.pack(number).leave(run)
    for left in list(these.pack(1).runs):
        these.pack(1).leave(left)
    assert these.join(1)[0] == number, "nobody sits apart there any more"


def test_one_that_cannot_share_a_pass_is_trained_by_itself_in_turn(seats: Any) -> None:
    these: Seats = seats(2)
    assert these.join(0)[0] == 0
    alone, run = these.join(1, config_of(dora=True))
    assert alone == 1
    assert (these.pack(1).width, these.pack(1).max_rank) == (None, None)
    assert these.join(1, config_of(dora=True))[0] == 2, "nor do two of them sit together"
    these.pack(1).leave(run)


def test_without_sharing_trials_join_one_pack_of_no_fixed_width(seats: Any) -> None:
    these: Seats = seats(None)
    assert [these.join(0)[0], these.join(0)[0]] == [0, 0]
    assert (these.pack(0).width, these.pack(0).max_rank) == (None, None)
    assert these.passes.shape == (None, None)


def test_other_photos_are_trained_on_where_they_are_given(seats: Any, probe: Any) -> None:
    these: Seats = seats(2)
    few: Dataset = probe.trained.subset(range(3))
    _, own = these.join(0, photos=few)
    _, usual = these.join(1)
    assert own.feed.dataset is few
    assert usual.feed.dataset is probe.trained


def test_a_pack_that_was_dropped_takes_nobody_any_more(seats: Any) -> None:
    these: Seats = seats(2)
    these.join(0)
    these.join(1, config_of(batch_size=4))
    these.passes.drop(these.pack(0))
    assert these.join(1)[0] == 2
    assert these.join(0, config_of(batch_size=4))[0] == 1, "the others stay"
    number, _ = these.join(0, apart=True)
    these.passes.drop(these.pack(number))
    assert these.join(1, apart=True)[0] == number + 1


def test_too_little_memory_halves_the_width_for_all_packs_and_all_sittings(seats: Any, tmp_path: Path) -> None:
    these: Seats = seats(5)
    assert these.passes.shape == (5, 8)
    these.join(0)
    these.join(1, apart=True)
    for width in (2, 1, 1):
        these.passes.narrow()
        assert these.passes.width == width
        assert PackWidth.load(StudyFolder(tmp_path), 4) == PackWidth(4, 4, width)
    assert these.join(0)[0] == 2, "nobody sits where he did"
    assert these.join(1)[0] == 3, "there is one seat in each"
    PackWidth(4, 4, 2).save(StudyFolder(tmp_path))
    assert seats(5).passes.width == 2
    assert seats(1).passes.width == 1, "what was kept only makes it narrower"
    assert seats(5, asked=8).passes.width == 5, "it was found for another study file"
    assert seats(None).passes.width is None


def test_who_shares_a_pack_is_told_in_the_trials_order(seats: Any) -> None:
    these: Seats = seats(2)
    trials = []
    for place in (0, 2, 1):
        number, run = these.join(place)
        trials.append(SimpleNamespace(seats=[(these.pack(number), run)], place=place))
    number, twin = these.join(3)
    trials[0].seats.append((these.pack(number), twin))
    found = sharers(trials)
    assert [[(trial.place, run) for trial, run in members] for members in found.values()] == [
        [(0, trials[0].seats[0][1]), (1, trials[2].seats[0][1])],
        [(0, twin), (2, trials[1].seats[0][1])],
    ]
    assert list(found) == [these.pack(0), these.pack(1)]
