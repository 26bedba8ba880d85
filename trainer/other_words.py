"""What kohya's scripts, the kohya_ss GUI and diffusers' scripts call our settings."""

from __future__ import annotations

import re
from collections.abc import Collection

WORDS = {
    "pretrained_model_name_or_path": "base", "model": "base", "train_data_dir": "data", "instance_data_dir": "data",
    "reg_data_dir": "reg_data", "class_data_dir": "reg_data", "max_resolution": "resolution",
    "train_batch_size": "batch_size", "max_train_epochs": "epochs", "num_train_epochs": "epochs", "epoch": "epochs",
    "network_dim": "rank", "dim": "rank", "lora_rank": "rank", "network_alpha": "alpha", "lora_alpha": "alpha",
    "conv_dim": "conv_rank", "optimizer_type": "optimizer", "unet_lr": "learning_rate", "lr": "learning_rate",
    "lr_scheduler_num_cycles": "num_cycles", "lr_num_cycles": "num_cycles", "lr_warmup_steps": "warmup_steps",
    "mixed_precision": "precision", "flip_aug": "flip", "random_flip": "flip",
    "caption_dropout_rate": "caption_dropout", "bucket_reso_steps": "bucket_step",
    "min_bucket_reso": "min_bucket_resolution", "max_bucket_reso": "max_bucket_resolution",
    "snr_gamma": "min_snr_gamma", "use_dora": "dora", "use_rslora": "rslora", "class_tokens": "class_word",
    "instance_prompt": "trigger", "save_every_n_steps": "steps_per_epoch",
    "checkpointing_steps": "steps_per_epoch", "max_train_steps": "epochs", "num_repeats": "data",
    "network_train_unet_only": "train_text_encoder", "output_name": "output.name",
    "sample_prompts": "output.sample_prompts", "sample_sampler": "output.sample_scheduler",
    "sample_every_n_steps": "output.sample_every_n_epochs", "te_lr": "text_encoder_lr", "text_lr": "text_encoder_lr",
    "text_encoder_learning_rate": "text_encoder_lr", "lr_warmup": "warmup_steps", "warmup_ratio": "warmup_steps",
    "use_8bit_adam": "optimizer", "train_unet_only": "train_text_encoder", "repeats": "data", "max_steps": "epochs",
    "steps": "epochs", "class_prompt": "class_word", "network_args": "conv_rank", "fp8_base": "quantize",
}  # fmt: skip
"""Their name to ours."""

ADDED = {
    "save_every_n_steps": "an epoch then has so many steps instead of a pass over the photos, and epochs and "
    "save_every_n_epochs count these: for 10 passes of 480 steps, steps_per_epoch: 120 and epochs: 40",
    "max_train_steps": "an epoch is each photo once for each of its repeats, or steps_per_epoch steps",
    "num_repeats": "the number before the folder's name: 20_sks dog",
    "network_train_unet_only": "false, its default, is the same",
    "unet_lr": "text_encoder_lr is that of the text encoders",
    "lr_warmup": "optimizer steps, not a share of the run",
    "use_8bit_adam": "AdamW8bit",
    "network_args": "conv_dim, and conv_alpha for conv_alpha; or dora",
    "fp8_base": "nf4 or int8",
}
"""What has to be said beside our name."""
ADDED |= {
    "checkpointing_steps": ADDED["save_every_n_steps"],
    "train_unet_only": ADDED["network_train_unet_only"],
    "repeats": ADDED["num_repeats"],
    "warmup_ratio": ADDED["lr_warmup"],
    "max_steps": ADDED["max_train_steps"],
    "steps": ADDED["max_train_steps"],
}

NOT_HERE = {
    "loss_type": "l2", "scale_weight_norms": 0, "network_dropout": 0, "rank_dropout": 0, "module_dropout": 0,
    "multires_noise_iterations": 0, "adaptive_noise_scale": 0, "token_warmup_step": 0, "color_aug": False,
    "random_crop": False, "caption_tag_dropout_rate": 0, "caption_dropout_every_n_epochs": 0, "max_token_length": 75,
    "weighted_captions": False, "block_lr": "", "down_lr_weight": "", "mid_lr_weight": "", "up_lr_weight": "",
    "block_dims": "", "block_alphas": "", "min_timestep": 0, "max_timestep": 1000, "vae": "", "network_weights": "",
    "lora_network_weights": "", "dim_from_weights": False, "resume": "", "v_pred_like_loss": 0, "full_fp16": False,
    "full_bf16": False, "fp8_base": False, "masked_loss": False, "alpha_mask": False, "lr_scheduler_type": "",
    "lr_scheduler_args": "", "lr_scheduler_power": 1, "scale_v_pred_loss_like_noise_pred": False,
    "keep_tokens_separator": "", "secondary_separator": "", "caption_prefix": "", "caption_suffix": "",
    "sample_prompts": "", "train_norm": False, "bucket_no_upscale": False,
}  # fmt: skip
"""What changes a training, and the value with which it does not."""
HARMLESS = frozenset((
    "output_dir", "logging_dir", "log_with", "log_prefix", "log_tracker_name", "save_model_as", "save_precision",
    "cache_latents", "cache_latents_to_disk", "cache_text_encoder_outputs", "sdpa", "xformers", "mem_eff_attn",
    "max_data_loader_n_workers", "persistent_data_loader_workers", "no_half_vae", "caption_extension", "vae_batch_size",
    "v2", "v_parameterization", "zero_terminal_snr", "save_last_n_epochs", "save_state", "lowram", "highvram",
    "training_comment", "metadata_title", "metadata_author", "sample_every_n_epochs", "sample_every_n_steps",
    "sample_sampler", "console_log_level", "huggingface_repo_id", "max_train_steps", "no_metadata", "num_cpu_threads",
    "network_module", "allow_tf32", "enable_xformers_memory_efficient_attention", "dreambooth", "sdxl",
))  # fmt: skip
"""What needs no setting here, or changes nothing of what is learned."""

OPTIMIZERS = {"dadaptation": "DAdaptAdam", "dadaptadam": "DAdaptAdam", "prodigyopt": "Prodigy"}
PRECISIONS = {"no": "fp32", "float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}
"""Values of theirs, in lower case, to ours."""


def our_name(theirs: str, known: Collection[str]) -> str:
    """`rank, as network_dim is called here`, with what has to be added; "" where it is none of their names, or ours is
    not among `known`. Their names count in any spelling: `--unet_lr`, `UNET_LR`, `unetLr`.

    >>> our_name("--lora-rank", ["rank"])
    'rank, as --lora-rank is called here'
    """
    name = as_theirs(theirs)
    ours = WORDS.get(name, "")
    if not ours or ours.rpartition(".")[2] not in known:
        return ""
    added = ADDED.get(name, "")
    return f"{ours}, as {theirs} is called here" + (f" ({added})" if added else "")


def why_none(theirs: str) -> str:
    """What is expected instead of a setting of theirs that has no name here; "" where it is none of theirs."""
    name = as_theirs(theirs)
    if name in NOT_HERE:
        return "nothing, because there is nothing like it here"
    return "nothing, because it needs no setting here" if name in HARMLESS else ""


def as_theirs(written: str) -> str:
    """A name in their spelling: small letters and underscores.

    >>> as_theirs("--networkDim")
    'network_dim'
    """
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", written.strip().lstrip("-"))
    return re.sub(r"[-_ ]+", "_", apart).lower()
