"""From a TrainConfig to the settings of a pack and of its runs: below this, no config is read. Imports no torch."""

from __future__ import annotations

from trainer.config.config import TrainConfig
from trainer.lora.lora import AdapterSettings
from trainer.optimization.optimizers import OptimizerSettings
from trainer.optimization.schedules import ScheduleSettings
from trainer.packing.settings import FeedSettings, LossSettings, OutputSettings, PackSettings, RunSettings


def pack_settings(config: TrainConfig) -> PackSettings:
    """What `config` asks of a `Pack`."""
    return PackSettings(
        feed=FeedSettings(
            batch_size=config.batch_size,
            resolution=config.size,
            enable_bucket=config.enable_bucket,
            bucket_step=config.bucket_step,
            min_bucket_resolution=config.min_bucket_resolution,
            max_bucket_resolution=config.max_bucket_resolution,
            flip=config.flip,
            shuffle_caption=config.shuffle_caption,
            keep_tokens=config.keep_tokens,
            caption_dropout=config.caption_dropout,
            clip_skip=config.clip_skip,
            train_text_encoder=config.train_text_encoder,
            seed=config.seed,
        ),
        gradient_accumulation_steps=config.gradient_accumulation_steps,
        steps_per_epoch=config.steps_per_epoch,
        gradient_checkpointing=config.gradient_checkpointing,
    )


def run_settings(config: TrainConfig, *, output_name: str | None = None) -> RunSettings:
    """What `config` asks of a run: of `Pack.join`."""
    return RunSettings(
        adapter=AdapterSettings(
            rank=config.rank,
            alpha=config.effective_alpha,
            targets=config.targets,
            conv_rank=config.conv_rank,
            conv_alpha=config.effective_conv_alpha,
            dora=config.dora,
            rslora=config.rslora,
        ),
        optimizer=OptimizerSettings(
            optimizer=config.optimizer,
            learning_rate=config.effective_learning_rate,
            text_encoder_lr=config.effective_text_encoder_lr,
            weight_decay=config.effective_weight_decay,
            relative_step=config.relative_step,
            d_coef=config.d_coef,
            optimizer_args=dict(config.optimizer_args),
            max_grad_norm=config.effective_max_grad_norm,
        ),
        schedule=ScheduleSettings(
            lr_scheduler=config.lr_scheduler,
            num_cycles=config.effective_num_cycles,
            warmup_steps=config.warmup_steps,
            epochs=config.epochs,
        ),
        loss=LossSettings(
            min_snr_gamma=config.min_snr_gamma,
            debiased_estimation_loss=config.debiased_estimation_loss,
            noise_offset=config.noise_offset,
            noise_offset_random_strength=config.noise_offset_random_strength,
            ip_noise_gamma=config.ip_noise_gamma,
            prior_loss_weight=config.prior_loss_weight,
        ),
        output=OutputSettings(save_every_n_epochs=config.save_every_n_epochs, output_name=output_name),
    )


def shares_a_pack(config: TrainConfig) -> bool:
    """Whether runs of this config can be trained beside others (DoRA and convolutions cannot)."""
    return not config.dora and config.conv_rank is None
