"""What a production run tells before it begins, when it samples, and how it runs out of memory."""

import io
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from tests import tiny
from trainer import checkpoint
from trainer.base_model.load import load_base
from trainer.config.config import TrainConfig, parse_train_config
from trainer.data.dataset import scan_dataset
from trainer.errors import TrainerError
from trainer.lora.kohya_file import load_lora
from trainer.production import production
from trainer.production.production import Forecast, dry_run, train
from trainer.production.production_config import Output

SETTINGS = {"resolution": 32, "batch_size": 4, "rank": 2, "epochs": 4, "learning_rate": 1e-3, "save_every_n_epochs": 2}


def _config(base: Path, photos: Path, **changes: Any) -> TrainConfig:
    return parse_train_config({"base": str(base), "data": str(photos), **SETTINGS, **changes})


def test_a_forecast_adds_up_and_is_told_in_a_persons_units() -> None:
    forecast = Forecast(
        photos=7,
        epochs=10,
        steps_per_epoch=36,
        steps=360,
        seconds_per_step=0.5,
        seconds_to_start=65.0,
        memory_gib=3.256,
        disk_gib=0.0124,
        parameters=1_234_567,
        processes=2,
    )
    assert forecast.seconds == 65 + 180
    config = TrainConfig(base="b", data="d", batch_size=3, gradient_accumulation_steps=4)
    said = dict(line.split(maxsplit=1) for line in forecast.text(config).splitlines())
    assert said["photos"] == "7"
    assert said["LoRA"] == "1.23 M parameters"
    assert said["steps"] == "360 = 10 epochs × 36"
    assert said["speed"] == "0.5 s a step, 48 images/s"  # 3 × 4 × 2 in half a second
    assert said["time"].startswith("4:05 with 1:05 to load and encode")
    assert said["memory"].startswith("3.26 GiB")
    assert said["disk"] == "0.012 GiB of checkpoints"


def test_a_dry_run_foresees_what_the_run_then_leaves(tiny_sd15, tiny_photos, tmp_path, capsys) -> None:
    config, output = _config(tiny_sd15, tiny_photos, save_every_n_epochs=1), Output(name="toy")
    forecast = dry_run(config, output, tmp_path, device="cpu")
    file = train(config, output, tmp_path, device="cpu")
    lora = load_lora(file)
    assert forecast.parameters == sum(module.up.numel() + module.down.numel() for module in lora.modules.values())
    assert (forecast.photos, forecast.epochs, forecast.processes) == (8, 4, 1)
    assert forecast.steps == 4 * forecast.steps_per_epoch
    kept = sum(path.stat().st_size for path in (tmp_path / "checkpoints").rglob("*") if path.is_file())
    assert forecast.disk_gib * 2**30 == pytest.approx(kept, rel=0.02)
    assert 0 < forecast.seconds_per_step < forecast.seconds
    ends = dry_run(config, Output(name="toy", ship_epoch=3), tmp_path, device="cpu")
    assert (ends.epochs, ends.steps) == (3, 3 * forecast.steps_per_epoch)


def test_samples_are_drawn_with_the_checkpoints_the_epoch_to_ship_and_the_last(
    tiny_sd15, tiny_photos, tmp_path
) -> None:
    asked: dict[str, Any] = {"name": "toy", "sample_prompts": ("snow", "sun"), "sample_seed": 5, "sample_steps": 1}
    output = Output(**asked, ship_epoch=3, stop_at_ship_epoch=False)
    train(_config(tiny_sd15, tiny_photos, epochs=5, batch_size=8), output, tmp_path, device="cpu")
    drawn = sorted(path.name for path in (tmp_path / "samples").iterdir() if not path.name.startswith("strip"))
    expected = [(f"{epoch:04d}_00_snow_seed5.png", f"{epoch:04d}_01_sun_seed6.png") for epoch in (0, 2, 3, 4, 5)]
    assert drawn == [name for pair in expected for name in pair]
    assert [path.name for path in checkpoint.checkpoints(tmp_path / "checkpoints")] == ["0002", "0003", "0004", "0005"]


def _told(config: TrainConfig) -> str:
    out = io.StringIO()
    dataset = scan_dataset(config.data, trigger=config.trigger, class_word=config.class_word)
    console = Console(file=out, soft_wrap=True)
    production._tell_what_takes_no_effect(config, load_base(config.base), dataset, console)
    return out.getvalue()


def test_only_what_takes_no_effect_is_told(tiny_sd15, tiny_sd15_v, tiny_sd3, tiny_photos, tmp_path) -> None:
    assert _told(_config(tiny_sd15, tiny_photos, clip_skip=2, min_snr_gamma=5.0)) == ""
    assert _told(_config(tiny_sd15_v, tiny_photos, debiased_estimation_loss=True)) == ""
    assert _told(_config(tiny_sd3, tiny_photos)) == ""
    said = _told(_config(tiny_sd3, tiny_photos, clip_skip=2, min_snr_gamma=5.0)).splitlines()
    assert [line.split(" takes no effect: ")[0] for line in said] == ["note: clip_skip: 2", "note: min_snr_gamma: 5.0"]

    root = tiny.make_photos(tmp_path / "photos", count=2, repeats=1)
    for path in list(root.rglob("*.png")):
        path.with_suffix(".txt").write_text("A Photo Of Sks")
    assert _told(_config(tiny_sd15, root, trigger="sks")) == ""
    (line,) = _told(_config(tiny_sd15, root, trigger="sks", class_word="dog")).splitlines()
    assert line.startswith("note: class_word: 'dog' takes no effect")
    next(root.rglob("*.txt")).write_text("word " * 200)
    (line,) = _told(_config(tiny_sd15, root, trigger="sks")).splitlines()
    assert line.startswith("warning: 1 captions are longer")


def test_a_full_gpu_is_told_with_what_helps() -> None:
    with (
        pytest.raises(TrainerError, match=r"^out of memory: .*batch_size.*\(no room\)$"),
        production._readable_failures(),
    ):
        raise torch.OutOfMemoryError("no room\nand much more")
    with pytest.raises(RuntimeError, match=r"^other$"), production._readable_failures():
        raise RuntimeError("other")
