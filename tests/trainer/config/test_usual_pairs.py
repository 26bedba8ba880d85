"""Every optimizer with every schedule trains the tiny base to a lower loss, or is refused with a reason."""

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch

from tests.trainer.packs import join, new_pack
from trainer.base_model.load import load_base
from trainer.config.config import OptimizerName, SchedulerName, parse_train_config
from trainer.config.rules import check_pair
from trainer.data.dataset import load_pixels, scan_dataset
from trainer.errors import ConfigError
from trainer.inference.evaluate import Evaluation
from trainer.packing.builder import pack_settings, run_settings
from trainer.packing.pack import Pack

EPOCHS = 12
# random weights have no fine structure to spoil: rates are those that move them within a few dozen steps
SETTINGS: dict[str, dict[str, Any]] = {
    "AdamW": {"learning_rate": 2e-3},
    "AdamW8bit": {"learning_rate": 2e-3, "optimizer_args": {"min_8bit_size": 64}},
    "Adafactor": {"learning_rate": 2e-3},
    "DAdaptAdam": {"optimizer_args": {"d0": 1e-4}},
    "Prodigy": {"optimizer_args": {"d0": 1e-4}},
    "Lion": {"learning_rate": 4e-4},
    "Lion8bit": {"learning_rate": 4e-4, "optimizer_args": {"min_8bit_size": 64}},
    "AdamWScheduleFree": {"learning_rate": 4e-3, "warmup_steps": 5},
}
SCHEDULES: dict[str, dict[str, Any]] = {
    "constant_with_warmup": {"warmup_steps": 5},
    "cosine_with_restarts": {"num_cycles": 3},
}
Pair = tuple[str, str, bool]
PAIRS: list[Pair] = list(product(get_args(OptimizerName), get_args(SchedulerName), (False, True)))
POSSIBLE = [pair for pair in PAIRS if check_pair(*pair) is None]
USUAL = [
    pair
    for pair in POSSIBLE
    if pair[1] in ("constant", "adafactor") or pair[0] == "AdamW" or pair == ("Prodigy", "cosine", False)
]


def settings(pair: Pair) -> dict[str, Any]:
    optimizer, scheduler, relative = pair
    own = {} if relative else SETTINGS[optimizer]
    return {
        "base": "org/base",
        "data": "photos",
        "resolution": 32,
        "batch_size": 4,
        "rank": 8,
        "epochs": EPOCHS,
        "optimizer": optimizer,
        "lr_scheduler": scheduler,
        "relative_step": relative,
        **own,
        **SCHEDULES.get(scheduler, {}),
    }


def train_all(base_folder: Path, photos: Path, folder: Path, pairs: Sequence[Pair]) -> None:
    base, dataset = load_base(base_folder), scan_dataset(photos)
    configs = [parse_train_config(settings(pair)) for pair in pairs]
    pack = Pack(base, dataset, pack_settings(configs[0]))
    runs = [pack.join(run_settings(config), run_dir=folder / str(index)) for index, config in enumerate(configs)]
    images = np.stack([load_pixels(photo, (32, 32)) for photo in dataset.photos])
    captions = [photo.caption for photo in dataset.photos]
    evaluation = Evaluation.prepare(base, images, captions, levels=4, draws=2, seed=1)
    before = float(evaluation.losses(None).mean())
    for _ in range(EPOCHS):
        pack.train_epoch()
    after = {pair: float(evaluation.losses(run.lora_weights()).mean()) for pair, run in zip(pairs, runs, strict=True)}
    assert all(run.failed is None and run.finished for run in runs)
    worse = {pair: loss for pair, loss in after.items() if not loss < 0.995 * before}
    assert worse == {}, f"base {before}"


@pytest.mark.slow
def test_usual_pairs_train_to_a_lower_loss_in_one_pack(tiny_sd15: Path, tiny_photos: Path, tmp_path: Path) -> None:
    assert len(USUAL) == 16
    train_all(tiny_sd15, tiny_photos, tmp_path, USUAL)


@pytest.mark.slow
def test_all_possible_pairs_train_to_a_lower_loss(tiny_sd15: Path, tiny_photos: Path, tmp_path: Path) -> None:
    assert len(POSSIBLE) == 45
    train_all(tiny_sd15, tiny_photos, tmp_path, POSSIBLE)


@pytest.mark.parametrize("pair", [pair for pair in PAIRS if check_pair(*pair) is not None])
def test_impossible_pairs_are_refused_with_a_reason(pair: Pair) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_train_config(settings(pair))
    assert (caught.value.key, caught.value.expected, caught.value.why) == check_pair(*pair)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["tiny_sd15", "tiny_sd15_v", "tiny_sdxl", "tiny_sd3"])
def test_every_family_learns_its_photos_with_text_encoders_in_a_pack(
    family: str, request: pytest.FixtureRequest, tiny_photos: Path, tmp_path: Path
) -> None:
    base = load_base(request.getfixturevalue(family))
    dataset = scan_dataset(tiny_photos)
    pack = new_pack(
        base, dataset, batch_size=4, resolution=(32, 32), train_text_encoder=True, gradient_checkpointing=True
    )
    options = ({"min_snr_gamma": 5.0, "noise_offset": 0.05}, {"rslora": True, "targets": "attention"})
    runs = [
        join(pack, run_dir=tmp_path / str(index), rank=4, learning_rate=2e-3, text_encoder_lr=1e-3, epochs=6, **option)
        for index, option in enumerate(options)
    ]
    images = np.stack([load_pixels(photo, (32, 32)) for photo in dataset.photos])
    captions = [photo.caption for photo in dataset.photos]
    evaluation = Evaluation.prepare(base, images, captions, levels=4, draws=2, seed=1)
    before = float(evaluation.losses(None).mean())
    for _ in range(6):
        pack.train_epoch()
    for run in runs:
        assert float(evaluation.losses(run.lora_weights()).mean()) < before
        text = [p for name, p in run.adapters.named_parameters() if name.startswith("text_encoder") and ".up" in name]
        assert any(bool(p.detach().any()) for p in text)


@pytest.mark.slow
def test_half_precision_trains_with_adapters_in_fp32(tiny_sd15: Path, tiny_photos: Path, tmp_path: Path) -> None:
    base = load_base(tiny_sd15, precision="bf16")
    pack = new_pack(base, scan_dataset(tiny_photos), batch_size=4, resolution=(32, 32))
    runs = [join(pack, run_dir=tmp_path / str(i), rank=4, learning_rate=2e-3, epochs=4) for i in range(2)]
    losses = []
    for _ in range(4):
        pack.train_epoch()
        losses.append(runs[0].last_loss)
    assert {p.dtype for p in runs[0].parameters} == {torch.float32}
    assert losses[-1] < losses[0]
    assert runs[1].last_loss == pytest.approx(runs[0].last_loss, rel=0.02)
