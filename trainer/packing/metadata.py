"""What a LoRA file says about itself: kohya's `ss_*` keys, which WebUIs show, and ModelSpec."""

from __future__ import annotations

import json
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.base_model.model_hash import model_hashes
from trainer.data.buckets import Size, repeat_counts
from trainer.data.dataset import Dataset, Photo
from trainer.lora.lora import alpha_in_file
from trainer.packing.settings import PackSettings, RunSettings

if TYPE_CHECKING:
    from trainer.families.family import Base

_MODELSPEC = "1.0.1"
_PRECISIONS = {"torch.bfloat16": "bf16", "torch.float16": "fp16"}


def build_metadata(
    base: Base,
    dataset: Dataset,
    sizes: Sequence[Size],
    pack: PackSettings,
    run: RunSettings,
    *,
    output_name: str,
    epoch: int,
    steps: int,
    steps_per_epoch: int,
    processes: int,
    batches: int,
    started_at: float,
) -> dict[str, str]:
    """kohya's training metadata and ModelSpec 1.0.1 for a checkpoint; every value is a string, nested ones are JSON.

    Args:
        sizes: the bucket (width, height) of each photo, as `assign_buckets` gives it.
        pack, run: the settings it was trained with; those of the optimizer's rate are left out where it sets its own.
        epoch, steps: done when this checkpoint was written.
        steps_per_epoch: optimizer steps. processes: that share the batches.
        batches: of an epoch, for each process.
        started_at: seconds since 1970.
    """
    feed, adapter, optimizer, loss = pack.feed, run.adapter, run.optimizer, run.loss
    learning_rate = None if optimizer.relative_step else optimizer.learning_rate
    text_encoder_lr = None if optimizer.relative_step else optimizer.text_encoder_lr
    arguments: dict[str, str] = {}
    if adapter.conv_rank is not None and adapter.conv_alpha is not None:
        conv_alpha = alpha_in_file(adapter.conv_alpha, adapter.conv_rank, rslora=adapter.rslora)
        arguments = {"conv_dim": str(adapter.conv_rank), "conv_alpha": str(conv_alpha)}
    if adapter.dora:
        arguments |= {"algo": "lora", "dora_wd": "True", "wd_on_output": "True"}
    if adapter.rslora:
        arguments |= {"rs_lora": "True"}
    said: dict[str, object] = {
        "ss_session_id": uuid.uuid5(uuid.NAMESPACE_URL, f"{output_name}/{feed.seed}").int >> 97,
        "ss_training_started_at": started_at,
        "ss_training_finished_at": time.time(),
        "ss_output_name": output_name,
        "ss_sd_model_name": Path(base.source).name,
        "ss_v2": base.variant == "v2",
        "ss_base_model_version": "sd_v2" if base.variant == "v2" else base.family.base_model_version,
        "ss_clip_skip": feed.clip_skip,
        "ss_max_token_length": None,
        "ss_network_module": "lycoris.kohya" if adapter.dora else "networks.lora",
        "ss_network_dim": adapter.rank,
        "ss_network_alpha": alpha_in_file(adapter.alpha, adapter.rank, rslora=adapter.rslora),
        "ss_network_dropout": None,
        "ss_network_args": arguments,
        "ss_learning_rate": learning_rate,
        "ss_unet_lr": learning_rate,
        "ss_text_encoder_lr": text_encoder_lr if feed.train_text_encoder else None,
        "ss_optimizer": optimizer.optimizer,
        "ss_lr_scheduler": run.schedule.lr_scheduler,
        "ss_lr_warmup_steps": run.schedule.warmup_steps,
        "ss_max_grad_norm": optimizer.max_grad_norm,
        "ss_epoch": epoch,
        "ss_num_epochs": run.schedule.epochs,
        "ss_steps": steps,
        "ss_max_train_steps": run.schedule.epochs * steps_per_epoch,
        "ss_seed": feed.seed,
        "ss_mixed_precision": _PRECISIONS.get(str(base.dtype), "no"),
        "ss_gradient_checkpointing": pack.gradient_checkpointing,
        "ss_gradient_accumulation_steps": pack.gradient_accumulation_steps,
        "ss_min_snr_gamma": loss.min_snr_gamma,
        "ss_debiased_estimation": loss.debiased_estimation_loss,
        "ss_noise_offset": loss.noise_offset or None,
        "ss_noise_offset_random_strength": loss.noise_offset_random_strength,
        "ss_ip_noise_gamma": loss.ip_noise_gamma or None,
        "ss_prior_loss_weight": loss.prior_loss_weight,
        "ss_caption_dropout_rate": feed.caption_dropout,
        "ss_shuffle_caption": feed.shuffle_caption,
        "ss_keep_tokens": feed.keep_tokens,
        "ss_flip_aug": feed.flip,
        "ss_color_aug": False,
        "ss_random_crop": False,
        "ss_cache_latents": True,
        "ss_zero_terminal_snr": bool(base.noise_scheduler.config.get("rescale_betas_zero_snr", False)),
        "ss_resolution": str(tuple(feed.resolution)),
        "ss_batch_size_per_device": feed.batch_size,
        "ss_total_batch_size": feed.batch_size * pack.gradient_accumulation_steps * processes,
        "ss_enable_bucket": feed.enable_bucket,
        "ss_num_batches_per_epoch": batches,
        **(described := describe_dataset(dataset, sizes)),
        "ss_datasets": [
            {
                "is_dreambooth": True,
                "batch_size_per_device": feed.batch_size,
                "num_train_images": described["ss_num_train_images"],
                "num_reg_images": described["ss_num_reg_images"],
                "resolution": list(feed.resolution),
                "enable_bucket": feed.enable_bucket,
                "tag_frequency": described["ss_tag_frequency"],
                "bucket_info": described["ss_bucket_info"],
                "subsets": describe_subsets(
                    dataset, flip_aug=feed.flip, shuffle_caption=feed.shuffle_caption, keep_tokens=feed.keep_tokens
                ),
            }
        ],
        **model_hashes(base.source),
    }
    metadata = {key: _text(value) for key, value in said.items()}
    metadata |= _modelspec(base, output_name, feed.resolution, started_at, feed.clip_skip)
    return metadata | dict(run.output.metadata)


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
            "mean_img_ar_error": errors / seen,
        },
    }


def describe_subsets(
    dataset: Dataset, *, flip_aug: bool, shuffle_caption: bool, keep_tokens: int
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
