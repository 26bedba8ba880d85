"""A run that another trainer has finished, through the command: verdict, files, mistakes, a second sitting."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import save_file

from search.record.finished_run import FinishedRun
from search.record.record import StudyFolder
from search.running.finished_run import check_run
from search.verdict.verdict import Verdict
from tests.search.recovery.real_studies import run_here
from tests.search.study_processes import STUDIES
from tests.trainer.lora.made_loras import diffusers_name, in_diffusers
from trainer.base_model.load import load_base
from trainer.errors import ModelError
from trainer.lora.kohya_file import load_lora, save_lora
from trainer.lora.lora import AdapterSettings, LoraModule, LoraWeights, create_adapters

DEMO = STUDIES / "demo"
HELD_OUT = ["02.png", "16.png", "18.png", "24.png"]


def finished(study: Path, runs: Path) -> str:
    """Runs a study to its end and returns what it said."""
    code, said = run_here(study, runs)
    assert code == 0, said
    return said


def study_file(home: Path, name: str, **checkpoints: Any) -> Path:
    """A border study of the demo's photos, as small as it can be."""
    score = {
        "encoder": str(DEMO / "clip"),
        "probe": {"seeds": 1, "steps": 3, "trained": 1, "heldout": 1, "contexts": ["{trigger} {class} on grass"]},
        "losses": {"levels": 2, "draws": 1},
        "shifted": {"composites": 0},
    }
    path = home / f"{name}.yaml"
    path.write_text(
        yaml.safe_dump(
            {
                "study": name,
                "base": str(DEMO / "base"),
                "data": str(DEMO / "photos"),
                "train": {"resolution": 64},
                "score": score,
                "workers": {"threads": 1},
                "checkpoints": {"held_out": HELD_OUT, **checkpoints},
            }
        )
    )
    return path


@pytest.fixture(scope="module")
def loras() -> dict[int, LoraWeights]:
    """Untrained LoRAs that change the base more and more, with text encoder and convolutions, exact in fp16."""
    base = load_base(str(DEMO / "base"))
    settings = AdapterSettings(rank=4, alpha=2.0, conv_rank=2, conv_alpha=1.0)
    fresh = create_adapters(base, settings, train_text_encoder=True).weights()
    torch.manual_seed(0)
    directions = {site: torch.randn_like(module.up) for site, module in fresh.modules.items()}
    return {
        epoch: LoraWeights(
            {
                site: LoraModule(m.down.half().float(), (directions[site] * (epoch / 256)).half().float(), m.alpha)
                for site, m in fresh.modules.items()
            },
            fresh.family,
        )
        for epoch in (2, 4, 8)
    }


@pytest.fixture(scope="module")
def kohya(tmp_path_factory: pytest.TempPathFactory, loras: dict[int, LoraWeights]) -> StudyFolder:
    home = tmp_path_factory.mktemp("kohya")
    for epoch, lora in loras.items():
        name = "my" if epoch == 8 else f"my-{epoch:06d}"
        save_lora(home / "loras" / f"{name}.safetensors", lora, {"ss_network_dim": "4", "ss_network_alpha": "2.0"})
    finished(study_file(home, "border", folder="loras", last=8), home / "runs")
    return StudyFolder(home / "runs" / "border")


def test_it_ends_with_all_that_a_trial_of_a_study_gets(kohya: StudyFolder) -> None:
    (record,) = kohya.records()
    assert record.state == "complete"
    assert record.finished_run is not None
    assert (record.finished_run.counts, record.finished_run.held_out) == ((2, 4, 8), 4)
    assert [*kohya.trajectory(0).epochs] == [0, 2, 4, 8]
    assert kohya.sampled_epochs(0) == [0, 2, 4, 8]
    verdict = Verdict.load(kohya.verdict_file)
    told = json.dumps(verdict.sentences)
    assert "train.yaml" not in told
    assert "trained epoch" not in told  # nothing was
    assert "not trained on 4 of the photos" in told
    for name in ("sheet.png", "onset.png"):
        assert (kohya.trial(0) / name).is_file(), name
    assert kohya.report.is_file()
    assert not (kohya.best_folder / "train.yaml").exists()
    about = kohya.probe()
    assert (len(about.trained), sorted(about.heldout)) == (26, HELD_OUT)


def test_a_second_start_says_that_it_is_finished_and_a_new_file_is_looked_at_too(
    kohya: StudyFolder, tmp_path: Path
) -> None:
    home = shutil.copytree(kohya.path.parent.parent, tmp_path / "home")
    study, runs = home / "border.yaml", home / "runs"
    kohya = StudyFolder(runs / "border")
    assert "is finished" in finished(study, runs)
    assert not (kohya.trial(0) / "config.yaml").exists(), "nobody knows what it was trained with"
    drawn = {epoch: kohya.samples_file(0, epoch).read_bytes() for epoch in (2, 4, 8)}
    before = {r.epoch: r for r in kohya.trajectory(0).readings}
    extra, four = (study.parent / "loras" / f"my-{epoch:06d}.safetensors" for epoch in (6, 4))
    shutil.copy(four, extra)
    said = finished(study, runs)
    assert "my-000006.safetensors is new" in said
    assert [*kohya.trajectory(0).epochs] == [0, 2, 4, 6, 8]
    assert [record.number for record in kohya.records()] == [0]
    for reading in kohya.trajectory(0).readings:
        if reading.epoch in before:
            assert reading.channels == before[reading.epoch].channels
    for epoch, picture in drawn.items():
        assert kohya.samples_file(0, epoch).read_bytes() == picture, "drawn once"
    assert "is finished" in finished(study, runs)
    shutil.copy(extra.with_name("my.safetensors"), four)  # another file in the place of one that was looked at
    code, said = run_here(study, runs)
    assert code == 2, said
    assert "checkpoints.files.4" in said


@pytest.mark.slow
@pytest.mark.parametrize("style", ["diffusers", "peft", "steps", "onetrainer"])
def test_every_naming_and_key_style_gives_the_same_numbers(
    kohya: StudyFolder, loras: dict[int, LoraWeights], tmp_path: Path, style: str
) -> None:
    home, said = tmp_path / "loras", {}
    for epoch, lora in loras.items():
        folder = home
        if style in ("diffusers", "peft"):
            prefix = "base_model.model." if style == "peft" else ""
            tensors = in_diffusers(
                lora, lambda where, p=prefix: p + diffusers_name(where), ".lora_A.weight", ".lora_B.weight"
            )
            folder = home / (f"epoch-{epoch}" if style == "peft" else f"checkpoint-{epoch * 26}")
            folder.mkdir(parents=True)
            name = "adapter_model" if style == "peft" else "pytorch_lora_weights"
            save_file(tensors, folder / f"{name}.safetensors")
        else:
            names = {"steps": f"my_{epoch * 26:09d}", "onetrainer": f"2026-01-05-save-{epoch * 26}-{epoch}-0"}
            save_lora(folder / f"{names[style]}.safetensors", lora)
    if style in ("diffusers", "steps"):
        said = {"steps_per_epoch": 26}
    finished(study_file(tmp_path, "border", folder="loras", **said), tmp_path / "runs")
    other = StudyFolder(tmp_path / "runs" / "border")
    for name in ("trajectory.csv", "items.npz"):
        assert (other.trial(0) / name).read_bytes() == (kohya.trial(0) / name).read_bytes(), name
    assert Verdict.load(other.verdict_file).decision == Verdict.load(kohya.verdict_file).decision


@pytest.mark.slow
def test_the_files_of_a_trial_get_the_verdict_of_the_trial(tmp_path: Path) -> None:
    """fp16 files of a run that was trained in fp32: the same decision, readings as near as the rounding."""
    values = yaml.safe_load(study_file(tmp_path, "trained", folder="loras").read_text())
    del values["checkpoints"]
    values["train"] |= {"epochs": 8, "rank": 8, "learning_rate": 1e-3, "optimizer": "AdamW", "save_every_n_epochs": 2}
    values |= {"budget": {"trials": 1}, "stop": {"onset": False}, "keep": {"checkpoints": "all"}}
    (tmp_path / "trained.yaml").write_text(yaml.safe_dump(values))
    finished(tmp_path / "trained.yaml", tmp_path / "runs")
    trained = StudyFolder(tmp_path / "runs" / "trained")
    held = [*trained.probe().heldout]
    border = study_file(tmp_path, "border", folder="runs/trained/trials/0000/checkpoints", held_out=held)
    finished(border, tmp_path / "runs")
    looked = StudyFolder(tmp_path / "runs" / "border")
    one, other = (Verdict.load(folder.verdict_file).decision for folder in (trained, looked))
    assert (one.outcome, one.epoch, one.learned) == (other.outcome, other.epoch, other.learned)
    assert other.score == pytest.approx(one.score, abs=0.02)
    assert one.context.status == other.context.status


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        ("lora_te2_text_model_encoder_layers_0_mlp_fc1", "expected a base of the family of my-000002.safetensors"),
        ("lora_transformer_transformer_blocks_0_attn_to_q", "(sd3), got"),
        ("lora_unet_double_blocks_0_img_attn_qkv", "checkpoints.folder: "),
        ("lora_unet_double_blocks_0_img_attn_qkv", "my-000002.safetensors: expected a LoRA for SD 1.x, SDXL or SD3"),
    ],
)
def test_a_lora_for_another_base_is_told_before_a_worker_starts(tmp_path: Path, layer: str, said: str) -> None:
    for epoch in (2, 4):
        halves = {f"{layer}.lora_{half}.weight": torch.full((2, 2), epoch / 4) for half in ("down", "up")}
        (tmp_path / "loras").mkdir(exist_ok=True)
        save_file(halves, tmp_path / "loras" / f"my-{epoch:06d}.safetensors")
    code, told = run_here(study_file(tmp_path, "border", folder="loras"), tmp_path / "runs")
    assert code == 2
    assert said in told
    assert "Traceback" not in told


def test_damaged_and_foreign_files_are_named_before_anything_is_drawn(
    tmp_path: Path, loras: dict[int, LoraWeights]
) -> None:
    base = load_base(str(DEMO / "base"))
    for epoch, lora in loras.items():
        save_lora(tmp_path / f"my-{epoch:06d}.safetensors", lora)
    files = {epoch: str(tmp_path / f"my-{epoch:06d}.safetensors") for epoch in loras}
    kept = check_run(FinishedRun(files), base)
    assert set(kept) == set(files), "small ones are not read again for the look"
    for epoch, lora in kept.items():
        site, module = next(iter(lora.modules.items()))
        assert torch.equal(module.up, load_lora(files[epoch]).modules[site].up)
    bad = load_lora(files[4])
    site = next(iter(bad.modules))
    bad.modules[site].up[0] = float("nan")
    save_lora(files[4], bad)
    with pytest.raises(ModelError, match=r"my-000004\.safetensors: expected finite weights"):
        check_run(FinishedRun(files), base)
    module = LoraModule(torch.zeros(4, 7), torch.zeros(5, 4), 1.0)
    save_lora(files[4], LoraWeights({site: module}, bad.family))
    with pytest.raises(ModelError, match=r"my-000004\.safetensors: the LoRA's module .* is for 7 → 5 features"):
        check_run(FinishedRun(files), base)
