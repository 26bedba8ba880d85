"""Trainings of the finals, with a real base: up to their last epochs, side by side or in turn, and after a fault."""

from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from search.record.events import DrawAgain
from search.record.record import StudyFolder
from search.running.shared_passes import SharedPasses
from search.running.sharing import Sharing
from search.running.side_by_side import SideBySide, Training
from trainer.base_model.load import load_base
from trainer.checkpoint import LORA_FILE, checkpoint_path, checkpoints, lora_damage
from trainer.config.config import parse_train_config
from trainer.data.cache import LatentCache
from trainer.data.dataset import scan_dataset
from trainer.packing.pack import Pack

BUCKETS = {"enable_bucket": True, "min_bucket_resolution": 64, "max_bucket_resolution": 64}
ASKED = [DrawAgain(number, 2, retrained=True, place=number) for number in range(3)]


@pytest.fixture(scope="module")
def probe(tiny_sd15: Path, tiny_photos: Path) -> Any:
    base = load_base(tiny_sd15)
    return SimpleNamespace(base=base, trained=scan_dataset(tiny_photos).subset(range(2)), cache=LatentCache(base, None))


class Home:
    """Trainings of two epochs at most, each in a folder of its own."""

    def __init__(self, probe: Any, path: Path, width: int | None) -> None:
        self.path, self.probe = path, probe
        sharing = Sharing() if width is None else Sharing(width, width, 4)
        self.side = SideBySide(SharedPasses(probe, sharing, width or 1, StudyFolder(path)), "toy")
        self.looked: list[tuple[int | None, int, bool]] = []
        self.groups: list[set[int | None]] = []
        self.changes: dict[int, dict[str, Any]] = {}

    def training(self, asked: DrawAgain, until: int = 2, **more: Any) -> Training:
        values = {"base": "base", "data": "photos", "resolution": 64, "batch_size": 2, "epochs": 3, "rank": 2}
        config = parse_train_config(values).model_copy(update=self.changes.get(asked.number or 0, {}))
        folder = self.path / str(asked.number)

        def look(run: Any) -> None:
            saved = checkpoint_path(folder / "checkpoints", run.epoch).exists()
            self.looked.append((asked.number, run.epoch, saved))

        return Training(config, until, folder, asked.place, look=look, **more)

    def epochs(self, number: int) -> list[int]:
        return [int(path.name) for path in checkpoints(self.path / str(number) / "checkpoints")]

    def train(self, asked: Sequence[DrawAgain], ready: Callable[[DrawAgain], Training | None] | None = None) -> Any:
        return self.side.train(asked, ready or self.training, lambda: None)


@pytest.fixture
def home(probe: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Home]:
    def made(width: int | None = 3) -> Home:
        found = Home(probe, tmp_path, width)
        train = Pack.train_epoch

        def noted(pack: Pack, *args: Any, runs: Any, **named: Any) -> None:
            found.groups.append({int(run.run_dir.name) for run in runs})
            assert len(found.groups) < 50, "it never ends"
            train(pack, *args, runs=runs, **named)

        monkeypatch.setattr(Pack, "train_epoch", noted)
        return found

    return made


def test_each_is_trained_to_its_last_epoch_and_looked_at_before_it_is_saved(home: Any) -> None:
    these: Home = home()
    until = {0: 2, 1: 1, 2: 2}
    heard: list[int] = []
    faults = these.side.train(ASKED, lambda a: these.training(a, until[a.number or 0]), lambda: heard.append(1))
    assert faults == {}
    assert [these.epochs(number) for number in range(3)] == [[1, 2], [1], [1, 2]]
    assert these.groups == [{0, 1, 2}, {0, 2}]
    assert these.looked == [(0, 1, False), (1, 1, False), (2, 1, False), (0, 2, False), (2, 2, False)]
    assert len(heard) == 2 * 2, "once a step: two photos twice in batches of two, for two epochs"
    assert set(these.side.seconds) == set(ASKED)
    assert len(set(these.side.seconds.values())) == 1, "equal parts of what they took together"
    assert 0 < these.side.seconds[ASKED[0]] < 60
    for number in range(3):
        folder = checkpoint_path(these.path / str(number) / "checkpoints", 1)
        assert lora_damage(folder) is None
        assert b"toy" in (folder / LORA_FILE).read_bytes()[:20000], "it has the study's name"


def test_what_was_done_before_is_left_out_and_what_is_saved_is_not_looked_at_again(home: Any) -> None:
    these: Home = home()
    these.train(ASKED[:1], lambda asked: these.training(asked, 1))
    these.looked.clear()
    these.groups.clear()
    assert these.train(ASKED, lambda asked: None if asked.number == 1 else these.training(asked)) == {}
    assert these.epochs(1) == []
    assert these.groups == [{2}, {0, 2}] or these.groups == [{0, 2}, {2}] or these.groups == [{0, 2}, {0, 2}, {2}]
    assert (0, 1, False) not in these.looked
    assert [each for each in these.looked if each[0] == 0] == [(0, 2, False)]
    these.groups.clear()
    assert these.train(ASKED[:1]) == {}
    assert these.groups == [], "it was there already"


def test_without_shared_passes_they_are_trained_one_after_the_other(home: Any) -> None:
    these: Home = home(None)
    assert these.train(ASKED) == {}
    assert these.groups == [{0}, {0}, {1}, {1}, {2}, {2}]
    assert [these.epochs(number) for number in range(3)] == [[1, 2]] * 3


def test_one_that_blows_up_is_named_and_the_others_go_on(home: Any) -> None:
    these: Home = home()
    these.changes[1] = {"learning_rate_scale": 1e30}
    faults = these.train(ASKED)
    assert [asked.number for asked in faults] == [1]
    fault = faults[ASKED[1]]
    assert (fault.again, fault.machine, fault.memory) == (False, False, False)
    assert "NaN or infinite" in fault.text
    assert [these.epochs(number)[-1:] for number in (0, 2)] == [[2], [2]]


def test_a_fault_of_the_pass_is_everybodys_and_its_pack_is_left_and_forgotten(home: Any, monkeypatch) -> None:
    these: Home = home()
    step = Pack._step
    left = [3]

    def broken(pack: Pack, *args: Any) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise RuntimeError("planted")
        step(pack, *args)

    monkeypatch.setattr(Pack, "_step", broken)
    faults = these.train(ASKED[:2], lambda asked: these.training(asked, 1 if asked.number == 1 else 2))
    assert {asked.number: (fault.text, fault.again) for asked, fault in faults.items()} == {
        0: ("RuntimeError: planted", True)
    }, "the other one was done by then"
    assert these.side.passes.width == 3
    left[0] = 0
    some = these.train(ASKED, lambda asked: None if asked.number == 1 else these.training(asked, 3))
    assert {asked.number for asked in some} == {0, 2}, "what was done before has no fault"
    left[0] = 99
    packs = set()
    join = Pack.join

    def joined(pack: Pack, *args: Any, **named: Any) -> Any:
        assert not pack.runs
        packs.add(pack)
        return join(pack, *args, **named)

    monkeypatch.setattr(Pack, "join", joined)
    assert these.train(ASKED[:1]) == {}
    assert these.epochs(0) == [1, 2]


def test_too_little_memory_narrows_the_passes(home: Any, monkeypatch) -> None:
    these: Home = home()

    def full(pack: Pack, *args: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    with monkeypatch.context() as patch:
        patch.setattr(Pack, "_step", full)
        faults = these.train(ASKED)
        assert all(fault.memory and fault.again for fault in faults.values())
        assert set(faults) == set(ASKED)
        assert these.side.passes.width == 1
        assert set(these.train(ASKED)) == set(ASKED)
        assert these.side.passes.width == 1, "it can be no narrower"
    assert these.train(ASKED) == {}
    assert these.groups[-1] != {0, 1, 2}


@pytest.mark.parametrize(
    ("changes", "others", "apart"),
    [
        ({}, True, False),
        ({}, False, False),
        (BUCKETS, True, True),
        (BUCKETS, False, False),
        ({"dora": True}, True, True),
        ({"dora": True}, False, False),
    ],
)
def test_photos_of_its_own_keep_one_apart_that_cannot_share(
    home: Any, monkeypatch, changes: dict[str, Any], others: bool, apart: bool
) -> None:
    these: Home = home()
    these.changes[0] = changes
    seen: list[tuple[bool, int, bool]] = []
    join = these.side.passes.join

    def noted(config: Any, settings: Any, run_dir: Path, *, place: int, photos: Any, apart: bool) -> Any:
        seen.append((apart, place, photos is not None))
        return join(config, settings, run_dir, place=place, photos=photos, apart=apart)

    monkeypatch.setattr(these.side.passes, "join", noted)
    photos = these.probe.trained.subset(range(1)) if others else None
    these.train([DrawAgain(0, 2, place=2)], lambda asked: these.training(asked, 1, photos=photos))
    assert seen == [(apart, 2, others)]
