"""What a base predicts is told from its files as the trainer takes it, without loading it."""

import json
import shutil
import subprocess
import sys

import pytest
import torch
from diffusers import DDPMScheduler
from safetensors.torch import save_file

from tests.trainer.families.changed_bases import configs_of
from tests.trainer.original_format import to_original_format
from trainer.base_model.load import describe_base, load_base
from trainer.errors import ModelError
from trainer.families import layout
from trainer.families.prediction import BaseTraits, noise_settings


@pytest.mark.parametrize(
    ("name", "traits"),
    [
        ("tiny_sd15", BaseTraits("sd15", "epsilon", False, False, False)),
        ("tiny_sd15_v", BaseTraits("sd15", "v_prediction", True, False, False)),
        ("tiny_sdxl", BaseTraits("sdxl", "epsilon", False, False, False)),
        ("tiny_sd3", BaseTraits("sd3", "flow", False, False, False)),
    ],
)
def test_folders_say_what_they_predict(name: str, traits: BaseTraits, request) -> None:
    assert describe_base(request.getfixturevalue(name)) == traits


@pytest.mark.parametrize("name", ["tiny_sd15", "tiny_sd15_v"])
def test_noise_is_trained_as_diffusers_adds_it(name: str, request) -> None:
    folder = request.getfixturevalue(name)
    ours = DDPMScheduler(**noise_settings(folder, "sd15"))
    theirs = DDPMScheduler.from_pretrained(folder, subfolder="scheduler")
    assert torch.equal(ours.alphas_cumprod, theirs.alphas_cumprod)
    assert ours.config.prediction_type == theirs.config.prediction_type


def test_torch_is_not_needed(tiny_sd15_v) -> None:
    code = (
        "import sys; from trainer.base_model.load import describe_base\n"
        "from trainer.base_model.fingerprint import fingerprint_base\n"
        f"assert describe_base({str(tiny_sd15_v)!r}).zero_terminal_snr; fingerprint_base({str(tiny_sd15_v)!r})\n"
        "assert not {'torch', 'diffusers', 'transformers', 'pandas', 'scipy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("name", "marks", "metadata", "prediction", "zero"),
    [
        ("sd15", (), {}, "epsilon", False),
        ("sd15", ("v_pred",), {}, "v_prediction", False),
        ("sdxl", ("v_pred", "ztsnr"), {}, "v_prediction", True),
        ("sd15", (), {"modelspec.prediction_type": "v"}, "v_prediction", False),
        ("sd15", (), {"modelspec.prediction_type": "epsilon"}, "epsilon", False),
    ],
)
def test_single_files_are_told_by_their_marks_as_they_are_trained(
    name, marks, metadata, prediction, zero, request, tmp_path, monkeypatch
) -> None:
    folder = request.getfixturevalue(f"tiny_{name}")
    tensors = to_original_format(load_base(folder)) | {mark: torch.zeros(0) for mark in marks}
    file = tmp_path / "model.safetensors"
    save_file(tensors, file, metadata)
    monkeypatch.setattr(layout, "CONFIGS", configs_of(folder, name, tmp_path))
    assert describe_base(file) == BaseTraits(name, prediction, zero, False, True)
    base = load_base(file)
    assert base.noise_scheduler.config.prediction_type == prediction
    assert (base.noise_scheduler.alphas_cumprod[-1] < 1e-6) == zero


def test_a_hub_id_in_the_cache_is_told_too(tiny_sd15_v, tmp_path, monkeypatch) -> None:
    import huggingface_hub.constants

    repository = tmp_path / "models--onset--tiny"
    shutil.copytree(tiny_sd15_v, repository / "snapshots" / ("0" * 40))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    assert describe_base("onset/tiny") == describe_base(tiny_sd15_v)


def test_stable_diffusion_2_is_told_by_its_width(tiny_sd15, tmp_path) -> None:
    folder = shutil.copytree(tiny_sd15, tmp_path / "two")
    config = json.loads((folder / "unet" / "config.json").read_text()) | {"cross_attention_dim": 1024}
    (folder / "unet" / "config.json").write_text(json.dumps(config))
    assert describe_base(folder).v2
    save_file({"cond_stage_model.model.ln_final.weight": torch.zeros(1)}, tmp_path / "two.safetensors")
    with pytest.raises(ModelError, match=r"Stable Diffusion 2.x does not say what it predicts"):
        describe_base(tmp_path / "two.safetensors")


@pytest.mark.parametrize(
    ("name", "changes", "reason"),
    [
        ("tiny_sdxl", {"_class_name": "EDMDPMSolverMultistepScheduler"}, "trained by EDM"),
        ("tiny_sdxl", {"prediction_type": "flow_prediction"}, "flow_prediction' is not trained in this family"),
        ("tiny_sd3", {"_class_name": "DDIMScheduler"}, "no flow matching"),
    ],
)
def test_noise_that_is_not_trained_here_is_refused(name, changes, reason, request, tmp_path) -> None:
    folder = shutil.copytree(request.getfixturevalue(name), tmp_path / "base")
    file = folder / "scheduler" / "scheduler_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    for refusing in (describe_base, load_base):
        with pytest.raises(ModelError, match=reason):
            refusing(folder)
