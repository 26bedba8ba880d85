"""What only a GPU can show: the pack, the optimizers, quantised bases and offloading on CUDA. Run with -m cuda."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from tests.trainer import packs
from tests.trainer.packing.plain_peft import (
    EIGHT_BIT,
    HORIZON,
    SPECS,
    after,
    alone_under_peft,
    assert_close,
    base_in,
    new_pack,
    parameters_of,
    train,
)
from tests.trainer.packs import create_adapters, join
from trainer.base_model.load import load_base
from trainer.data.dataset import Dataset, scan_dataset
from trainer.families.family import Base
from trainer.inference.evaluate import losses
from trainer.inference.sample import sample
from trainer.lora.kohya_file import load_lora
from trainer.lora.lora import LoraWeights

pytestmark = pytest.mark.cuda


@pytest.fixture(autouse=True)
def _exact_arithmetic() -> None:
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False


@pytest.fixture(scope="module")
def dataset(tiny_photos: Path) -> Dataset:
    return scan_dataset(tiny_photos)


def probe_loss(base: Base, lora: LoraWeights | None, photos: Path) -> float:
    from PIL import Image

    files = sorted(photos.rglob("*.png"))
    images = np.stack([np.asarray(Image.open(file).convert("RGB")) for file in files])
    return float(losses(base, lora, images, ["sks toy"] * len(images), seed=0).mean())


@pytest.mark.parametrize("width", [1, 2, 5])
def test_packed_equals_alone_under_plain_peft_to_1e_10_in_fp64(
    tiny_sd15: Path, dataset: Dataset, tmp_path: Path, width: int
) -> None:
    pack = new_pack(base_in(tiny_sd15, torch.float64, "cuda"), dataset)
    runs = [
        join(pack, run_dir=tmp_path / str(i), epochs=HORIZON, **spec.keywords) for i, spec in enumerate(SPECS[:width])
    ]
    train(pack, 10)
    for run, spec in zip(runs, SPECS[:width], strict=True):
        assert_close(run, after(10, alone_under_peft(tiny_sd15, torch.float64, dataset, spec, "cuda")), 1e-10)


def test_packed_equals_alone_under_plain_peft_to_1e_5_in_fp32_with_eight_bits(
    tiny_sd15: Path, dataset: Dataset, tmp_path: Path
) -> None:
    pack = new_pack(base_in(tiny_sd15, torch.float32, "cuda"), dataset)
    specs = [SPECS[0], EIGHT_BIT, SPECS[1]]
    runs = [join(pack, run_dir=tmp_path / str(i), epochs=HORIZON, **spec.keywords) for i, spec in enumerate(specs)]
    train(pack, 10)
    for run, spec in zip(runs, specs, strict=True):
        alone = after(10, alone_under_peft(tiny_sd15, torch.float32, dataset, spec, "cuda"))
        assert_close(run, alone, 1e-5, flips=1e-3 if spec is EIGHT_BIT else 0.0)


def test_a_nan_in_one_run_does_not_reach_the_others(tiny_sd15: Path, dataset: Dataset, tmp_path: Path) -> None:
    ends = []
    for poisoned in (False, True):
        pack = new_pack(base_in(tiny_sd15, torch.float32, "cuda"), dataset)
        runs = [join(pack, run_dir=tmp_path / f"{poisoned}{i}", epochs=9, rank=4, learning_rate=1e-3) for i in range(3)]
        if poisoned:
            next(iter(runs[1].parameters)).data[0, 0] = float("nan")
        pack.train_epoch()
        ends.append([parameters_of(run) for run in runs])
        assert (runs[1].failed is not None) == poisoned
    for place in (0, 2):
        for name, value in ends[0][place].items():
            torch.testing.assert_close(value, ends[1][place][name], atol=3e-5, rtol=0)  # CUDA adds in any order


@pytest.mark.parametrize(
    "keywords",
    [
        {"optimizer": "AdamW8bit", "learning_rate": 3e-3},
        {"optimizer": "Lion8bit", "learning_rate": 1e-3},
        {"optimizer": "Adafactor", "learning_rate": 3e-3},
        {"optimizer": "AdamWScheduleFree", "learning_rate": 1e-2},
    ],
    ids=lambda keywords: keywords["optimizer"],
)
@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_optimizers_lower_the_loss(
    tiny_sd15: Path, dataset: Dataset, tiny_photos: Path, tmp_path: Path, keywords: dict[str, Any], precision: str
) -> None:
    base = load_base(tiny_sd15, device="cuda", precision=precision)
    pack = packs.new_pack(base, dataset, batch_size=4, resolution=(64, 64))
    run = join(pack, run_dir=tmp_path, epochs=15, rank=8, **keywords)
    for _ in range(15):
        pack.train_epoch()
    assert run.failed is None
    assert probe_loss(base, run.lora_weights(), tiny_photos) < probe_loss(base, None, tiny_photos)


@pytest.mark.parametrize("quantize", ["nf4", "int8"])
def test_a_quantised_base_trains_and_draws(
    tiny_sd15: Path, dataset: Dataset, tiny_photos: Path, tmp_path: Path, quantize: str
) -> None:
    base = load_base(tiny_sd15, device="cuda", precision="bf16", quantize=quantize)
    pack = packs.new_pack(base, dataset, batch_size=4, resolution=(64, 64), gradient_checkpointing=True)
    runs = [join(pack, run_dir=tmp_path / str(i), epochs=15, rank=8, learning_rate=3e-3) for i in range(2)]
    for _ in range(15):
        pack.train_epoch()
    assert [run.failed for run in runs] == [None, None]
    lora = runs[0].lora_weights()
    assert probe_loss(base, lora, tiny_photos) < probe_loss(base, None, tiny_photos)
    images = sample(base, lora, ["sks toy", "toy"], [1, 2], size=(64, 64), steps=4)
    assert images.shape == (2, 64, 64, 3)


def test_images_losses_and_merged_weights_agree_with_the_cpu(tiny_sd15: Path, tiny_photos: Path) -> None:
    found = {}
    for device in ("cpu", "cuda"):
        base = load_base(tiny_sd15, device=device)
        adapters = create_adapters(base, rank=4, alpha=4.0, seed=0)
        generator = torch.Generator().manual_seed(1)
        for parameter in adapters.parameters():
            noise = torch.randn(parameter.shape, generator=generator) * 0.05
            parameter.data.copy_(noise.to(parameter.device))
        lora = adapters.weights()
        images = sample(base, lora, ["sks toy", "toy"], [1, 2], size=(64, 64), steps=6)
        found[device] = images.astype(int), probe_loss(base, lora, tiny_photos)
    assert np.abs(found["cpu"][0] - found["cuda"][0]).mean() < 1
    assert found["cuda"][1] == pytest.approx(found["cpu"][1], rel=1e-4)


def test_vae_and_text_encoders_leave_the_gpu_once_everything_is_cached(
    tiny_sd15: Path, dataset: Dataset, tmp_path: Path
) -> None:
    base = load_base(tiny_sd15, device="cuda")
    pack = packs.new_pack(base, dataset, batch_size=4, resolution=(64, 64))
    join(pack, run_dir=tmp_path, epochs=2, rank=4, learning_rate=1e-3)
    pack.train_epoch()
    base.park()
    assert {p.device.type for p in base.vae.parameters()} == {"cpu"}
    assert {p.device.type for encoder in base.text_encoders for p in encoder.parameters()} == {"cpu"}
    with base.at_hand(vae=True):
        assert {p.device.type for p in base.vae.parameters()} == {"cuda"}
    assert {p.device.type for p in base.vae.parameters()} == {"cpu"}
    pack.train_epoch()
    assert sample(base, None, ["toy"], [1], size=(64, 64), steps=2).shape == (1, 64, 64, 3)


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_a_training_file_twice_gives_the_same_numbers(
    tiny_sd15: Path, tiny_photos: Path, tmp_path: Path, precision: str
) -> None:
    values = {"base": str(tiny_sd15), "data": str(tiny_photos), "resolution": 64, "batch_size": 4, "epochs": 4}
    path = tmp_path / "train.yaml"
    path.write_text(yaml.safe_dump({**values, "learning_rate": 1e-2, "precision": precision}))
    root = str(Path(__file__).parents[2])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])}
    command = [sys.executable, "-m", "trainer.run", str(path), "--device", "cuda", "--out"]
    started = [
        subprocess.Popen([*command, str(tmp_path / name)], env=environment, text=True, stderr=subprocess.PIPE)
        for name in ("one", "other")
    ]
    for process in started:
        assert process.communicate()[1] == ""
        assert process.returncode == 0
    one, other = (load_lora(tmp_path / name / "train.safetensors") for name in ("one", "other"))
    for site, module in one.modules.items():
        assert torch.equal(module.up, other.modules[site].up)
        assert torch.equal(module.down, other.modules[site].down)


@pytest.mark.parametrize("before", [None, ":16:8"])
def test_the_variable_that_slows_each_product_down_is_taken_back(before: str | None) -> None:
    code = """
import os, torch
from trainer.devices import repeat_exactly
repeat_exactly(torch.device("cuda"))
rows = torch.ones(64, 64, device="cuda", dtype=torch.bfloat16, requires_grad=True)
torch.nn.functional.linear(rows, rows, rows[0]).sum().backward()
assert torch.are_deterministic_algorithms_enabled()
print(os.environ.get("CUBLAS_WORKSPACE_CONFIG"))
"""
    root = str(Path(__file__).parents[2])
    environment = {k: v for k, v in os.environ.items() if k != "CUBLAS_WORKSPACE_CONFIG"}
    environment["PYTHONPATH"] = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    environment |= {} if before is None else {"CUBLAS_WORKSPACE_CONFIG": before}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.stdout == f"{before}\n", done.stderr
