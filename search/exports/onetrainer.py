"""A run in OneTrainer's words: the configuration that its interface loads, and the concepts (folders of photos) apart.

OneTrainer resolves paths against its own folder, so all paths are absolute, as those for the kohya_ss GUI are. It keeps
its own value where a key is missing; each key that changes training is written.
"""

import json
from math import gcd
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.exports.base import about_encoders
from search.exports.kohya_gui import absolute_path
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
from search.exports.ship_epoch import horizon_schedule, saved_every
from search.study.config_yaml import relative
from trainer.config.rules import FLAT_SCHEDULERS

if TYPE_CHECKING:
    from trainer.config.config import TrainConfig

TOOL = "OneTrainer"
_CONFIG_VERSION, _CONCEPT_VERSION = 11, 2  # of its migrations
_DTYPES = {"fp32": "FLOAT_32", "bf16": "BFLOAT_16", "fp16": "FLOAT_16"}
_QUANTIZED = {"nf4": "NFLOAT_4", "int8": "INT_8"}
_OPTIMIZERS = {
    "AdamW": "ADAMW",
    "AdamW8bit": "ADAMW_8BIT",
    "Adafactor": "ADAFACTOR",
    "DAdaptAdam": "DADAPT_ADAM",
    "Prodigy": "PRODIGY",
    "Lion": "LION",
    "Lion8bit": "LION_8BIT",
    "AdamWScheduleFree": "SCHEDULE_FREE_ADAMW",
}
_8BIT = {"min_8bit_size": "min_8bit_size", "is_paged": "is_paged"}
_DADAPT = {
    "d0": "d0",
    "growth_rate": "growth_rate",
    "weight_decouple": "decouple",
    "bias_correction": "use_bias_correction",
    "eps": "eps",
}
_ARGUMENTS = {
    "AdamW": {"eps": "eps", "amsgrad": "amsgrad", "foreach": "foreach", "fused": "fused"},
    "AdamW8bit": {"eps": "eps", **_8BIT},
    "Adafactor": {
        key: key for key in ("clip_threshold", "decay_rate", "beta1", "scale_parameter", "warmup_init", "eps", "eps2")
    },
    "DAdaptAdam": _DADAPT,
    "Prodigy": {**_DADAPT, "beta3": "beta3", "safeguard_warmup": "safeguard_warmup"},
    "Lion": {},
    "Lion8bit": _8BIT,
    "AdamWScheduleFree": {"r": "r", "weight_lr_power": "weight_lr_power", "eps": "eps", "foreach": "foreach"},
}
_SCHEDULERS = {
    "constant": "CONSTANT",
    "constant_with_warmup": "CONSTANT",
    "linear": "LINEAR",
    "cosine": "COSINE",
    "cosine_with_restarts": "COSINE_WITH_HARD_RESTARTS",  # its COSINE_WITH_RESTARTS rises as slowly as it falls
    "adafactor": "ADAFACTOR",
}
_TEXT_ENCODERS = {"sd15": 1, "sdxl": 2, "sd3": 3}


def for_onetrainer(run: ProductionRun, folder: Path) -> ForTrainer:
    """`config.json` and `concepts.json` in `folder`.

    Raises:
        SearchError: OneTrainer cannot train such a run, or a name came out that it does not know.
    """
    config, traits = run.config, run.traits
    if traits.prediction_type not in ("epsilon", "v_prediction", "flow"):
        raise refuse(TOOL, "base", config.base, f"has no base that predicts {traits.prediction_type}")
    optimizer, notices = _optimizer(config)
    concepts, said = _concepts(run)
    table = option_table("onetrainer")
    scale = config.d_coef if config.optimizer == "DAdaptAdam" else 1.0
    width, height = config.size
    values: dict[str, Any] = {
        "training_method": "LORA",
        "model_type": _model_type(run),
        "base_model_name": absolute_path(relative(config.base, folder), folder, hub=True),
        "workspace_dir": str((folder / "workspace").resolve()),
        "cache_dir": str((folder / "cache").resolve()),
        "output_model_destination": str((folder / f"{run.name}.safetensors").resolve()),
        "output_model_format": "DIFFUSERS_LORA" if traits.family == "sd3" else "KOHYA_LORA",
        "output_dtype": "FLOAT_16",
        "concept_file_name": str((folder / "concepts.json").resolve()),
        "samples": [],  # else scripts/train.py opens a file that only its window writes
        "resolution": str(width) if width == height else f"{width}x{height}",
        "aspect_ratio_bucketing": config.enable_bucket or width != height,
        "epochs": run.passes,
        "batch_size": config.batch_size,
        "gradient_accumulation_steps": config.gradient_accumulation_steps,
        **_saves(run),
        "save_skip_first": 0,
        "save_filename_prefix": f"{run.name}-",
        "learning_rate": config.effective_learning_rate * scale,
        "learning_rate_scaler": "NONE",
        **_schedule(run),
        "optimizer": optimizer,
        "clip_grad_norm": config.effective_max_grad_norm or None,
        "train_dtype": _DTYPES[config.precision],
        "ema": "OFF",
        "loss_weight_fn": _loss_weight(config, traits.family),
        "loss_weight_strength": config.min_snr_gamma or 5.0,
        "mse_strength": 1.0,
        "offset_noise_weight": config.noise_offset,
        "generalized_offset_noise": False,
        "perturbation_noise_weight": 0.0,
        "masked_training": False,
        "timestep_distribution": "LOGIT_NORMAL" if traits.family == "sd3" else "UNIFORM",
        "rescale_noise_scheduler_to_zero_terminal_snr": traits.zero_terminal_snr,
        "force_v_prediction": traits.prediction_type == "v_prediction",
        "force_epsilon_prediction": traits.prediction_type == "epsilon",
        "peft_type": "LORA",
        "lora_rank": config.rank,
        "lora_alpha": network_alpha(config),
        "lora_weight_dtype": "FLOAT_32",
        "lora_decompose": config.dora,
        "lora_decompose_norm_epsilon": False,
        "lora_decompose_output_axis": config.dora,  # as peft; by input is its default
        "dropout_probability": 0.0,
        **_layers(config, traits.family),
        **_parts(config, traits.family, scale),
    }
    table.check("config", {key: value for key, value in values.items() if key != "optimizer"})
    table.check("optimizer", optimizer)
    for concept in concepts:
        table.check("concept", concept)
        table.check("image", concept["image"])
        table.check("text", concept["text"])
    return ForTrainer(
        {
            "config.json": json.dumps({"__version": _CONFIG_VERSION, **values}, indent=1) + "\n",
            "concepts.json": json.dumps(concepts, indent=1) + "\n",
        },
        "OneTrainer: load it, or scripts/train.py --config-path config.json",
        (*notices, *said, *_notices(run)),
    )


def _saves(run: ProductionRun) -> dict[str, Any]:
    """How often it saves; its steps are batches."""
    if run.config.steps_per_epoch is None:
        return {"save_every": saved_every(run.config, run.ending), "save_every_unit": "EPOCH"}
    every = gcd(run.config.save_every_n_epochs, run.ending.epoch or run.last_epoch)
    return {"save_every": run.steps(every) * run.config.gradient_accumulation_steps, "save_every_unit": "STEP"}


def _model_type(run: ProductionRun) -> str:
    traits = run.traits
    if traits.family == "sdxl":
        return "STABLE_DIFFUSION_XL_10_BASE"
    if traits.family == "sd3":
        return "STABLE_DIFFUSION_35" if "3.5" in Path(run.config.base).name else "STABLE_DIFFUSION_3"
    if traits.v2:
        return "STABLE_DIFFUSION_21" if traits.prediction_type == "v_prediction" else "STABLE_DIFFUSION_21_BASE"
    return "STABLE_DIFFUSION_15"


def _schedule(run: ProductionRun) -> dict[str, Any]:
    """OneTrainer lays a schedule out over the epochs that it trains; a run that ends before takes diffusers' function
    of it, with all steps."""
    config, ending = run.config, run.ending
    follows = config.lr_scheduler not in FLAT_SCHEDULERS and not config.relative_step
    cut = follows and (run.last_epoch < config.epochs or run.ends_within_a_pass)
    if cut or config.lr_scheduler == "polynomial":
        function, arguments = horizon_schedule(config, ending, config.effective_num_cycles)
        return {
            "learning_rate_scheduler": "CUSTOM",
            "custom_learning_rate_scheduler": function,
            "scheduler_params": [{"key": key, "value": repr(value)} for key, value in arguments.items()],
            "learning_rate_warmup_steps": 0.0,
        }
    warmup = config.warmup_steps * (
        1 if config.optimizer == "AdamWScheduleFree" else config.gradient_accumulation_steps
    )
    return {
        "learning_rate_scheduler": "ADAFACTOR" if config.relative_step else _SCHEDULERS[config.lr_scheduler],
        "learning_rate_warmup_steps": 1.5 if warmup == 1 else float(warmup),  # up to 1 it takes for a share of the run
        "learning_rate_cycles": config.effective_num_cycles,
        "learning_rate_min_factor": 0.0,
    }


def _optimizer(config: "TrainConfig") -> tuple[dict[str, Any], list[str]]:
    name = config.optimizer
    given = dict(config.optimizer_args)
    arguments = config.model_copy(update={"optimizer_args": {k: v for k, v in given.items() if k != "betas"}})
    eps = given.get("eps")
    if name == "Adafactor" and isinstance(eps, list | tuple):
        split = {k: v for k, v in given.items() if k != "eps"} | {"eps": eps[0], "eps2": eps[1]}
        arguments = config.model_copy(update={"optimizer_args": split})
    taken, said = renamed_arguments(TOOL, arguments, _ARGUMENTS[name])
    values: dict[str, Any] = {"optimizer": _OPTIMIZERS[name], "weight_decay": config.effective_weight_decay}
    if name == "Adafactor":
        values |= {"scale_parameter": config.relative_step, "relative_step": config.relative_step, "warmup_init": False}
    else:
        betas = given.get("betas") or ((0.9, 0.99) if name.startswith("Lion") else (0.9, 0.999))
        assert isinstance(betas, list | tuple)
        values |= {"beta1": betas[0], "beta2": betas[1]}
    if name.endswith("8bit"):
        values["block_wise"] = True
    if name in ("DAdaptAdam", "Prodigy"):
        values["decouple"] = True
    if name == "Prodigy":
        values["d_coef"] = config.d_coef
    return {**values, "stochastic_rounding": False, "fused_back_pass": False, **taken}, said


def _loss_weight(config: "TrainConfig", family: str) -> str:
    if family != "sd3" and config.min_snr_gamma is not None:
        return "MIN_SNR_GAMMA"
    return "DEBIASED_ESTIMATION" if family != "sd3" and config.debiased_estimation_loss else "CONSTANT"


def _layers(config: "TrainConfig", family: str) -> dict[str, Any]:
    """The names that a layer's has to hold, as the presets of its interface have them, and the preset's name."""
    if config.targets == "attention":
        return {"layer_filter_preset": "attn-only", "layer_filter": "attn", "layer_filter_regex": False}
    if family == "sd3":  # its preset of blocks holds the layers of norms as well, which are not trained here
        return {"layer_filter_preset": "custom", "layer_filter": "attn,ff", "layer_filter_regex": False}
    return {"layer_filter_preset": "attn-mlp", "layer_filter": "attentions", "layer_filter_regex": False}


def _parts(config: "TrainConfig", family: str, scale: float) -> dict[str, Any]:
    dtype = _DTYPES[config.precision]
    denoiser = {
        "train": True,
        "learning_rate": config.effective_learning_rate * scale,
        "weight_dtype": _QUANTIZED.get(config.quantize or "", dtype),
        "gradient_checkpointing": config.gradient_checkpointing,
    }
    parts: dict[str, Any] = {
        "transformer" if family == "sd3" else "unet": denoiser,
        "vae": {"weight_dtype": "FLOAT_32"},
    }
    for number in range(1, _TEXT_ENCODERS[family] + 1):
        name = "text_encoder" if number == 1 else f"text_encoder_{number}"
        trained = config.train_text_encoder and number < 3  # T5 is not trained here
        parts[name] = {
            "train": trained,
            "learning_rate": config.effective_text_encoder_lr * scale if trained else None,
            "weight_dtype": dtype,
            "dropout_probability": config.caption_dropout,
            "train_embedding": False,
            "gradient_checkpointing": config.gradient_checkpointing,
        }
    if family == "sd15":
        parts["text_encoder_layer_skip"] = (config.clip_skip or 1) - 1
    table = option_table("onetrainer")
    for part in parts.values():
        if isinstance(part, dict):
            table.check("part", part)
    return parts


def _concepts(run: ProductionRun) -> tuple[list[dict[str, Any]], list[str]]:
    config, concepts, said = run.config, [], []
    for shelf in shelves(run.dataset):
        if shelf.mixed or shelf.ending not in (".txt", ""):
            said.append(
                f"{shelf.folder.name}: OneTrainer reads .txt captions alone; --prepare-photos writes one for each"
            )
        elif not shelf.ending:
            said.append(f"{shelf.folder.name}: no captions: OneTrainer has none either; --prepare-photos writes them")
        said += several_lines(TOOL, shelf, "takes one of them, another each time")
        concepts.append(
            {
                "__version": _CONCEPT_VERSION,
                "name": shelf.folder.name,
                "path": str(shelf.folder),
                "seed": config.seed % 2**30,
                "enabled": True,
                "type": "STANDARD",
                "include_subdirectories": False,
                "image_variations": 1,
                "text_variations": 1,
                "balancing": float(shelf.repeats),
                "balancing_strategy": "REPEATS",
                "loss_weight": config.prior_loss_weight if shelf.is_reg else 1.0,
                "image": {"enable_crop_jitter": False, "enable_random_flip": config.flip},
                "text": {
                    "prompt_source": "sample",
                    "enable_tag_shuffling": config.shuffle_caption,
                    "tag_delimiter": ",",
                    "keep_tags_count": config.keep_tokens,
                },
            }
        )
    return concepts, said


def _notices(run: ProductionRun) -> list[str]:
    config, traits = run.config, run.traits
    said = without(
        TOOL,
        config,
        {
            "conv_rank": "gives convolutions the rank of the others, or none: they are left out",
            "ip_noise_gamma": "adds such noise to what is learned as well: left out",
            "noise_offset_random_strength": "always adds the whole offset",
        },
    )
    said.append(
        f"seed: {config.seed}: OneTrainer has one for photos and captions alone: another run comes out each time"
    )
    if traits.family != "sd3" and not traits.single_file and Path(config.base).is_dir():
        said += about_encoders(Path(config.base), "OneTrainer cannot load these")
    if config.batch_size > 1:
        said.append(
            f"batch_size: {config.batch_size}: OneTrainer leaves out photos that do not fill a batch, in each epoch"
        )
    if config.enable_bucket:
        said.append("enable_bucket: OneTrainer has buckets of its own, without step or bounds")
    if config.caption_dropout and _TEXT_ENCODERS[traits.family] > 1:
        said.append("caption_dropout: OneTrainer drops captions of each text encoder by itself")
    if config.clip_skip not in (None, 1) and traits.family != "sd15":
        said.append(f"clip_skip: {config.clip_skip}: left out: Onset ignores it for {traits.family} as well")
    if traits.zero_terminal_snr and traits.prediction_type != "v_prediction":
        said.append("base: with zero terminal SNR OneTrainer takes it for one that predicts v")
    if any(photo.is_reg for photo in run.dataset.photos):
        said.append("reg_data: OneTrainer trains on them as on photos, and balances neither against the other")
    if config.steps_per_epoch is not None and (run.ends_within_a_pass or run.ending.needs_copy(config)):
        batches = run.steps(run.ending.epoch or run.last_epoch) * config.gradient_accumulation_steps
        said.append(
            f"steps_per_epoch: {config.steps_per_epoch}: OneTrainer trains whole passes over the photos, {run.passes} "
            f"of them; of those in workspace/save take {run.name}-…-save-{batches}-….safetensors"
        )
    elif run.ending.needs_copy(config):
        said.append(
            f"OneTrainer ends with epoch {run.last_epoch}; of those in workspace/save take "
            f"{run.name}-…-save-…-{run.ending.epoch}-0.safetensors"
        )
    return said
