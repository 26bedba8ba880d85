"""The files of a finished run: refused before anything is drawn, placed without a copy, and looked at once."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from math import pi, sin
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file

from metrics.trajectory.readings import Reading, Readings
from search.record.events import Checkpointed, TrialSpec, load_readings, save_readings
from search.record.finished_run import FinishedRun
from search.record.record import StudyFolder
from search.running import finished_run
from search.running.finished_run import Looked, RunLooks, check_run, efforts, place_checkpoint
from search.study.finished_run import CheckpointFiles
from search.study.study import Study, load_study
from tests.search.finished_studies import make_lora
from trainer.base_model.load import load_base
from trainer.checkpoint import LORA_FILE
from trainer.config.config import parse_train_config
from trainer.errors import ModelError
from trainer.families import Base
from trainer.lora.kohya_file import load_lora, save_lora
from trainer.lora.lora import LoraWeights

READINGS = Readings(4, 1.0, {"fidelity": Reading(0.5, 0.4, 0.6)}, {"fidelity": np.array([0.4, 0.6])}, 0.25)


@pytest.fixture(scope="module")
def base(tiny_sd15: Path) -> Base:
    return load_base(tiny_sd15)


@pytest.fixture(scope="module")
def lora_file(tmp_path_factory: pytest.TempPathFactory, tiny_sd15: Path) -> Path:
    file = tmp_path_factory.mktemp("loras") / "a.safetensors"
    make_lora(file, tiny_sd15)
    return file


@pytest.fixture
def run(tmp_path: Path, lora_file: Path) -> FinishedRun:
    files = {count: tmp_path / f"my-{count:06d}.safetensors" for count in (2, 4, 8)}
    for file in files.values():
        shutil.copy(lora_file, file)
    return FinishedRun({count: str(file) for count, file in files.items()})


def changed(file: str, change: Callable[[Any], Any]) -> None:
    """One module of a file, the last one, is changed."""
    lora = load_lora(file, family="sd15")
    *_, (site, module) = lora.modules.items()
    save_lora(Path(file), replace(lora, modules={**lora.modules, site: change(module)}), {})


def test_whole_files_of_one_strength_are_kept_as_far_as_there_is_room(
    run: FinishedRun, base: Base, monkeypatch
) -> None:
    kept = check_run(run, base)
    assert [*kept] == [2, 4, 8]
    for lora in kept.values():
        for site, module in load_lora(run.files[2], family="sd15").modules.items():
            assert torch.equal(lora.modules[site].up, module.up)
    size = Path(run.files[2]).stat().st_size
    for room, counts in ((2 * size, [2, 4]), (2 * size - 1, [2]), (size - 1, [])):
        monkeypatch.setattr(finished_run, "_KEPT", room)
        assert [*check_run(run, base)] == counts


def test_the_first_file_that_does_not_go_along_is_named(run: FinishedRun, base: Base, tiny_sdxl: Path) -> None:
    changed(run.files[4], lambda module: replace(module, up=module.up * float("nan")))
    with pytest.raises(ModelError, match=r"my-000004\.safetensors: expected finite weights"):
        check_run(run, base)
    shutil.copy(run.files[2], run.files[4])
    changed(run.files[8], lambda module: replace(module, alpha=2.0))
    with pytest.raises(ModelError, match=r"my-000008\.safetensors: expected alpha 4 in .*my-000002.*got 2"):
        check_run(run, base)
    lora = load_lora(run.files[2], family="sd15")
    (site, module), *_ = lora.modules.items()
    wider = replace(module, down=torch.zeros(module.down.shape[0], 7))
    save_lora(Path(run.files[2]), LoraWeights({site: wider}, "sd15"), {})
    with pytest.raises(ModelError, match=r"my-000002\.safetensors: "):
        check_run(run, base)


@pytest.mark.parametrize("count", [1, 3, 8, 5000])
def test_efforts_are_the_area_under_the_learning_rate(count: int) -> None:
    run = FinishedRun(dict.fromkeys((1, 3, 8, 5000), "file"))
    last = run.counts[-1]

    def config(**given: Any) -> Any:
        return parse_train_config({"base": "b", "data": "d", **given})

    assert efforts(run, config())[count] == pytest.approx(count)
    cosine = efforts(run, config(lr_scheduler="cosine"))
    assert [*cosine] == [1, 3, 8, 5000]
    assert cosine[count] == pytest.approx(count / 2 + last / (2 * pi) * sin(pi * count / last), rel=1e-3)
    short = FinishedRun(dict.fromkeys((2, 4, 8), "file"))
    twice = efforts(short, config(lr_scheduler="cosine_with_restarts", num_cycles=2))
    assert twice == pytest.approx({2: 1 + 2 / pi, 4: 2.0, 8: 4.0}, abs=0.01)  # the rate is 1 again at epoch 4


def test_a_file_lies_where_a_trial_keeps_its_own_without_a_copy(run: FinishedRun, tmp_path: Path) -> None:
    trial = tmp_path / "trial"
    placed = trial / "checkpoints" / "0004" / LORA_FILE
    placed.parent.mkdir(parents=True)
    (placed.parent / f".{LORA_FILE}.new").write_text("of a sitting that was killed")
    place_checkpoint(run, 4, trial, "sd15")
    assert placed.samefile(run.files[4])
    assert [path.name for path in placed.parent.iterdir()] == [LORA_FILE]
    placed.unlink()
    placed.write_text("placed before")
    place_checkpoint(run, 4, trial, "sd15")
    assert placed.read_text() == "placed before"


def test_of_a_link_the_file_behind_it_is_placed(run: FinishedRun, tmp_path: Path) -> None:
    link = tmp_path / "link.safetensors"
    link.symlink_to(run.files[2])
    place_checkpoint(FinishedRun({2: str(link)}), 2, tmp_path / "trial", "sd15")
    placed = tmp_path / "trial" / "checkpoints" / "0002" / LORA_FILE
    assert not placed.is_symlink()
    assert placed.samefile(run.files[2])


def test_where_no_link_can_be_the_file_is_copied(run: FinishedRun, tmp_path: Path, monkeypatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refused)
    place_checkpoint(run, 2, tmp_path / "trial", "sd15")
    placed = tmp_path / "trial" / "checkpoints" / "0002" / LORA_FILE
    assert placed.read_bytes() == Path(run.files[2]).read_bytes()
    assert not placed.samefile(run.files[2])


def test_the_alphas_of_peft_come_along(run: FinishedRun, tmp_path: Path) -> None:
    """They stand beside its file, whose own tensors have none."""
    lora = load_lora(run.files[2], family="sd15")
    home = tmp_path / "peft"
    home.mkdir()
    tensors = {}
    for (component, path), module in lora.modules.items():
        if component == "denoiser":
            tensors[f"base_model.model.{path}.lora_A.weight"] = module.down.contiguous()
            tensors[f"base_model.model.{path}.lora_B.weight"] = module.up.contiguous()
    save_file(tensors, home / "adapter_model.safetensors")
    (home / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 8, "lora_alpha": 3}))
    place_checkpoint(FinishedRun({2: str(home / "adapter_model.safetensors")}), 2, tmp_path / "trial", "sd15")
    placed = load_lora(tmp_path / "trial" / "checkpoints" / "0002" / LORA_FILE, family="sd15")
    assert len(placed.modules) == len(tensors) // 2
    for site, module in placed.modules.items():
        assert module.alpha == 3
        assert module.up.dtype == torch.float32
        assert torch.equal(module.up, lora.modules[site].up)


@pytest.fixture
def looked(tmp_path: Path) -> Looked:
    found = Looked(
        tmp_path / "cache" / "x.npz", tmp_path / "cache" / "x.png", tmp_path / "own" / "4.npz",
        tmp_path / "own" / "pictures" / "4.png",
    )  # fmt: skip
    save_readings(found.own_readings, READINGS, {"timings": {"train": 2.0}})
    found.own_samples.parent.mkdir()
    found.own_samples.write_bytes(b"a picture")
    return found


def test_what_a_file_showed_is_taken_again_under_the_effort_of_now(looked: Looked) -> None:
    assert not looked.take(1.0, samples=False), "nothing is kept yet"
    looked.keep()
    assert looked.samples.samefile(looked.own_samples)
    shutil.rmtree(looked.own_readings.parent)
    assert looked.take(7.5, samples=True)
    readings, about = load_readings(looked.own_readings)
    assert (readings.effort, readings.epoch, readings.score) == (7.5, READINGS.epoch, READINGS.score)
    assert readings.channels == READINGS.channels
    assert about == {"timings": {"train": 2.0}}
    assert looked.own_samples.read_bytes() == b"a picture"
    kept, _ = load_readings(looked.readings)
    assert kept.effort == READINGS.effort, "of the run that was looked at"


def test_a_picture_that_is_wanted_and_not_kept_is_drawn(looked: Looked) -> None:
    looked.own_samples.unlink()
    looked.keep()
    shutil.rmtree(looked.own_readings.parent)
    assert not looked.take(1.0, samples=True)
    assert not looked.own_readings.exists()
    assert looked.take(1.0, samples=False)
    assert not looked.own_samples.exists()
    looked.readings.write_text("half")
    assert not looked.take(1.0, samples=False)


class SeenProbe:
    """Notes what it is given to read; images and readings follow from the epoch."""

    def __init__(self, base: Base) -> None:
        self.base, self.seen = base, list[tuple[int, float, LoraWeights]]()

    def read(self, lora: LoraWeights, *, epoch: int, effort: float, say: Callable[[str], None]) -> Any:
        self.seen.append((epoch, effort, lora))
        return replace(READINGS, epoch=epoch, effort=effort), np.zeros((1, 8, 8, 3), np.uint8), {"score": 1.0}


@pytest.fixture
def study(tmp_path: Path, run: FinishedRun, tiny_photos: Path, tiny_sd15: Path, tiny_clip: Path) -> Study:
    shutil.copytree(tmp_path, tmp_path / "loras", ignore=lambda _, names: {n for n in names if n == "loras"})
    said = {
        "study": "mine", "base": str(tiny_sd15), "data": str(tiny_photos), "train": {"resolution": 64},
        "score": {"encoder": str(tiny_clip)}, "checkpoints": {"folder": "loras", "held_out": "none"},
    }  # fmt: skip
    (tmp_path / "border.yaml").write_text(yaml.safe_dump(said))
    return load_study(tmp_path / "border.yaml")


def test_a_run_is_looked_at_once_and_a_longer_one_takes_what_was_seen(
    study: Study, base: Base, tmp_path: Path, monkeypatch
) -> None:
    assert isinstance(study.kind, CheckpointFiles)
    folder, probe = StudyFolder(tmp_path / "runs" / "mine"), SeenProbe(base)
    first = load_lora(study.kind.run.files[2], family="sd15")
    looks = RunLooks(study, study.kind, folder, probe, {2: first})
    assert looks.counts == (2, 4, 8)
    spec = TrialSpec(0, folder.trial(0), study.config({}), 0)
    for epoch in looks.counts:
        assert not looks.begin(spec, epoch)
        assert (folder.checkpoint(0, epoch) / LORA_FILE).samefile(study.kind.run.files[epoch])
        readings, _, _ = looks.look(spec, epoch, say=lambda what: None)
        Checkpointed(0, epoch, readings).save(spec.folder)
        folder.samples_file(0, epoch).parent.mkdir(exist_ok=True)
        folder.samples_file(0, epoch).write_bytes(b"%d" % epoch)
        looks.keep(spec, epoch)
        assert looks.begin(spec, epoch), "its readings are in the trial's folder"
    assert [(epoch, effort) for epoch, effort, _ in probe.seen] == [(2, 2.0), (4, 4.0), (8, 8.0)]
    assert probe.seen[0][2] is first
    assert all(lora.modules.keys() == first.modules.keys() for *_, lora in probe.seen)

    other = TrialSpec(3, folder.trial(3), study.config({}), 0)
    for epoch in looks.counts:
        assert looks.begin(other, epoch), "the same file, under the same probe"
        assert Checkpointed.load(other.folder, 3, epoch).readings.epoch == epoch
        assert folder.samples_file(3, epoch).read_bytes() == b"%d" % epoch
    digests = {**study.kind.digests, "4": "my-000004.safetensors another"}
    elsewhere = RunLooks(study, replace(study.kind, digests=digests), folder, probe)
    again = TrialSpec(5, folder.trial(5), study.config({}), 0)
    assert [elsewhere.begin(again, epoch) for epoch in looks.counts] == [True, False, True]


def test_a_file_that_need_not_be_looked_at_is_no_longer_held(study: Study, base: Base, tmp_path: Path) -> None:
    assert isinstance(study.kind, CheckpointFiles)
    folder, probe = StudyFolder(tmp_path / "runs" / "mine"), SeenProbe(base)
    held = load_lora(study.kind.run.files[2], family="sd15")
    looks = RunLooks(study, study.kind, folder, probe, {2: held})
    spec = TrialSpec(0, folder.trial(0), study.config({}), 0)
    save_readings(Checkpointed.file(spec.folder, 2), READINGS)
    assert looks.begin(spec, 2)
    looks.look(spec, 2, say=lambda what: None)
    assert probe.seen[0][2] is not held
