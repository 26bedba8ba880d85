"""A TrainConfig in the words of kohya's sd-scripts: `config.toml`, `dataset.toml` and the command that runs them.

sd-scripts takes unknown keys in config.toml without a word, so every key is checked here against its own option list
(`sdscripts_options.json`).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.errors import SearchError

if TYPE_CHECKING:
    from trainer.config import TrainConfig
    from trainer.dataset import Dataset

SCRIPTS = {"sd15": "train_network.py", "sdxl": "sdxl_train_network.py", "sd3": "sd3_train_network.py"}
MODULES = {"sd15": "networks.lora", "sdxl": "networks.lora", "sd3": "networks.lora_sd3"}
_OPTIMIZERS = {"Adafactor": "AdaFactor"}
_PRECISIONS = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}
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
OPTIONS_FILE = Path(__file__).with_name("sdscripts_options.json")


@dataclass(frozen=True)
class SdScripts:
    """An export: both files as mappings, the command's words, and what sd-scripts will do differently."""

    config: Mapping[str, Any]
    dataset: Mapping[str, Any]
    command: tuple[str, ...]
    notices: tuple[str, ...]


def to_sdscripts(
    config: "TrainConfig",
    dataset: "Dataset",
    *,
    family: str,
    folder: Path,
    name: str,
    v_prediction: bool = False,
    zero_terminal_snr: bool = False,
) -> SdScripts:
    """Translates a run.

    Args:
        config: the run, with its full horizon.
        dataset: what `scan_dataset` found in its folder.
        family: sd15, sdxl or sd3.
        folder: where the two files will lie; training writes to `folder/output`. Paths are made absolute.
        name: of the LoRA file that sd-scripts will write.
        v_prediction, zero_terminal_snr: of the base.

    Raises:
        SearchError: an option came out that sd-scripts does not know.
    """
    folder = folder.resolve()
    values = {
        "pretrained_model_name_or_path": config.base,
        "dataset_config": str(folder / "dataset.toml"),
        "output_dir": str(folder / "output"),
        "output_name": name,
        "save_model_as": "safetensors",
        "save_precision": "fp16",
        "max_train_epochs": config.epochs,
        "save_every_n_epochs": config.save_every_n_epochs,
        "seed": config.seed,
        "network_module": MODULES[family],
        "network_dim": config.rank,
        "network_alpha": network_alpha(config),
        "max_grad_norm": config.effective_max_grad_norm,
        "gradient_accumulation_steps": config.gradient_accumulation_steps,
        "mixed_precision": _PRECISIONS[config.precision],
        "gradient_checkpointing": config.gradient_checkpointing,
        "cache_latents": True,
        "sdpa": True,
        "max_data_loader_n_workers": 1,
        **_learning(config),
    }
    if not config.train_text_encoder:
        values["network_train_unet_only"] = True
    if config.conv_rank is not None:
        alpha = config.conv_alpha or config.conv_rank
        values["network_args"] = [f"conv_dim={config.conv_rank}", f"conv_alpha={alpha:g}"]
    if config.min_snr_gamma is not None and family != "sd3":
        values["min_snr_gamma"] = config.min_snr_gamma
    if config.noise_offset:
        values["noise_offset"] = config.noise_offset
    if any(photo.is_reg for photo in dataset.photos):
        values["prior_loss_weight"] = config.prior_loss_weight
    if config.clip_skip is not None and family == "sd15":
        values["clip_skip"] = config.clip_skip
    if family == "sdxl":
        values["no_half_vae"] = True
    if v_prediction:
        values["v_parameterization"] = True
    if zero_terminal_snr:
        values["zero_terminal_snr"] = True
    exported = SdScripts(values, _dataset(config, dataset), _command(config, family, folder), _notices(config, family))
    check(exported)
    return exported


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


def check(exported: SdScripts) -> None:
    """Raises SearchError when a key or value is not one that sd-scripts knows."""
    options = json.loads(OPTIONS_FILE.read_text(encoding="utf-8"))
    _check_all("config.toml", exported.config, options["config"])
    for key, allowed in options["choices"].items():
        if key in exported.config and exported.config[key] not in allowed:
            raise SearchError(f"config.toml: {key}: {exported.config[key]!r} is not one of {', '.join(allowed)}")
    _check_all("dataset.toml: general", exported.dataset.get("general", {}), options["general"])
    for dataset in exported.dataset["datasets"]:
        _check_all("dataset.toml: datasets", {k: v for k, v in dataset.items() if k != "subsets"}, options["dataset"])
        for subset in dataset["subsets"]:
            _check_all("dataset.toml: subsets", subset, options["subset"])


def toml(values: Mapping[str, Any], *, comment: str = "") -> str:
    """TOML text of a mapping of plain values, mappings (tables) and lists of mappings (arrays of tables)."""
    lines = [f"# {line}" for line in comment.splitlines()]
    _toml_table(values, (), lines)
    return "\n".join(lines).strip() + "\n"


def _learning(config: "TrainConfig") -> dict[str, Any]:
    scale = config.d_coef if config.optimizer == "DAdaptAdam" else 1.0  # dadaptation has no d_coef: its lr is the same
    # Relative-step Adafactor ignores the rate, but a rate of 0 makes sd-scripts leave the adapters out.
    rate = 1e-3 if config.relative_step else config.effective_learning_rate * scale
    values: dict[str, Any] = {
        "optimizer_type": _OPTIMIZERS.get(config.optimizer, config.optimizer),
        "optimizer_args": optimizer_args(config),
        "learning_rate": rate,
        "unet_lr": rate,
        "lr_scheduler": "adafactor" if config.relative_step else config.lr_scheduler,
        "lr_warmup_steps": 0 if config.optimizer == "AdamWScheduleFree" else config.warmup_steps,
    }
    if config.train_text_encoder:
        values["text_encoder_lr"] = rate if config.relative_step else config.effective_text_encoder_lr * scale
    if config.lr_scheduler == "cosine_with_restarts":
        values["lr_scheduler_num_cycles"] = num_cycles(config)
    return values


def _dataset(config: "TrainConfig", dataset: "Dataset") -> dict[str, Any]:
    shelves: dict[tuple[Path, bool], list[Any]] = {}
    for photo in dataset.photos:
        shelves.setdefault((photo.path.parent, photo.is_reg), []).append(photo)
    subsets = []
    for (path, is_reg), photos in shelves.items():
        words = (photos[0].trigger, photos[0].class_word)
        subset: dict[str, Any] = {"image_dir": str(path.resolve()), "num_repeats": photos[0].repeats}
        if any(words):
            subset["class_tokens"] = " ".join(w for w in words if w)
        if is_reg:
            subset["is_reg"] = True
        if any(p.path.with_suffix(".caption").is_file() and not p.path.with_suffix(".txt").is_file() for p in photos):
            subset["caption_extension"] = ".caption"
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
        one |= {
            "min_bucket_reso": config.min_bucket_resolution,
            "max_bucket_reso": config.max_bucket_resolution,
            "bucket_reso_steps": config.bucket_step,
        }
    return {"general": general, "datasets": [{**one, "subsets": subsets}]}


def _command(config: "TrainConfig", family: str, folder: Path) -> tuple[str, ...]:
    precision = _PRECISIONS[config.precision]
    launch = ("accelerate", "launch", "--num_cpu_threads_per_process=1", f"--mixed_precision={precision}")
    return (*launch, SCRIPTS[family], f"--config_file={folder / 'config.toml'}")


def _notices(config: "TrainConfig", family: str) -> tuple[str, ...]:
    said = []
    if config.targets == "attention":
        said.append(f"targets: attention: {MODULES[family]} trains feed-forward and projection layers as well")
    if config.dora:
        said.append(f"dora: {MODULES[family]} has no DoRA; LyCORIS has (network_module lycoris.kohya, dora_wd=True)")
    if config.rslora:
        said.append(f"rslora: written as network_alpha {network_alpha(config):g}, which gives the same scale")
    if config.quantize is not None:
        said.append(f"quantize: {config.quantize}: sd-scripts does not quantise the base like this (see its fp8_base)")
    if config.lr_scheduler == "cosine_with_restarts" and num_cycles(config) != config.effective_num_cycles:
        said.append(
            f"cycle_epochs: {config.cycle_epochs} does not divide {config.epochs} epochs; sd-scripts takes whole "
            f"cycles ({num_cycles(config)}), each a little shorter"
        )
    for key in config.optimizer_args:
        if key in _UNKNOWN_THERE.get(config.optimizer, ()):
            said.append(f"optimizer_args: {key}: sd-scripts' {config.optimizer} does not have it; left out")
    if config.clip_skip not in (None, 1) and family != "sd15":
        said.append(f"clip_skip: {config.clip_skip}: sd-scripts ignores it for {family}")
    if family == "sd3":
        said.append("sd3: sd-scripts also wants the text encoders' files (--clip_l, --clip_g, --t5xxl)")
    return tuple(said)


def _check_all(where: str, values: Mapping[str, Any], known: Mapping[str, str]) -> None:
    for key, value in values.items():
        if key not in known:
            raise SearchError(f"{where}: {key}: sd-scripts has no such option")
        if not _fits(value, known[key]):
            raise SearchError(f"{where}: {key}: {value!r} is not a {known[key]}, which sd-scripts wants here")


def _fits(value: Any, kind: str) -> bool:
    if kind == "resolution":
        return _fits(value, "int") or (
            isinstance(value, list) and len(value) == 2 and all(_fits(v, "int") for v in value)
        )
    if kind in ("int", "float"):
        return isinstance(value, int if kind == "int" else int | float) and not isinstance(value, bool)
    return isinstance(value, {"bool": bool, "str": str, "list": list}[kind])


def _toml_table(values: Mapping[str, Any], path: Sequence[str], lines: list[str]) -> None:
    nested = {k: v for k, v in values.items() if isinstance(v, Mapping) or _is_tables(v)}
    for key, value in values.items():
        if key not in nested:
            lines.append(f"{key} = {_toml_value(value)}")
    for key, value in nested.items():
        tables = [value] if isinstance(value, Mapping) else value
        head = "[{}]" if isinstance(value, Mapping) else "[[{}]]"
        for table in tables:
            lines += ["", head.format(".".join((*path, key)))]
            _toml_table(table, (*path, key), lines)


def _is_tables(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(v, Mapping) for v in value)


def _toml_value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)  # JSON's escapes are TOML's
    if isinstance(value, list):
        return f"[{', '.join(_toml_value(v) for v in value)}]"
    return repr(value)
