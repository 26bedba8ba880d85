"""A TrainConfig in the words of kohya's sd-scripts: `config.toml`, `dataset.toml` and the script that reads them.

sd-scripts takes unknown keys in config.toml without a word, so every key is checked against its own option list.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.errors import SearchError
from search.exports.option_check import check_sdscripts
from search.exports.photos import by_folder, caption_ending
from search.exports.ship_epoch import Ending, saved_every, schedule
from search.study.config_yaml import relative

if TYPE_CHECKING:
    from trainer.config.config import TrainConfig
    from trainer.data.dataset import Dataset
    from trainer.families.prediction import BaseTraits

SCRIPTS = {"sd15": "train_network.py", "sdxl": "sdxl_train_network.py", "sd3": "sd3_train_network.py"}
MODULES = {"sd15": "networks.lora", "sdxl": "networks.lora", "sd3": "networks.lora_sd3"}
_OPTIMIZERS = {"Adafactor": "AdaFactor"}
PRECISIONS = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}
# our optimizers come from pytorch_optimizer; sd-scripts takes dadaptation, prodigyopt, lion-pytorch, schedulefree
_RENAMED = {
    "DAdaptAdam": {"weight_decouple": "decouple", "bias_correction": "use_bias_correction"},
    "Prodigy": {"weight_decouple": "decouple", "bias_correction": "use_bias_correction"},
}
_UNKNOWN_THERE = {
    "DAdaptAdam": ("fixed_decay", "foreach"),
    "Prodigy": ("fixed_decay", "foreach"),
    "Lion": ("weight_decouple", "fixed_decay", "foreach"),
    "AdamWScheduleFree": ("decoupling_c", "ams_bound"),
}
_LEAST_BUCKET_STEP = {"sd15": 64, "sdxl": 32, "sd3": 32}  # each script's verify_bucket_reso_steps


@dataclass(frozen=True)
class SdScripts:
    """An export: both files as mappings, the script that reads them, and what sd-scripts does differently.

    Paths in `config` and `dataset` are relative to the folder of the two files.
    """

    config: Mapping[str, Any]
    dataset: Mapping[str, Any]
    script: str
    notices: tuple[str, ...]


def to_sdscripts(
    config: "TrainConfig",
    dataset: "Dataset",
    *,
    traits: "BaseTraits",
    folder: Path,
    name: str,
    ending: Ending | None = None,
) -> SdScripts:
    """Translates a run.

    Args:
        config: the run, with its full horizon.
        dataset: what `scan_dataset` found in its folder.
        traits: of the base.
        folder: where the two files will lie; training writes to `folder/output`.
        name: of the LoRA file that sd-scripts will write.
        ending: the epoch to ship and where training ends; None trains to the horizon.

    Raises:
        SearchError: sd-scripts has no script for the family, or an option came out that it does not know.
    """
    ending, family = ending or Ending(), traits.family
    if family not in SCRIPTS:
        raise SearchError(f"sd-scripts has no script for bases of the family {family}")
    values = {
        "pretrained_model_name_or_path": relative(config.base, folder),
        "dataset_config": "dataset.toml",
        "output_dir": "output",
        "output_name": name,
        "save_model_as": "safetensors",
        "save_precision": "fp16",
        **_length(config, ending),
        "seed": config.seed,
        "network_module": MODULES[family],
        "network_dim": config.rank,
        "network_alpha": network_alpha(config),
        "max_grad_norm": config.effective_max_grad_norm,
        "gradient_accumulation_steps": config.gradient_accumulation_steps,
        "mixed_precision": PRECISIONS[config.precision],
        "gradient_checkpointing": config.gradient_checkpointing,
        "cache_latents": True,
        "no_half_vae": True,  # our VAE stays in fp32 as well
        "sdpa": True,
        "max_data_loader_n_workers": 1,
        **_learning(config),
        **schedule(config, ending, num_cycles(config)),
    }
    if not config.train_text_encoder:
        values["network_train_unet_only"] = True
    if config.conv_rank is not None:
        values["network_args"] = [f"conv_dim={config.conv_rank}", f"conv_alpha={config.effective_conv_alpha:g}"]
    if config.min_snr_gamma is not None and family != "sd3":
        values["min_snr_gamma"] = config.min_snr_gamma
    if config.debiased_estimation_loss and family != "sd3":
        values["debiased_estimation_loss"] = True
    if config.noise_offset:
        values["noise_offset"] = config.noise_offset
        if config.noise_offset_random_strength:
            values["noise_offset_random_strength"] = True
    if config.ip_noise_gamma:
        values["ip_noise_gamma"] = config.ip_noise_gamma
    if any(photo.is_reg for photo in dataset.photos):
        values["prior_loss_weight"] = config.prior_loss_weight
    if config.clip_skip is not None and family == "sd15":
        values["clip_skip"] = config.clip_skip
    velocity = traits.prediction_type == "v_prediction"
    marks = {"v2": traits.v2, "v_parameterization": velocity, "zero_terminal_snr": traits.zero_terminal_snr}
    values |= {key: True for key, on in marks.items() if on}
    files = _dataset(config, dataset, family, folder)
    check_sdscripts(values, files)
    return SdScripts(values, files, SCRIPTS[family], notices(config, traits))


def _length(config: "TrainConfig", ending: Ending) -> dict[str, int]:
    """How long it trains, and how often it saves: in passes over the photos, or in steps."""
    last, every, steps = ending.last_epoch(config), saved_every(config, ending), config.steps_per_epoch
    if steps is None:
        return {"max_train_epochs": last, "save_every_n_epochs": every}
    return {"max_train_steps": last * steps, "save_every_n_steps": every * steps}


def network_alpha(config: "TrainConfig") -> float:
    """alpha such that sd-scripts' scale, alpha ÷ rank, is ours (alpha ÷ √rank when rank-stabilised)."""
    return config.effective_alpha * (sqrt(config.rank) if config.rslora else 1.0)


def optimizer_args(config: "TrainConfig") -> list[str]:
    """`name=value` with Python literals and no spaces, as sd-scripts parses them."""
    args: dict[str, Any] = {"weight_decay": config.effective_weight_decay}
    if config.optimizer == "Adafactor":
        args |= {"scale_parameter": config.relative_step, "relative_step": config.relative_step, "warmup_init": False}
    elif config.optimizer in ("DAdaptAdam", "Prodigy"):
        args["decouple"] = True
        if config.optimizer == "Prodigy":
            args["d_coef"] = config.d_coef
    elif config.optimizer == "AdamWScheduleFree" and config.warmup_steps:
        args["warmup_steps"] = config.warmup_steps
    renamed = _RENAMED.get(config.optimizer, {})
    left_out = _UNKNOWN_THERE.get(config.optimizer, ())
    for key, value in config.optimizer_args.items():
        if key not in left_out:
            args[renamed.get(key, key)] = tuple(value) if isinstance(value, list) else value
    return [f"{key}={repr(value).replace(' ', '')}" for key, value in args.items()]


def num_cycles(config: "TrainConfig") -> int:
    """Whole cycles over the horizon (1 where the schedule has none)."""
    return max(1, ceil(config.effective_num_cycles)) if config.lr_scheduler == "cosine_with_restarts" else 1


def _learning(config: "TrainConfig") -> dict[str, Any]:
    scale = config.d_coef if config.optimizer == "DAdaptAdam" else 1.0  # dadaptation has no d_coef: its lr is the same
    # Relative-step Adafactor ignores the rate, but a rate of 0 makes sd-scripts leave the adapters out.
    rate = 1e-3 if config.relative_step else config.effective_learning_rate * scale
    values: dict[str, Any] = {
        "optimizer_type": _OPTIMIZERS.get(config.optimizer, config.optimizer),
        "optimizer_args": optimizer_args(config),
        "learning_rate": rate,
        "unet_lr": rate,
    }
    if config.train_text_encoder:
        values["text_encoder_lr"] = rate if config.relative_step else config.effective_text_encoder_lr * scale
    return values


def bucket_bounds(config: "TrainConfig", family: str) -> tuple[int, int, int]:
    """(step, smallest, largest) of buckets as sd-scripts takes them: on its least step."""
    from trainer.data.buckets import bounds_on_grid

    least = _LEAST_BUCKET_STEP[family]
    step = ceil(config.bucket_step / least) * least
    return step, *bounds_on_grid(config.min_bucket_resolution, config.max_bucket_resolution, step)


def _dataset(config: "TrainConfig", dataset: "Dataset", family: str, folder: Path) -> dict[str, Any]:
    subsets = []
    for photos in by_folder(dataset):
        first = photos[0]
        path, words = first.path.parent.resolve(), [word for word in (first.trigger, first.class_word) if word]
        subset: dict[str, Any] = {"image_dir": relative(str(path), folder), "num_repeats": first.repeats}
        if words:
            subset["class_tokens"] = " ".join(words)
        if first.is_reg:
            subset["is_reg"] = True
        if caption_ending(photos) != ".txt":
            subset["caption_extension"] = caption_ending(photos)
        subsets.append(subset)
    general: dict[str, Any] = {"caption_extension": ".txt"}
    if config.shuffle_caption:
        general |= {"shuffle_caption": True, "keep_tokens": config.keep_tokens}
    if config.flip:
        general["flip_aug"] = True
    if config.caption_dropout:
        general["caption_dropout_rate"] = config.caption_dropout
    size = config.resolution if isinstance(config.resolution, int) else list(config.resolution)
    one: dict[str, Any] = {"resolution": size, "batch_size": config.batch_size, "enable_bucket": config.enable_bucket}
    if config.enable_bucket:
        step, smallest, largest = bucket_bounds(config, family)
        one |= {"min_bucket_reso": smallest, "max_bucket_reso": largest, "bucket_reso_steps": step}
        one["bucket_no_upscale"] = False
    return {"general": general, "datasets": [{**one, "subsets": subsets}]}


def notices(config: "TrainConfig", traits: "BaseTraits") -> tuple[str, ...]:
    """What sd-scripts does differently with these settings, one line each: the setting, then what happens there."""
    said, family = [], traits.family
    if config.targets == "attention":
        said.append(
            "targets: attention: sd-scripts cannot train attention alone. It trains the feed-forward and projection "
            "layers, too"
        )
    if config.dora:
        said.append(
            "dora: sd-scripts trains a plain LoRA instead, because its own network has no DoRA. LyCORIS has: set "
            "network_module to lycoris.kohya, with dora_wd=True in network_args"
        )
        said.append(
            "dora: A1111 and ComfyUI apply DoRA differently from how it was trained, so they draw other images than "
            "the samples here. `python -m trainer.deliver LORA --plain-lora --base BASE` writes a LoRA that all "
            "draw alike"
        )
    if config.rslora:
        alpha = f"{network_alpha(config):g}"
        said.append(f"rslora: sd-scripts has no such setting. network_alpha {alpha} gives the LoRA the same strength")
    if config.quantize is not None:
        said.append(
            f"quantize: {config.quantize}: sd-scripts cannot do this, so it loads the whole base. The nearest that it "
            "has is fp8_base"
        )
    if config.lr_scheduler == "cosine_with_restarts" and num_cycles(config) != config.effective_num_cycles:
        said.append(
            f"cycle_epochs: {config.cycle_epochs}: sd-scripts takes whole cycles only, and {config.epochs} epochs are "
            f"{config.effective_num_cycles:.3g} of them. It gets {num_cycles(config)}, each a little shorter"
        )
    for key in config.optimizer_args:
        if key in _UNKNOWN_THERE.get(config.optimizer, ()):
            said.append(f"optimizer_args: {key}: left out, because sd-scripts' {config.optimizer} does not have it")
    if config.clip_skip not in (None, 1) and family != "sd15":
        said.append(f"clip_skip: {config.clip_skip}: sd-scripts ignores it for {family}")
    if config.enable_bucket and bucket_bounds(config, family)[0] != config.bucket_step:
        said.append(
            f"bucket_step: {config.bucket_step}: sd-scripts takes only multiples of {_LEAST_BUCKET_STEP[family]}. It "
            f"gets {bucket_bounds(config, family)[0]}, and so cuts photos to other sizes than we do"
        )
    loss = {"min_snr_gamma": config.min_snr_gamma, "debiased_estimation_loss": config.debiased_estimation_loss}
    for key, value in loss.items():
        if value and traits.zero_terminal_snr:
            said.append(
                f"{key}: sd-scripts weights the noise levels a little differently for this base (zero terminal SNR), "
                "so its losses differ by a few per cent"
            )
    for key, value in (("noise_offset", config.noise_offset), ("ip_noise_gamma", config.ip_noise_gamma)):
        if value and family == "sd3":
            said.append(f"{key}: {value:g}: sd-scripts ignores it for sd3")
    return tuple(said)
