"""A run in SimpleTuner's words: `config.json`, and the photos in `multidatabackend.json`. Counted in steps."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from search.study.config_yaml import relative

if TYPE_CHECKING:
    from trainer.config.config import TrainConfig

TOOL = "SimpleTuner"
_FAMILIES = {"sd15": "sd1x", "sdxl": "sdxl", "sd3": "sd3"}
_OPTIMIZERS = {
    "AdamW": "torch-adamw",
    "AdamW8bit": "bnb-adamw8bit",
    "Lion": "bnb-lion",
    "Lion8bit": "bnb-lion8bit",
}
_ARGUMENTS = {
    "AdamW": {key: key for key in ("eps", "amsgrad", "foreach", "fused")},
    "AdamW8bit": {key: key for key in ("eps", "min_8bit_size", "is_paged")},
    "Lion": {},
    "Lion8bit": {key: key for key in ("min_8bit_size", "is_paged")},
}
_ATTENTION = ["to_k", "to_q", "to_v", "to_out.0"]
_TARGETS = {
    "unet": [*_ATTENTION, "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2"],
    "transformer": [
        *_ATTENTION, "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out",
        "ff.net.0.proj", "ff.net.2", "ff_context.net.0.proj", "ff_context.net.2",
    ],
}  # fmt: skip
_BASE_PRECISIONS = {None: "no_change", "nf4": "nf4-bnb", "int8": "int8-quanto"}


def for_simpletuner(run: ProductionRun, folder: Path) -> ForTrainer:
    """Both files; paths in them are relative to `folder`, from which it is run.

    Raises:
        SearchError: SimpleTuner cannot train such a run, or a name came out that it does not know.
    """
    config, traits = run.config, run.traits
    if config.optimizer == "AdamWScheduleFree":
        why = "keeps no average under that name, and takes weight_decay itself off the weights at each step"
        raise refuse(TOOL, "optimizer", config.optimizer, why)
    if config.optimizer not in _OPTIMIZERS:
        raise refuse(TOOL, "optimizer", config.optimizer, "has none that does the same")
    if traits.v2:
        raise refuse(TOOL, "base", config.base, "does not take its own name for Stable Diffusion 2, sd2x")
    if config.train_text_encoder:
        raise refuse(TOOL, "train_text_encoder", True, "trains no text encoders with a LoRA")
    if traits.prediction_type not in ("epsilon", "v_prediction", "flow"):
        raise refuse(TOOL, "base", config.base, f"has no base that predicts {traits.prediction_type}")
    schedule, said = _schedule(run)
    run = run if schedule["lr_scheduler"] == "cosine" else run.to_the_horizon()
    optimizer, more = _optimizer(config)
    every = saved_every(config, run.ending)
    targets = _TARGETS["transformer" if traits.family == "sd3" else "unet"]
    values: dict[str, Any] = {
        "model_family": _FAMILIES[traits.family],
        "model_type": "lora",
        "pretrained_model_name_or_path": relative(config.base, folder),
        "output_dir": "output",
        "data_backend_config": "multidatabackend.json",
        "report_to": "none",
        "seed": _seed(config),
        "resolution": config.size[0],
        "resolution_type": "pixel_area" if config.enable_bucket else "pixel",
        "train_batch_size": config.batch_size,
        "gradient_accumulation_steps": config.gradient_accumulation_steps,
        "num_train_epochs": 0,
        "max_train_steps": run.steps(run.last_epoch),
        "checkpoint_step_interval": run.steps(every),
        "checkpoints_total_limit": run.last_epoch // every + 1,
        "lora_type": "standard",
        "lora_rank": config.rank,
        "lora_alpha": network_alpha(config),
        "peft_lora_target_modules": targets if config.targets == "kohya" else targets[: 8 if len(targets) > 8 else 4],
        "use_dora": config.dora,
        "learning_rate": config.effective_learning_rate,
        **schedule,
        **optimizer,
        "max_grad_norm": config.effective_max_grad_norm,
        "grad_clip_method": "norm",
        "mixed_precision": "no" if config.precision == "fp32" else config.precision,
        "base_model_precision": _BASE_PRECISIONS[config.quantize],
        "base_model_default_dtype": "fp32" if config.precision == "fp32" else "bf16",
        "vae_dtype": "fp32",
        "gradient_checkpointing": config.gradient_checkpointing,
        "caption_dropout_probability": config.caption_dropout,
        "offset_noise": bool(config.noise_offset),
        "noise_offset": config.noise_offset,
        "noise_offset_probability": 1.0,
        "input_perturbation": config.ip_noise_gamma,
        "disable_segmented_timestep_sampling": True,
        "minimum_image_size": 0,
        "validation_disable": True,
        "use_ema": False,
        "loss_type": "l2",
    }
    if traits.family != "sd3":
        values["prediction_type"] = traits.prediction_type
        values["rescale_betas_zero_snr"] = traits.zero_terminal_snr
        if config.min_snr_gamma is not None:
            values["snr_gamma"] = config.min_snr_gamma
    backends = _backends(run, folder, said)
    table = option_table("simpletuner")
    table.check("config", values)
    for backend in backends:
        table.check("backend", backend)
    return ForTrainer(
        {
            "config.json": json.dumps(values, indent=1) + "\n",
            "multidatabackend.json": json.dumps(backends, indent=1) + "\n",
        },
        "SimpleTuner: in this folder, CONFIG_PATH=config.json simpletuner train",
        (*said, *more, *_notices(run)),
    )


def _seed(config: "TrainConfig") -> int:
    """The seed, which is 31 bits there; for 0 it would take the time of day."""
    return config.seed % 2**31 or 1


def _schedule(run: ProductionRun) -> tuple[dict[str, Any], list[str]]:
    """Its options of the schedule. The half wave of its cosine is as long as its "warm-up"; of its restarts the rate
    never moves, since it takes every step modulo -1."""
    config = run.config
    name = config.lr_scheduler
    said: list[str] = []
    if name == "cosine_with_restarts" and config.effective_num_cycles == 1:
        name = "cosine"
    if name == "cosine_with_restarts":
        raise refuse(TOOL, "lr_scheduler", name, "never moves the rate with it, by a mistake of its own")
    if name == "cosine":
        if config.warmup_steps:
            said.append(f"warmup_steps: {config.warmup_steps}: SimpleTuner has none with cosine: left out")
        return {"lr_scheduler": name, "lr_warmup_steps": run.steps(config.epochs), "lr_end": 0.0}, said
    values: dict[str, Any] = {"lr_scheduler": name, "lr_warmup_steps": config.warmup_steps}
    if name == "polynomial":
        values |= {"lr_power": 1.0, "lr_end": 1e-7}
    return values, said


def _optimizer(config: "TrainConfig") -> tuple[dict[str, Any], list[str]]:
    given = {key: value for key, value in config.optimizer_args.items() if key != "betas"}
    taken, said = renamed_arguments(
        TOOL, config.model_copy(update={"optimizer_args": given}), _ARGUMENTS[config.optimizer]
    )
    if config.optimizer.startswith("AdamW"):
        taken.setdefault("eps", 1e-8)
    taken = {"weight_decay": config.effective_weight_decay, **taken}
    betas = config.optimizer_args.get("betas") or ((0.9, 0.99) if config.optimizer.startswith("Lion") else (0.9, 0.999))
    assert isinstance(betas, list | tuple)
    return {
        "optimizer": _OPTIMIZERS[config.optimizer],
        "optimizer_config": ",".join(f"{key}={value}" for key, value in taken.items()),
        "optimizer_beta1": betas[0],
        "optimizer_beta2": betas[1],
    }, said


def _backends(run: ProductionRun, folder: Path, said: list[str]) -> list[dict[str, Any]]:
    config, found = run.config, []
    for number, shelf in enumerate(shelves(run.dataset), start=1):
        if shelf.mixed or shelf.ending not in (".txt", ""):
            said.append(
                f"{shelf.folder.name}: SimpleTuner stops at photos without a .txt; --prepare-photos writes one for each"
            )
        said += several_lines(TOOL, shelf, "takes one of them, another each time")
        backend: dict[str, Any] = {
            "id": f"{run.name}-{number}",
            "type": "local",
            "dataset_type": "image",
            "instance_data_dir": relative(str(shelf.folder), folder),
            "metadata_backend": "discovery",
            "cache_dir_vae": f"cache/vae/{number}",
            "caption_strategy": "textfile" if shelf.ending else "instanceprompt",
            "repeats": shelf.repeats - 1,  # beyond the first time
            "resolution": config.size[0],
            "resolution_type": "pixel_area" if config.enable_bucket else "pixel",
            "crop": not config.enable_bucket,
            "minimum_image_size": 0,
        }
        if not shelf.ending:
            backend["instance_prompt"] = shelf.words
        if not config.enable_bucket:
            backend |= {"crop_style": "center", "crop_aspect": "square"}
        if config.shuffle_caption:
            backend["caption_shuffle"] = {
                "enable": True, "count": 8, "seed": _seed(config), "split_on": "comma",
                "position_start": config.keep_tokens, "include_original": False,
            }  # fmt: skip
        found.append(backend)
    texts = {"id": f"{run.name}-texts", "type": "local", "dataset_type": "text_embeds", "default": True}
    return [*found, {**texts, "cache_dir": "cache/text"}]


def _notices(run: ProductionRun) -> list[str]:
    config, traits = run.config, run.traits
    seed = _seed(config)
    said = (
        [] if seed == config.seed else [f"seed: {config.seed}: SimpleTuner draws another for such a seed: told {seed}"]
    )
    said += without(
        TOOL,
        config,
        {
            "conv_rank": "has no LoRA of convolutions beside the others: left out",
            "debiased_estimation_loss": "does not have it: left out",
            "noise_offset_random_strength": "always adds the whole offset",
            "flip": "does not mirror photos: left out",
            "clip_skip": "reads the last layer, whatever is asked for",
        },
    )
    if config.shuffle_caption:
        said.append("shuffle_caption: SimpleTuner shuffles eight times before it begins, and takes one of the eight")
    if config.size[0] != config.size[1] or config.enable_bucket:
        said.append("resolution: SimpleTuner has buckets of its own, without step or bounds")
    if config.batch_size > 1:
        said.append(
            f"batch_size: {config.batch_size}: SimpleTuner wants as many photos in each of its buckets, and more"
        )
    if any(photo.is_reg for photo in run.dataset.photos):
        weight = "" if config.prior_loss_weight == 1 else f" with weight {config.prior_loss_weight:g}"
        said.append(f"reg_data: SimpleTuner trains on them as on photos; it cannot balance them{weight}")
    if config.precision == "fp16" and traits.family == "sdxl":
        said.append("precision: fp16: SimpleTuner's own advice for SDXL is bf16")
    if run.ending.needs_copy(config):
        step = run.steps(run.ending.epoch or 0)
        said.append(
            f"epochs: SimpleTuner's schedule ends with its training: it goes on to epoch {run.last_epoch}; of those in "
            f"output take checkpoint-{step} (epoch {run.ending.epoch})"
        )
    return said
