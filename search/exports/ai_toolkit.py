"""A run in ai-toolkit's words: one YAML file. It counts in steps alone, and its schedules end with its training."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from search.exports.option_tables import option_table
from search.exports.production_run import (
    ForTrainer,
    ProductionRun,
    refuse,
    renamed_arguments,
    several_lines,
    shelves,
    without,
)
from search.exports.sdscripts import network_alpha
from search.exports.ship_epoch import saved_every
from search.study.comment_lines import comment_lines
from search.study.config_yaml import relative

if TYPE_CHECKING:
    from trainer.config.config import TrainConfig

TOOL = "ai-toolkit"
_ARCHS = {"sd15": "sd1", "sdxl": "sdxl", "sd3": "sd3"}
_OPTIMIZERS = {
    "AdamW": "adamw",
    "AdamW8bit": "adamw8bit",
    "Adafactor": "adafactor",
    "DAdaptAdam": "dadaptation",  # its "dadaptationadam" is DAdaptLion
    "Prodigy": "prodigy",
    "Lion": "lion",
    "Lion8bit": "lion8bit",
}
_DADAPT = {
    "betas": "betas",
    "d0": "d0",
    "growth_rate": "growth_rate",
    "weight_decouple": "decouple",
    "bias_correction": "use_bias_correction",
}
_ARGUMENTS = {
    "AdamW": {key: key for key in ("betas", "amsgrad", "foreach", "fused")},
    "AdamW8bit": {key: key for key in ("betas", "min_8bit_size", "is_paged")},
    "Adafactor": {key: key for key in ("eps", "clip_threshold", "decay_rate", "beta1", "scale_parameter")},
    "DAdaptAdam": _DADAPT,
    "Prodigy": {**_DADAPT, "beta3": "beta3", "safeguard_warmup": "safeguard_warmup"},
    "Lion": {"betas": "betas"},
    "Lion8bit": {key: key for key in ("betas", "min_8bit_size", "is_paged")},
}
_OWN_EPS = ("AdamW", "AdamW8bit", "DAdaptAdam", "Prodigy")
_NEVER = 1e9
"""A norm that no gradient reaches: of 0 ai-toolkit would clip all of it away."""


def for_ai_toolkit(run: ProductionRun, folder: Path) -> ForTrainer:
    """`config.yaml`; paths in it are relative to `folder`, from which it is run.

    Raises:
        SearchError: ai-toolkit cannot train such a run, or a name came out that it does not know.
    """
    config, traits = run.config, run.traits
    if config.optimizer not in _OPTIMIZERS:
        raise refuse(TOOL, "optimizer", config.optimizer, "does not have it")
    if traits.prediction_type == "v_prediction":
        why = "stops at its first step on a base that predicts v: it takes the photo for its latents"
        raise refuse(TOOL, "base", config.base, why)
    if traits.prediction_type not in ("epsilon", "flow"):
        raise refuse(TOOL, "base", config.base, f"has no base that predicts {traits.prediction_type}")
    if config.relative_step:
        raise refuse(TOOL, "relative_step", True, "always gives Adafactor a rate, which relative steps refuse")
    scheduler, scheduler_params, said = _schedule(run)
    linear_falls = config.lr_scheduler == "linear" and config.warmup_steps == 0
    run = run if linear_falls else run.to_the_horizon()
    optimizer_params, more = _optimizer(config)
    scale = config.d_coef if config.optimizer == "DAdaptAdam" else 1.0
    rate = config.effective_learning_rate * scale
    train: dict[str, Any] = {
        "batch_size": config.batch_size,
        "steps": run.steps(run.last_epoch),
        "gradient_accumulation": config.gradient_accumulation_steps,
        "train_unet": True,
        "train_text_encoder": config.train_text_encoder,
        "gradient_checkpointing": config.gradient_checkpointing,
        "noise_scheduler": "flowmatch" if traits.family == "sd3" else "ddpm",
        "optimizer": _OPTIMIZERS[config.optimizer],
        "optimizer_params": optimizer_params,
        "lr": rate,
        "lr_scheduler": scheduler,
        "lr_scheduler_params": scheduler_params,
        "max_grad_norm": config.effective_max_grad_norm or _NEVER,
        "noise_offset": config.noise_offset,
        "dtype": config.precision,
        "loss_type": "mse",
        "disable_sampling": True,
    }
    if traits.family == "sd3":
        train["timestep_type"] = "sigmoid"
    elif config.min_snr_gamma is not None:
        train["min_snr_gamma"] = config.min_snr_gamma
    if any(photo.is_reg for photo in run.dataset.photos):
        train["reg_weight"] = config.prior_loss_weight
    network: dict[str, Any] = {"type": "lora", "linear": config.rank, "linear_alpha": network_alpha(config)}
    if config.conv_rank is not None:
        network |= {"conv": config.conv_rank, "conv_alpha": config.effective_conv_alpha}
    every = saved_every(config, run.ending)
    process: dict[str, Any] = {
        "type": "sd_trainer",
        "training_folder": "output",
        "training_seed": config.seed % 2**32,
        "device": "cuda:0",
        "network": network,
        "save": {
            "dtype": "float16",
            "save_every": run.steps(every),
            "max_step_saves_to_keep": run.last_epoch // every + 1,
        },
        "datasets": _datasets(run, folder, said),
        "train": train,
        "model": {
            "name_or_path": relative(config.base, folder),
            "arch": "sd2" if traits.v2 else _ARCHS[traits.family],
            "is_v_pred": False,
        },
    }
    table = option_table("ai_toolkit")
    table.check("process", process)
    for section in ("network", "save", "train", "model"):
        table.check(section, process[section])
    for dataset in process["datasets"]:
        table.check("dataset", dataset)
    whole = {"job": "extension", "config": {"name": run.name, "process": [process]}, "meta": {"name": "[name]"}}
    notices = (*said, *more, *_notices(run))
    head = "\n".join(comment_lines("\n".join((run.about, *notices))))
    text = f"{head}\n{yaml.safe_dump(whole, sort_keys=False, allow_unicode=True, width=1000)}"
    return ForTrainer(
        {"config.yaml": text}, "ai-toolkit: in this folder, python …/ai-toolkit/run.py $PWD/config.yaml", notices
    )


def _schedule(run: ProductionRun) -> tuple[str, dict[str, Any], list[str]]:
    """Its scheduler, that one's keywords (`total_iters`, the steps trained, it adds itself), and what is lost."""
    config = run.config
    name = config.lr_scheduler
    said: list[str] = []
    if name == "cosine_with_restarts" and config.effective_num_cycles == 1:
        name = "cosine"
    if name in ("cosine_with_restarts", "polynomial"):
        restarts = "cannot restart the rate: its only cycle is as long as the run"
        why = restarts if name == "cosine_with_restarts" else "cannot be told how many steps it falls over"
        raise refuse(TOOL, "lr_scheduler", name, why)
    if name == "constant_with_warmup":
        return "constant_with_warmup", {"num_warmup_steps": config.warmup_steps}, said
    if config.warmup_steps:
        said.append(f"warmup_steps: {config.warmup_steps}: ai-toolkit has none with {name}: left out")
    if name == "linear":
        cut = 1.0 if config.warmup_steps else run.last_epoch / config.epochs
        return "linear", {"start_factor": 1.0, "end_factor": 1.0 - cut}, said
    return "cosine" if name == "cosine" else "constant", {}, said


def _optimizer(config: "TrainConfig") -> tuple[dict[str, Any], list[str]]:
    taken, said = renamed_arguments(TOOL, config, _ARGUMENTS[config.optimizer])
    values: dict[str, Any] = {"weight_decay": config.effective_weight_decay}
    if config.optimizer == "Adafactor":
        values |= {"scale_parameter": False, "relative_step": False, "warmup_init": False}
    if config.optimizer in ("DAdaptAdam", "Prodigy"):
        values["decouple"] = True
        rate = config.effective_learning_rate * (config.d_coef if config.optimizer == "DAdaptAdam" else 1.0)
        if rate < 0.1:
            said.append(f"learning_rate: {rate:g}: ai-toolkit takes 1 for rates below 0.1 with {config.optimizer}")
    if config.optimizer == "Prodigy":
        values["d_coef"] = config.d_coef
    values |= {key: list(value) if isinstance(value, tuple) else value for key, value in taken.items()}
    if config.optimizer in _OWN_EPS:
        said.append(f"optimizer: ai-toolkit's {config.optimizer} has an eps of 1e-6, which cannot be changed")
    return values, said


def _datasets(run: ProductionRun, folder: Path, said: list[str]) -> list[dict[str, Any]]:
    config, found = run.config, []
    for shelf in shelves(run.dataset):
        if shelf.mixed:
            said.append(
                f"{shelf.folder.name}: ai-toolkit reads one kind of caption file a folder; --prepare-photos helps"
            )
        said += several_lines(TOOL, shelf, "reads all of them")
        dataset: dict[str, Any] = {
            "folder_path": relative(str(shelf.folder), folder),
            "caption_ext": shelf.ending or ".txt",
            "default_caption": shelf.words,
            "num_repeats": shelf.repeats,
            "resolution": [round((config.size[0] * config.size[1]) ** 0.5)],
            "buckets": True,  # without, photos that are not square are squeezed
            "square_crop": not config.enable_bucket,
            "caption_dropout_rate": config.caption_dropout,
            "shuffle_tokens": config.shuffle_caption,
            "flip_x": config.flip,
            "cache_latents": True,
        }
        if shelf.is_reg:
            dataset["is_reg"] = True
        found.append(dataset)
    return found


def _notices(run: ProductionRun) -> list[str]:
    config, traits = run.config, run.traits
    said = without(
        TOOL,
        config,
        {
            "dora": "does not name it among its networks: left out",
            "debiased_estimation_loss": "does not have it: left out",
            "noise_offset_random_strength": "always adds the whole offset",
            "ip_noise_gamma": "does not have it: left out",
            "quantize": "does not quantise such bases: left out",
            "clip_skip": "reads the last layer, whatever is asked for",
        },
    )
    if config.targets == "attention":
        said.append("targets: attention: ai-toolkit trains feed-forward and projection layers as well")
    if config.train_text_encoder and config.effective_text_encoder_lr != config.effective_learning_rate:
        said.append(
            f"text_encoder_lr: {config.effective_text_encoder_lr:g}: ai-toolkit trains text encoders at that of "
            f"the denoiser, {config.effective_learning_rate:g}"
        )
    if config.shuffle_caption and config.keep_tokens:
        said.append(f"keep_tokens: {config.keep_tokens}: ai-toolkit shuffles all tags, the trigger's among them")
    if config.flip:
        said.append("flip: ai-toolkit shows each photo plain and mirrored in turn")
    if config.size[0] != config.size[1] or config.enable_bucket:
        said.append("resolution: ai-toolkit has buckets of its own, of as many pixels, without step or bounds")
    if traits.zero_terminal_snr:
        said.append("base: ai-toolkit does not rescale betas to zero terminal SNR")
    if any(photo.is_reg for photo in run.dataset.photos):
        said.append("reg_data: ai-toolkit takes every other step on them")
    if run.ending.needs_copy(config):
        step = run.steps(run.ending.epoch or 0)
        said.append(
            f"epochs: ai-toolkit's schedule ends with its training: it goes on to epoch {run.last_epoch}; of those in "
            f"output/{run.name} take {run.name}_{step:09d}.safetensors (epoch {run.ending.epoch})"
        )
    return said
