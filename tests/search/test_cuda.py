"""A study on a GPU: to its verdict, killed and resumed, short of memory, and with the GPU lost. Run with -m cuda."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
import yaml

from search.record.clock import Clock
from search.record.pack_width import PackWidth
from search.record.record import StudyFolder
from search.run import work
from search.running.workers import Target, Team
from search.study.study import load_study
from tests.search.gpu_workers import TOO_LARGE, lost_once, short_of_memory
from tests.search.running.resident_worker import Resident
from tests.search.short_demo import short_demo
from tests.search.study_processes import finish, start, wait_until, workers_of

pytestmark = pytest.mark.cuda


def run_with(target: Target, study_file: Path, runs: Path) -> StudyFolder:
    """The study to its end, with workers of another kind."""
    study = load_study(study_file)
    folder = StudyFolder(runs / study.name)
    folder.path.mkdir(parents=True)
    team = Team(target, (study, folder), study.workers.count)
    work(study, folder, team, Clock(folder))
    return folder


def processes_on_the_gpu() -> set[int]:
    done = subprocess.run(
        ["nvidia-smi", "--query-compute-apps=pid", "--format=csv,noheader"], capture_output=True, text=True, check=True
    )
    return {int(line) for line in done.stdout.split()}


def assert_same(before: StudyFolder, after: StudyFolder) -> None:
    for first, second in zip(before.records(), after.records(), strict=True):
        assert (first.params, first.state, first.epoch_shipped) == (second.params, second.state, second.epoch_shipped)
        tables = [(folder.trial(first.number) / "trajectory.csv").read_text() for folder in (before, after)]
        assert tables[0] == tables[1]
        epoch = first.epochs_trained
        assert (before.samples(first.number, epoch) == after.samples(first.number, epoch)).all()


@pytest.fixture(scope="module")
def study_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return short_demo(tmp_path_factory.mktemp("short"))


@pytest.fixture(scope="module")
def undisturbed(study_file: Path) -> StudyFolder:
    runs = study_file.parent / "undisturbed"
    said = finish(start(study_file, runs))
    assert "verdict" in said
    return StudyFolder(runs / "demo")


def test_a_study_twice_gives_the_same_numbers(study_file: Path, undisturbed: StudyFolder) -> None:
    assert [record.state for record in undisturbed.records()] == ["complete"] * 3
    assert all(record.memory["gpu_gib"] > 0 for record in undisturbed.records())
    runs = study_file.parent / "again"
    finish(start(study_file, runs))
    assert_same(undisturbed, StudyFolder(runs / "demo"))


def test_killed_and_resumed_it_gives_the_same_numbers_and_leaves_no_process_on_the_gpu(
    study_file: Path, undisturbed: StudyFolder
) -> None:
    runs = study_file.parent / "disturbed"
    folder = StudyFolder(runs / "demo")
    process = start(study_file, runs)
    wait_until(lambda: (folder.trial(0) / "readings" / "0001.npz").is_file(), process)
    victim, *others = workers_of(process)
    victim.kill()
    wait_until(lambda: any((folder.trial(n) / "readings" / "0003.npz").is_file() for n in (0, 1)), process)
    orphans = {p.pid: p for p in [victim, *others, *workers_of(process)]}
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert not psutil.wait_procs(list(orphans.values()), timeout=30)[1], "workers outlive their coordinator"
    assert not processes_on_the_gpu() & orphans.keys()
    finish(start(study_file, runs))
    assert_same(undisturbed, folder)


def test_a_trial_that_does_not_fit_fails_with_its_reason_and_the_study_goes_on(tmp_path: Path) -> None:
    search = {"rank": {"values": [4, TOO_LARGE]}, "learning_rate_scale": {"min": 1, "max": 8, "log": True}}
    study_file = short_demo(
        tmp_path,
        search=search,
        train={"resolution": 64, "epochs": 2, "optimizer": "AdamW"},
        budget={"trials": 5, "startup_trials": 8},
        workers={"count": 1, "threads": 1, "device": "cuda"},
    )
    folder = run_with(short_of_memory, study_file, tmp_path / "runs")
    records = list(folder.records())
    assert {record.params["rank"] for record in records} == {4, TOO_LARGE}
    for record in records:
        large = record.params["rank"] == TOO_LARGE
        assert record.state == ("failed" if large else "complete")
        assert not large or str(record.error).startswith("the GPU is out of memory (")
    held = [json.loads(path.read_text()) for path in sorted(tmp_path.glob("runs/memory-*.json"))]
    assert len({trial["pid"] for trial in held}) == 1, "the worker stays"
    allocated = [trial["allocated"] for trial in held]
    # cuBLAS holds 32 MiB or not; of a trial that stayed there would be more, each time
    assert max(allocated) - min(allocated) < 2**25 + 2**22, held
    assert max(trial["reserved"] for trial in held) < 2**29, held


def test_a_gpu_lost_in_a_trial_is_had_again_by_another_process(tmp_path: Path, undisturbed: StudyFolder) -> None:
    folder = run_with(lost_once, short_demo(tmp_path), tmp_path / "runs")
    assert (tmp_path / "runs" / "lost").is_file()
    assert_same(undisturbed, folder)


@pytest.mark.parametrize("module", ["search.run", "trainer.run"])
def test_a_gpu_that_is_not_there_ends_a_command_in_one_line(
    tmp_path: Path, tiny_sd15: Path, tiny_photos: Path, module: str
) -> None:
    if module == "search.run":
        study = short_demo(tmp_path, workers={"count": 1, "device": "cuda:99"})
        arguments = [str(study), "--runs", str(tmp_path / "runs")]
    else:
        path = tmp_path / "train.yaml"
        path.write_text(yaml.safe_dump({"base": str(tiny_sd15), "data": str(tiny_photos), "resolution": 64}))
        arguments = [str(path), "--device", "cuda:99"]
    done = subprocess.run([sys.executable, "-m", module, *arguments], capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    last = done.stderr.splitlines()[-1]
    assert re.search(r"device: expected .*, got 'cuda:99': it has cuda:0", last)
    assert "Traceback" not in done.stderr
    assert np.array_equal(sorted(tmp_path.rglob("*.safetensors")), [])


@pytest.fixture(scope="module")
def packed_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three trials that one worker trains at once."""
    return short_demo(tmp_path_factory.mktemp("packed"), workers={"count": 1, "pack": 3, "device": "cuda"})


@pytest.fixture(scope="module")
def packed(packed_file: Path) -> StudyFolder:
    finish(start(packed_file, packed_file.parent / "undisturbed"))
    return StudyFolder(packed_file.parent / "undisturbed" / "demo")


def test_trials_trained_at_once_do_not_hang_on_each_other(
    tmp_path: Path, tiny_sd15: Path, tiny_clip: Path, tiny_photos: Path
) -> None:
    resident = Resident(tmp_path, tiny_sd15, tiny_clip, tiny_photos, device="cuda")
    together, said = resident.run(*(resident.spec(number) for number in range(3)))
    assert sorted(together) == [0, 1, 2]
    assert not said
    assert resident.run(resident.spec(1))[0] == {1: together[1]}


def test_trained_at_once_killed_and_resumed_they_give_the_same_numbers(packed_file: Path, packed: StudyFolder) -> None:
    assert [record.state for record in packed.records()] == ["complete"] * 3
    runs = packed_file.parent / "disturbed"
    folder = StudyFolder(runs / "demo")
    process = start(packed_file, runs)
    wait_until(lambda: (folder.trial(0) / "readings" / "0002.npz").is_file(), process)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    finish(start(packed_file, runs))
    assert_same(packed, folder)


def test_how_many_to_train_at_once_is_measured(tmp_path: Path) -> None:
    """`workers.pack: auto` settles on a width with the memory of the GPU, and the study ends with it."""
    study_file = short_demo(
        tmp_path, budget={"trials": 12, "startup_trials": 12}, workers={"count": 1, "pack": "auto", "device": "cuda"}
    )
    finish(start(study_file, tmp_path / "runs"))
    folder = StudyFolder(tmp_path / "runs" / "demo")
    assert [record.state for record in folder.records()] == ["complete"] * 12
    assert PackWidth.file(folder).is_file()
