"""A TrainConfig as the flat JSON that the kohya_ss GUI opens in its LoRA tab.

Its traps: an empty cycles field means one cycle per epoch, 0 means unset for seeds and min_snr_gamma, warm-up is in
percent, and optimizer_args are one string split at spaces.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.errors import SearchError
from search.export_sdscripts import SdScripts, network_alpha, num_cycles

if TYPE_CHECKING:
    from trainer.config import TrainConfig

OPTIONS_FILE = Path(__file__).with_name("kohya_gui_options.json")
_SAME = (
    "pretrained_model_name_or_path", "output_name", "save_model_as", "save_precision", "max_grad_norm",
    "gradient_accumulation_steps", "mixed_precision", "gradient_checkpointing", "cache_latents", "lr_scheduler",
    "learning_rate", "unet_lr", "max_train_epochs", "save_every_n_epochs", "max_data_loader_n_workers",
)  # fmt: skip


def to_kohya_gui(config: "TrainConfig", exported: SdScripts, *, family: str, total_steps: int) -> dict[str, Any]:
    """The GUI's settings for the same run.

    Args:
        exported: the run in sd-scripts' words.
        family: sd15, sdxl or sd3.
        total_steps: optimizer steps of the horizon, for the warm-up in percent.

    Raises:
        SearchError: a field came out that the GUI does not have.
    """
    there, general = exported.config, exported.dataset["general"]
    width, height = config.size
    values: dict[str, Any] = {key: there[key] for key in _SAME}
    values |= {
        "LoRA_type": "Standard" if config.conv_rank is None else "Kohya LoCon",
        "model_list": "custom",
        "sdxl": family == "sdxl",
        "sdxl_no_half_vae": family == "sdxl",
        "v2": False,
        "v_parameterization": bool(there.get("v_parameterization", False)),
        "train_data_dir": str(_images_root(config)),
        "reg_data_dir": config.reg_data or "",
        "output_dir": there["output_dir"],
        "max_resolution": f"{width},{height}",
        "train_batch_size": config.batch_size,
        "epoch": config.epochs,
        "seed": config.seed,
        "caption_extension": general["caption_extension"],
        "enable_bucket": config.enable_bucket,
        "min_bucket_reso": config.min_bucket_resolution,
        "max_bucket_reso": config.max_bucket_resolution,
        "bucket_reso_steps": config.bucket_step,
        "bucket_no_upscale": False,
        "shuffle_caption": config.shuffle_caption,
        "keep_tokens": config.keep_tokens,
        "flip_aug": config.flip,
        "caption_dropout_rate": config.caption_dropout,
        "clip_skip": config.clip_skip or 1,
        "network_dim": config.rank,
        "network_alpha": network_alpha(config),
        "text_encoder_lr": there.get("text_encoder_lr", 0.0),
        "optimizer": config.optimizer,
        "optimizer_args": " ".join(there["optimizer_args"]),
        "lr_scheduler_num_cycles": num_cycles(config),
        "lr_scheduler_power": 1,
        "lr_warmup": _percent(there["lr_warmup_steps"], total_steps),
        "lr_warmup_steps": there["lr_warmup_steps"],
        "min_snr_gamma": there.get("min_snr_gamma", 0),
        "noise_offset_type": "Original",
        "noise_offset": config.noise_offset,
        "prior_loss_weight": config.prior_loss_weight,
        "xformers": "sdpa",
        "additional_parameters": _additional(config, exported),
    }
    if config.conv_rank is not None:
        values |= {"conv_dim": config.conv_rank, "conv_alpha": config.conv_alpha or config.conv_rank}
    known = json.loads(OPTIONS_FILE.read_text(encoding="utf-8"))["keys"]
    unknown = sorted(values.keys() - set(known))
    if unknown:
        raise SearchError(f"kohya_ss.json: {unknown[0]}: the GUI has no such field")
    return values


def _additional(config: "TrainConfig", exported: SdScripts) -> str:
    """Words for the command line that the form cannot say: a seed of 0 counts as none there."""
    words = ["--seed=0"] if config.seed == 0 else []
    if exported.config.get("zero_terminal_snr"):
        words.append("--zero_terminal_snr")
    return " ".join(words)


def _percent(steps: int, total_steps: int) -> float:
    return round(100 * steps / total_steps, 4) if steps and total_steps else 0


def _images_root(config: "TrainConfig") -> Path:
    """The folder that holds the `<repeats>_<name>` folders: the GUI looks no deeper."""
    root = Path(config.data)
    nested = root / "img"
    has_shelves = any(p.is_dir() and p.name.split("_")[0].isdigit() for p in root.iterdir()) if root.is_dir() else True
    return nested if nested.is_dir() and not has_shelves else root
