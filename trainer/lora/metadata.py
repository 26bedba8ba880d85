"""What a LoRA file says about itself: kohya's `ss_*` keys, which WebUIs show, and ModelSpec."""

from __future__ import annotations

import json
import math
import time
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.base_model.model_hash import model_hashes
from trainer.data.buckets import Size, batches_per_epoch, repeat_counts
from trainer.data.dataset import Dataset, Photo

if TYPE_CHECKING:
    from trainer.families.family import Base

_MODELSPEC = "1.0.1"


def build_metadata(
    base: Base,
    dataset: Dataset,
    sizes: Sequence[Size],
    *,
    output_name: str,
    rank: int,
    alpha: float,
    learning_rate: float | None,
    text_encoder_lr: float | None,
    optimizer: str,
    lr_scheduler: str,
    seed: int,
    epoch: int,
    epochs: int,
    steps: int,
    max_train_steps: int,
    resolution: Size,
    batch_size: int,
    gradient_accumulation_steps: int = 1,
    enable_bucket: bool = False,
    train_text_encoder: bool = False,
    conv_rank: int | None = None,
    conv_alpha: float | None = None,
    dora: bool = False,
    clip_skip: int | None = None,
    min_snr_gamma: float | None = None,
    noise_offset: float = 0.0,
    prior_loss_weight: float = 1.0,
    warmup_steps: int = 0,
    max_grad_norm: float = 1.0,
    caption_dropout: float = 0.0,
    shuffle_caption: bool = False,
    keep_tokens: int = 0,
    flip: bool = False,
    precision: str = "fp32",
    gradient_checkpointing: bool = False,
    rslora: bool = False,
    processes: int = 1,
    started_at: float | None = None,
    session_id: int | None = None,
    extra: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """kohya's training metadata and ModelSpec 1.0.1 for a checkpoint; every value is a string, nested ones are JSON.

    Args:
        sizes: the bucket (width, height) of each photo, as `assign_buckets` gives it.
        learning_rate, text_encoder_lr: in force; None where the optimizer sets its own.
        rank, alpha: as in the file's tensors. processes: that share the batches.
        epoch, steps: done when this checkpoint was written. epochs, max_train_steps: laid out.
        started_at: seconds since 1970; now by default. session_id: of the run; derived from seed and name by default.
        extra: further keys, written last.
    """
    now = time.time()
    started = started_at if started_at is not None else now
    arguments: dict[str, str] = {}
    if conv_rank is not None:
        arguments = {"conv_dim": str(conv_rank), "conv_alpha": str(conv_alpha or conv_rank)}
    if dora:
        arguments |= {"algo": "lora", "dora_wd": "True", "wd_on_output": "True"}
    if rslora:
        arguments |= {"rs_lora": "True"}
    session = (
        session_id if session_id is not None else uuid.uuid5(uuid.NAMESPACE_URL, f"{output_name}/{seed}").int >> 97
    )
    said: dict[str, object] = {
        "ss_session_id": session,
        "ss_training_started_at": started,
        "ss_training_finished_at": now,
        "ss_output_name": output_name,
        "ss_sd_model_name": Path(base.source).name,
        "ss_v2": base.variant == "v2",
        "ss_base_model_version": "sd_v2" if base.variant == "v2" else base.family.base_model_version,
        "ss_clip_skip": clip_skip,
        "ss_max_token_length": None,
        "ss_network_module": "lycoris.kohya" if dora else "networks.lora",
        "ss_network_dim": rank,
        "ss_network_alpha": alpha,
        "ss_network_dropout": None,
        "ss_network_args": arguments,
        "ss_learning_rate": learning_rate,
        "ss_unet_lr": learning_rate,
        "ss_text_encoder_lr": text_encoder_lr if train_text_encoder else None,
        "ss_optimizer": optimizer,
        "ss_lr_scheduler": lr_scheduler,
        "ss_lr_warmup_steps": warmup_steps,
        "ss_max_grad_norm": max_grad_norm,
        "ss_epoch": epoch,
        "ss_num_epochs": epochs,
        "ss_steps": steps,
        "ss_max_train_steps": max_train_steps,
        "ss_seed": seed,
        "ss_mixed_precision": {"fp32": "no"}.get(precision, precision),
        "ss_gradient_checkpointing": gradient_checkpointing,
        "ss_gradient_accumulation_steps": gradient_accumulation_steps,
        "ss_min_snr_gamma": min_snr_gamma,
        "ss_noise_offset": noise_offset or None,
        "ss_prior_loss_weight": prior_loss_weight,
        "ss_caption_dropout_rate": caption_dropout,
        "ss_shuffle_caption": shuffle_caption,
        "ss_keep_tokens": keep_tokens,
        "ss_flip_aug": flip,
        "ss_color_aug": False,
        "ss_random_crop": False,
        "ss_cache_latents": True,
        "ss_zero_terminal_snr": bool(base.noise_scheduler.config.get("rescale_betas_zero_snr", False)),
        "ss_resolution": str(tuple(resolution)),
        "ss_batch_size_per_device": batch_size,
        "ss_total_batch_size": batch_size * gradient_accumulation_steps * processes,
        "ss_enable_bucket": enable_bucket,
        "ss_num_batches_per_epoch": math.ceil(batches_per_epoch(dataset.photos, sizes, batch_size) / processes),
        **(described := describe_dataset(dataset, sizes)),
        "ss_datasets": [
            {
                "is_dreambooth": True,
                "batch_size_per_device": batch_size,
                "num_train_images": described["ss_num_train_images"],
                "num_reg_images": described["ss_num_reg_images"],
                "resolution": list(resolution),
                "enable_bucket": enable_bucket,
                "tag_frequency": described["ss_tag_frequency"],
                "bucket_info": described["ss_bucket_info"],
                "subsets": describe_subsets(
                    dataset, flip_aug=flip, shuffle_caption=shuffle_caption, keep_tokens=keep_tokens
                ),
            }
        ],
        **model_hashes(base.source),
    }
    metadata = {key: _text(value) for key, value in said.items()}
    metadata |= _modelspec(base, output_name, resolution, started, clip_skip)
    return metadata | dict(extra or {})


def describe_dataset(dataset: Dataset, sizes: Sequence[Size]) -> dict[str, object]:
    """`ss_num_train_images`, `ss_dataset_dirs`, `ss_tag_frequency`, `ss_bucket_info`… of a dataset.

    Numbers of images count repeats, as kohya's do; tag frequencies do not.
    """
    counts = repeat_counts(dataset.photos)
    folders: dict[bool, dict[str, dict[str, int]]] = {False: {}, True: {}}
    frequency: dict[str, Counter[str]] = {}
    buckets: Counter[Size] = Counter()
    errors, seen = 0.0, 0
    for photo, count, size in zip(dataset.photos, counts, sizes, strict=True):
        name = photo.path.parent.name
        folder = folders[photo.is_reg].setdefault(name, {"n_repeats": photo.repeats, "img_count": 0})
        folder["img_count"] += 1
        tags = [tag.strip().lower() for tag in photo.caption.split(",")]
        frequency.setdefault(name, Counter()).update(tag for tag in tags if tag)
        buckets[size] += count
        errors += abs(size[0] / size[1] - photo.width / photo.height) * count
        seen += count
    return {
        "ss_num_train_images": sum(
            count for photo, count in zip(dataset.photos, counts, strict=True) if not photo.is_reg
        ),
        "ss_num_reg_images": sum(count for photo, count in zip(dataset.photos, counts, strict=True) if photo.is_reg),
        "ss_dataset_dirs": folders[False],
        "ss_reg_dataset_dirs": folders[True],
        "ss_tag_frequency": {name: dict(tags) for name, tags in frequency.items()},
        "ss_bucket_info": {
            "buckets": {
                str(index): {"resolution": list(size), "count": buckets[size]}
                for index, size in enumerate(sorted(buckets))
            },
            "mean_img_ar_error": errors / max(seen, 1),
        },
    }


def describe_subsets(
    dataset: Dataset, *, flip_aug: bool = False, shuffle_caption: bool = False, keep_tokens: int = 0
) -> list[dict[str, object]]:
    """The folders of a dataset as `ss_datasets` lists them: by their own names, never by a path of this machine."""
    folders: dict[tuple[Path, bool], list[Photo]] = {}
    for photo in dataset.photos:
        folders.setdefault((photo.path.parent, photo.is_reg), []).append(photo)
    return [
        {
            "image_dir": folder.name,
            "img_count": len(photos),
            "num_repeats": photos[0].repeats,
            "class_tokens": " ".join(word for word in (photos[0].trigger, photos[0].class_word) if word),
            "is_reg": is_reg,
            "flip_aug": flip_aug,
            "shuffle_caption": shuffle_caption,
            "keep_tokens": keep_tokens,
            "color_aug": False,
            "random_crop": False,
        }
        for (folder, is_reg), photos in folders.items()
    ]


def _modelspec(base: Base, title: str, resolution: Size, started: float, clip_skip: int | None) -> dict[str, str]:
    """ModelSpec 1.0.1 (github.com/Stability-AI/ModelSpec); the hash is added when the file is written."""
    prediction = getattr(base.noise_scheduler.config, "prediction_type", None)
    sai = base.family.kohya_name("denoiser", "mid_block.attentions.0.proj_in") == "lora_unet_middle_block_1_proj_in"
    said = {
        "modelspec.sai_model_spec": _MODELSPEC,
        "modelspec.architecture": ("stable-diffusion-v2-512" if base.variant == "v2" else base.family.architecture)
        + "/lora",
        "modelspec.implementation": "https://github.com/Stability-AI/generative-models" if sai else "diffusers",
        "modelspec.title": title,
        "modelspec.resolution": f"{resolution[0]}x{resolution[1]}",
        "modelspec.date": datetime.fromtimestamp(started, UTC).replace(tzinfo=None).isoformat(timespec="seconds"),
    }
    if prediction is not None:
        said["modelspec.prediction_type"] = "v" if prediction == "v_prediction" else "epsilon"
    if clip_skip is not None and clip_skip > 1:
        said["modelspec.encoder_layer"] = str(clip_skip)
    return said


def _text(value: object) -> str:
    return json.dumps(value) if isinstance(value, dict | list) else str(value)
