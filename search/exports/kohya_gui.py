"""A TrainConfig as the flat JSON that the kohya_ss GUI opens in its LoRA tab.

The GUI keeps what its user had last in every field that the file leaves out, so each field that changes training is
written. It drops values of 0 on the way to sd-scripts; those go into its line of extra arguments. Photos are told by a
dataset file, as `<repeats>_<name>` folders alone lose regularisation images and `.caption` files there.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.errors import SearchError, problem
from search.exports.option_check import GUI_OPTIONS_FILE
from search.exports.sdscripts import SdScripts, network_alpha, num_cycles

if TYPE_CHECKING:
    from trainer.config.config import TrainConfig

_SAME = (
    "output_name", "save_model_as", "save_precision", "max_grad_norm", "gradient_accumulation_steps",
    "mixed_precision", "gradient_checkpointing", "cache_latents", "lr_scheduler", "learning_rate", "unet_lr",
    "max_data_loader_n_workers",
)  # fmt: skip
_LENGTHS = ("max_train_epochs", "max_train_steps", "save_every_n_epochs", "save_every_n_steps")
"""Some of them are set; 0 says that another one is."""
_DROPPED_AT_ZERO = ("seed", "max_grad_norm", "prior_loss_weight")  # where sd-scripts' default is another


def to_kohya_gui(
    config: "TrainConfig", exported: SdScripts, *, family: str, folder: Path, dataset_file: Path, total_steps: int
) -> dict[str, Any]:
    """The GUI's settings for the same run. Its paths are absolute: the GUI knows no others.

    Args:
        exported: the run in sd-scripts' words.
        family: sd15, sdxl or sd3.
        folder: that paths in `exported.config` are relative to.
        dataset_file: `absolute(exported.dataset, folder)`, written.
        total_steps: optimizer steps that are trained, for the warm-up in percent.

    Raises:
        SearchError: a field came out that the GUI does not have.
    """
    there, general = exported.config, exported.dataset["general"]
    width, height = config.size
    values: dict[str, Any] = {key: there[key] for key in _SAME} | {key: there.get(key, 0) for key in _LENGTHS}
    values |= {
        "LoRA_type": "Standard" if config.conv_rank is None else "Kohya LoCon",
        "model_list": "custom",
        "pretrained_model_name_or_path": absolute_path(there["pretrained_model_name_or_path"], folder, hub=True),
        "dataset_config": str(dataset_file.resolve()),
        "output_dir": absolute_path(there["output_dir"], folder),
        "sdxl": family == "sdxl",
        "sdxl_no_half_vae": family == "sdxl",
        "sd3_checkbox": family == "sd3",
        "v2": bool(there.get("v2", False)),
        "v_parameterization": bool(there.get("v_parameterization", False)),
        "max_resolution": f"{width},{height}",
        "train_batch_size": config.batch_size,
        "epoch": there.get("max_train_epochs", 1),
        "seed": config.seed,
        "caption_extension": general["caption_extension"],
        "enable_bucket": config.enable_bucket,
        "shuffle_caption": config.shuffle_caption,
        "keep_tokens": config.keep_tokens,
        "flip_aug": config.flip,
        "caption_dropout_rate": config.caption_dropout,
        "clip_skip": there.get("clip_skip", 0),
        "network_dim": config.rank,
        "network_alpha": network_alpha(config),
        "text_encoder_lr": there.get("text_encoder_lr", 0.0),
        "optimizer": config.optimizer,
        "optimizer_args": " ".join(there["optimizer_args"]),
        "lr_scheduler_type": there.get("lr_scheduler_type", ""),
        "lr_scheduler_args": " ".join(there.get("lr_scheduler_args", ())),
        "lr_scheduler_num_cycles": num_cycles(config),
        "lr_warmup": _percent(there["lr_warmup_steps"], total_steps),
        "lr_warmup_steps": there["lr_warmup_steps"],
        "min_snr_gamma": there.get("min_snr_gamma", 0),
        "debiased_estimation_loss": there.get("debiased_estimation_loss", False),
        "noise_offset": config.noise_offset,
        "noise_offset_random_strength": there.get("noise_offset_random_strength", False),
        "ip_noise_gamma": config.ip_noise_gamma,
        "prior_loss_weight": there.get("prior_loss_weight", 1.0),
    }
    dataset = exported.dataset["datasets"][0]
    for key in ("min_bucket_reso", "max_bucket_reso", "bucket_reso_steps"):
        if key in dataset:
            values[key] = dataset[key]
    if config.conv_rank is not None:
        values |= {"conv_dim": config.conv_rank, "conv_alpha": config.effective_conv_alpha}
    fields = json.loads(GUI_OPTIONS_FILE.read_text(encoding="utf-8"))["fields"]
    extra = _extra(config, exported, values, fields)
    values["additional_parameters"] = " ".join(extra)
    for key, value in values.items():
        if key not in fields:
            raise SearchError(problem("kohya_ss.json", key, value, "a field that the GUI has"))
        if value not in fields[key].get("choices", [value]):
            raise SearchError(problem("kohya_ss.json", key, value, f"one of {', '.join(fields[key]['choices'])}"))
    return {name: about["value"] for name, about in fields.items()} | values


def absolute(dataset: Any, folder: Path) -> dict[str, Any]:
    """The dataset file of an export with absolute folders, for a reader that runs anywhere."""
    datasets = []
    for one in dataset["datasets"]:
        subsets = [{**s, "image_dir": absolute_path(s["image_dir"], folder)} for s in one["subsets"]]
        datasets.append({**one, "subsets": subsets})
    return {**dataset, "datasets": datasets}


def absolute_path(path: str, folder: Path, *, hub: bool = False) -> str:
    """A path relative to `folder` as an absolute one; with `hub`, what does not exist there is a hub id."""
    found = (folder / path).resolve()
    return path if hub and not found.exists() else str(found)


def _extra(config: "TrainConfig", exported: SdScripts, values: dict[str, Any], fields: dict[str, Any]) -> list[str]:
    """Words for the command line that the form cannot say; numbers beyond its sliders are cut to them in `values`."""
    there = exported.config
    words = [f"--{key}=0" for key in _DROPPED_AT_ZERO if values[key] == 0]
    if there["lr_warmup_steps"]:
        words.append(f"--lr_warmup_steps={there['lr_warmup_steps']}")  # in percent, the steps would be rounded
    if there.get("zero_terminal_snr"):
        words.append("--zero_terminal_snr")
    if there.get("no_half_vae") and not values["sdxl_no_half_vae"]:
        words.append("--no_half_vae")
    for key in ("learning_rate", "unet_lr", "text_encoder_lr", "network_dim", "min_snr_gamma"):
        most = fields[key].get("most")
        if most is not None and values[key] > most:
            words.append(f"--{key}={values[key]!r}")
            values[key] = most
    return words


def _percent(steps: int, total_steps: int) -> float:
    return round(100 * steps / total_steps, 4) if steps and total_steps else 0
