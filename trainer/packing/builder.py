"""From a TrainConfig to plain keywords: below this, no config is read. Imports no torch."""

from __future__ import annotations

from typing import Any

from trainer.config.config import TrainConfig


def build_pack_keywords(config: TrainConfig) -> dict[str, Any]:
    """Keywords of `Pack`. Two configs whose bases, data and pack keywords are equal may share a pack."""
    return {
        "batch_size": config.batch_size,
        "gradient_accumulation_steps": config.gradient_accumulation_steps,
        "resolution": config.size,
        "enable_bucket": config.enable_bucket,
        "bucket_step": config.bucket_step,
        "min_bucket_resolution": config.min_bucket_resolution,
        "max_bucket_resolution": config.max_bucket_resolution,
        "flip": config.flip,
        "shuffle_caption": config.shuffle_caption,
        "keep_tokens": config.keep_tokens,
        "caption_dropout": config.caption_dropout,
        "clip_skip": config.clip_skip,
        "train_text_encoder": config.train_text_encoder,
        "gradient_checkpointing": config.gradient_checkpointing,
        "seed": config.seed,
    }


def build_run_keywords(config: TrainConfig) -> dict[str, Any]:
    """Keywords of `Pack.join`, but for `run_dir`."""
    return {
        "rank": config.rank,
        "alpha": config.effective_alpha,
        "targets": config.targets,
        "conv_rank": config.conv_rank,
        "conv_alpha": config.conv_alpha,
        "dora": config.dora,
        "rslora": config.rslora,
        "optimizer": config.optimizer,
        "learning_rate": config.effective_learning_rate,
        "text_encoder_lr": config.effective_text_encoder_lr,
        "weight_decay": config.effective_weight_decay,
        "relative_step": config.relative_step,
        "d_coef": config.d_coef,
        "optimizer_args": dict(config.optimizer_args),
        "max_grad_norm": config.effective_max_grad_norm,
        "lr_scheduler": config.lr_scheduler,
        "num_cycles": config.effective_num_cycles,
        "warmup_steps": config.warmup_steps,
        "epochs": config.epochs,
        "save_every_n_epochs": config.save_every_n_epochs,
        "min_snr_gamma": config.min_snr_gamma,
        "noise_offset": config.noise_offset,
        "prior_loss_weight": config.prior_loss_weight,
    }


def shares_a_pack(config: TrainConfig) -> bool:
    """Whether runs of this config can be trained beside others (DoRA and convolutions cannot)."""
    return not config.dora and config.conv_rank is None
