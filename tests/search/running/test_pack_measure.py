"""How many trials share a pass where the study leaves that to us: by the images in a pass, and by memory."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch

from search.record.pack_width import PackWidth
from search.record.record import StudyFolder
from search.running import pack_measure
from search.running.pack_measure import _at, _memory, measured, settled, step_seconds
from search.running.sharing import Sharing, sharing_of
from search.study.study import Study, load_study
from tests.search.conftest import StudyWriter
from tests.trainer.packs import join, new_pack
from trainer.base_model.load import load_base
from trainer.data.dataset import Dataset, scan_dataset
from trainer.families import Base
from trainer.packing.pack import Pack

Measure = Callable[..., tuple[list[int], Sharing]]


@pytest.fixture
def measure(write_study: StudyWriter, monkeypatch: pytest.MonkeyPatch) -> Measure:
    """The widths that are tried on a device, each of which takes `memory(width)` of 100, and what comes of them."""

    def run(
        device: str, memory: Callable[[int], float], *, trials: int = 64, batch: int = 1, size: int = 64, **search: Any
    ) -> tuple[list[int], Sharing]:
        train = {"resolution": size} | ({} if "batch_size" in search else {"batch_size": batch})
        study = load_study(
            write_study(
                train=train,
                search={"rank": {"values": [4, 8]}, "noise_offset": {"min": 0.0, "max": 0.1}, **search},
                budget={"trials": trials},
                workers={"pack": "auto"},
            )
        )
        tried: list[int] = []

        def needed(config: object, probe: object, width: int, rank: int) -> tuple[float, float]:
            assert rank == 8
            tried.append(width)
            return memory(width), 100.0

        monkeypatch.setattr(pack_measure, "_at", needed)
        monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
        probe: Any = SimpleNamespace(base=SimpleNamespace(device=torch.device(device)))
        return tried, measured(study, probe)

    return run


def plenty(width: int) -> float:
    return 1.0


def full(width: int) -> float:
    raise torch.OutOfMemoryError("CUDA out of memory.")


@pytest.mark.parametrize(
    ("device", "trials", "batch", "size", "tried", "width"),
    [
        ("cuda", 64, 1, 64, [1, 2, 4, 8, 16], 16),
        ("cuda", 47, 1, 64, [1, 2, 4, 8], 8),  # four trials in turn at each place
        ("cuda", 64, 1, 1024, [1, 2, 4, 8], 8),  # eight images of 1024²
        ("cuda", 64, 2, 1024, [1, 2, 4], 4),
        ("cuda", 64, 8, 1024, [], 1),
        ("cuda", 64, 5, 1024, [], 1),
        ("cpu", 64, 1, 64, [1, 2, 4], 4),  # four images on a CPU
        ("cpu", 64, 2, 64, [1, 2], 2),
        ("cpu", 64, 3, 64, [], 1),
        ("cuda", 7, 1, 64, [], 1),  # too few to share at all
    ],
)
def test_no_more_images_than_a_pass_is_worth(measure: Measure, device, trials, batch, size, tried, width) -> None:
    found, sharing = measure(device, plenty, trials=trials, batch=batch, size=size)
    assert found == tried
    assert sharing == (Sharing(width, width, 8) if width > 1 else Sharing())


@pytest.mark.parametrize(
    ("memory", "tried", "width"),
    [
        (lambda width: 5 + 4 * width, [1, 2, 4, 8, 16], 16),  # 69 of 85 that may be taken
        (lambda width: 10 + 5 * width, [1, 2, 4, 8], 8),  # another doubling would take 90
        (lambda width: 5 + 5 * width, [1, 2, 4, 8, 16], 16),  # exactly 85
        (lambda width: 86, [1], 1),
        (lambda width: 85, [1, 2, 4, 8, 16], 16),
        (lambda width: full(width) if width > 3 else 10, [1, 2, 4], 2),
        (full, [1], 1),
    ],
)
def test_no_wider_than_memory_is_seen_to_hold(measure: Measure, memory, tried, width) -> None:
    found, sharing = measure("cuda", memory)
    assert found == tried
    assert sharing == (Sharing(width, width, 8) if width > 1 else Sharing())


def test_packs_that_take_turns_have_their_places_too(measure: Measure) -> None:
    """Two batch sizes cannot share a pass: of sixteen places each pack has eight."""
    found, sharing = measure("cuda", plenty, batch_size={"values": [1, 2]})
    assert (found, sharing) == ([1, 2, 4, 8], Sharing(16, 8, 8))


def test_another_error_is_not_taken_for_too_little_memory(measure: Measure) -> None:
    def broken(width: int) -> float:
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        measure("cuda", broken)


@pytest.fixture(scope="module")
def base(tiny_sd15: Path) -> Base:
    return load_base(tiny_sd15)


@pytest.fixture(scope="module")
def dataset(tiny_photos: Path) -> Dataset:
    return scan_dataset(tiny_photos)


@pytest.mark.parametrize(("steps", "counted"), [(1, 1), (3, 3), (9, 4)])
def test_so_many_steps_are_timed_or_all_that_there_are(
    base: Base, dataset: Dataset, tmp_path: Path, monkeypatch, steps: int, counted: int
) -> None:
    """Eight photos twice in batches of eight, two epochs: four steps. The clock says 1, 2, 4, 7, 11 …"""
    ticks = iter([1, 2, 4, 7, 11, 16, 22, 29, 37, 46])
    pack = new_pack(base, dataset, resolution=(64, 64), batch_size=8)
    for seat in range(2):
        join(pack, run_dir=tmp_path / str(seat), rank=2, epochs=2)
    monkeypatch.setattr("time.perf_counter", lambda: float(next(ticks)))
    assert step_seconds(pack, steps) == [1.0, 2.0, 3.0, 4.0][:counted]
    assert all(run.finished for run in pack.runs)
    if steps < 4:
        assert not pack.runs


def test_a_width_is_tried_with_so_many_runs_of_the_highest_rank(
    base: Base, dataset: Dataset, write_study: StudyWriter, monkeypatch
) -> None:
    study: Study = load_study(write_study(train={"resolution": 64, "batch_size": 8}))
    joined, steps = [], []
    noted = Pack.join

    def join_noted(pack: Pack, settings: Any, **named: Any) -> Any:
        joined.append((settings.adapter.rank, settings.schedule.epochs))
        return noted(pack, settings, **named)

    def count(pack: Pack, number: int) -> list[float]:
        steps.append((number, len(pack.runs), pack.free_seats))
        return []

    monkeypatch.setattr(Pack, "join", join_noted)
    monkeypatch.setattr(pack_measure, "step_seconds", count)
    probe: Any = SimpleNamespace(base=base, trained=dataset, cache=None)
    used, room = _at(study.config({"rank": 4}), probe, 3, 8)
    assert joined == [(8, 3)] * 3, "one epoch more than the steps, so that none ends on the way"
    ((number, runs, free),) = steps
    assert (number, runs, list(free)) == (2, 3, [])
    assert 0 < used < room == psutil.virtual_memory().total


def test_memory_of_a_cpu_is_that_of_this_process() -> None:
    used, room = _memory(torch.device("cpu"))
    assert used == pytest.approx(psutil.Process().memory_info().rss, rel=0.05)
    assert room == psutil.virtual_memory().total


def test_what_was_measured_is_said_once_and_kept_for_the_study(
    write_study: StudyWriter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    probe: Any = None
    monkeypatch.setattr(pack_measure, "measured", lambda study, probe: sharing_of(study, 2))
    study, folder = load_study(write_study(workers={"pack": "auto"}, budget={"trials": 64})), StudyFolder(tmp_path)
    found = settled(study, folder, probe, said.append)
    assert found == sharing_of(study, 2)
    assert (found.places, found.width) == (2, 2)
    assert PackWidth.load(folder, "auto") == PackWidth("auto", 2, 2)
    assert len(said) == 1
    monkeypatch.setattr(pack_measure, "measured", lambda *given: pytest.fail("it is known"))
    assert settled(study, folder, probe, said.append) == found
    assert len(said) == 1
    said_in_the_file = load_study(write_study(workers={"pack": 4}, budget={"trials": 64}))
    assert settled(said_in_the_file, StudyFolder(tmp_path), probe, said.append).places == 4
