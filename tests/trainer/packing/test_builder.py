"""Every setting of a config arrives in the dataclass of the code that acts on it."""

from dataclasses import fields, replace
from typing import Any

import pytest

from trainer.config.config import TrainConfig
from trainer.lora.lora import AdapterSettings
from trainer.optimization.optimizers import OPTIMIZERS
from trainer.packing.builder import pack_settings, run_settings, shares_a_pack
from trainer.packing.settings import PackSettings, RunSettings

CONFIGS = [
    TrainConfig(
        base="b", data="d", resolution=(384, 512), batch_size=3, gradient_accumulation_steps=2, enable_bucket=True,
        bucket_step=32, min_bucket_resolution=320, max_bucket_resolution=768, flip=True, shuffle_caption=True,
        keep_tokens=2, caption_dropout=0.1, clip_skip=2, rank=8, alpha=2.0, targets="attention", conv_rank=4,
        conv_alpha=1.0, dora=True, rslora=True, train_text_encoder=True, optimizer="Prodigy", learning_rate=0.5,
        text_encoder_lr=0.5, d_coef=2.0, weight_decay=0.2, optimizer_args={"d0": 1e-5}, max_grad_norm=0.3,
        lr_scheduler="cosine_with_restarts", num_cycles=3, warmup_steps=4, epochs=7, save_every_n_epochs=2, seed=11,
        min_snr_gamma=5.0, debiased_estimation_loss=True, noise_offset=0.05, noise_offset_random_strength=True,
        ip_noise_gamma=0.1, prior_loss_weight=0.5, gradient_checkpointing=True,
        steps_per_epoch=5,
    ),
    TrainConfig(base="b", data="d", optimizer="Adafactor", relative_step=True, lr_scheduler="adafactor"),
]  # fmt: skip


def test_every_setting_arrives_where_it_is_acted_on() -> None:
    arrived = set()
    for config in CONFIGS:
        pack, run = pack_settings(config), run_settings(config)
        in_force: dict[str, Any] = {
            "alpha": config.effective_alpha,
            "conv_alpha": config.effective_conv_alpha,
            "resolution": config.size,
            "learning_rate": config.effective_learning_rate,
            "text_encoder_lr": config.effective_text_encoder_lr,
            "weight_decay": config.effective_weight_decay,
            "max_grad_norm": config.effective_max_grad_norm,
            "num_cycles": config.effective_num_cycles,
        }
        for part in (pack, pack.feed, run.adapter, run.optimizer, run.schedule, run.loss, run.output):
            for name in {field.name for field in fields(part)} & TrainConfig.model_fields.keys():
                assert getattr(part, name) == in_force.get(name, getattr(config, name)), name
                if getattr(config, name) != TrainConfig.model_fields[name].get_default(call_default_factory=True):
                    arrived.add(name)
    elsewhere = {"base", "family", "data", "reg_data", "trigger", "class_word", "precision", "quantize"}
    derived = {"alpha_ratio", "learning_rate_scale", "cycle_epochs"}
    assert arrived == TrainConfig.model_fields.keys() - elsewhere - derived


def test_settings_left_out_are_those_of_a_config_that_leaves_them_out() -> None:
    config = TrainConfig(base="b", data="d")
    assert pack_settings(config) == PackSettings()
    run = run_settings(config)
    usual = replace(run.optimizer, weight_decay=None)  # that of the optimizer, whichever it is
    assert replace(run, optimizer=usual) == RunSettings(AdapterSettings(config.rank, config.effective_alpha))
    assert run.optimizer.weight_decay == OPTIMIZERS["AdamW"].weight_decay


@pytest.mark.parametrize(
    ("settings", "shares"), [({}, True), ({"rslora": True}, True), ({"dora": True}, False), ({"conv_rank": 2}, False)]
)
def test_who_can_be_trained_beside_others(settings: dict[str, Any], shares: bool) -> None:
    assert shares_a_pack(TrainConfig(base="b", data="d", **settings)) is shares


def test_runs_that_differ_in_their_own_settings_only_may_share_a_pack() -> None:
    first, same, other = (pack_settings(config) for config in (CONFIGS[0], CONFIGS[0], CONFIGS[1]))
    assert {first: "pack"}[same] == "pack"
    assert other != first
    assert pack_settings(CONFIGS[0].model_copy(update={"rank": 2, "ip_noise_gamma": 0.0, "epochs": 3})) == first
