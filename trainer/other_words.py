"""What kohya's scripts, the kohya_ss GUI and diffusers' scripts call our settings."""

from __future__ import annotations

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
}  # fmt: skip
"""Their name to ours."""

ADDED = {
    "save_every_n_steps": "an epoch then has so many steps instead of a pass over the photos, and epochs and "
    "save_every_n_epochs count these: for 10 passes of 480 steps, steps_per_epoch: 120 and epochs: 40",
    "max_train_steps": "an epoch is each photo once for each of its repeats, or steps_per_epoch steps",
    "num_repeats": "the number before the folder's name: 20_sks dog",
    "network_train_unet_only": "false, its default, is the same",
    "unet_lr": "text_encoder_lr is that of the text encoders",
}
"""What has to be said beside our name."""
ADDED["checkpointing_steps"] = ADDED["save_every_n_steps"]

OPTIMIZERS = {"dadaptation": "DAdaptAdam", "dadaptadam": "DAdaptAdam", "prodigyopt": "Prodigy"}
PRECISIONS = {"no": "fp32", "float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}
"""Values of theirs, in lower case, to ours."""


def our_name(theirs: str, known: Collection[str]) -> str:
    """`rank, as network_dim is called here`, with what has to be added; "" where it is none of their names, or ours is
    not among `known`."""
    ours = WORDS.get(theirs.strip().lstrip("-").lower(), "")
    if not ours or ours.rpartition(".")[2] not in known:
        return ""
    added = ADDED.get(theirs, "")
    return f"{ours}, as {theirs} is called here" + (f" ({added})" if added else "")
