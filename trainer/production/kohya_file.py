"""A run in the words of kohya's sd-scripts (config.toml) or of the kohya_ss GUI (its JSON), read as our train.yaml."""

from __future__ import annotations

import ast
import json
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.data.dataset import SHELF, scan_dataset
from trainer.errors import ConfigError, DataError, Plain, shown
from trainer.other_words import HARMLESS, NOT_HERE, WORDS

ENDINGS = (".toml", ".json")
MOST_BYTES = 2**20
MODULES = ("", "networks.lora", "networks.lora_sd3")
KINDS = ("", "Standard", "Kohya LoCon")
_SAME = (
    "seed", "gradient_accumulation_steps", "enable_bucket", "shuffle_caption", "keep_tokens", "min_snr_gamma",
    "debiased_estimation_loss", "noise_offset", "noise_offset_random_strength", "ip_noise_gamma", "prior_loss_weight",
    "gradient_checkpointing", "save_every_n_epochs", "lr_scheduler", "max_grad_norm",
)  # fmt: skip
_RENAMED = {
    name: WORDS.get(name, name)
    for name in (
        "network_dim", "network_alpha", "conv_dim", "conv_alpha", "train_batch_size", "max_resolution", "resolution",
        "mixed_precision", "flip_aug", "caption_dropout_rate", "min_bucket_reso", "max_bucket_reso",
        "bucket_reso_steps", "optimizer_type", "optimizer",
    )
}  # fmt: skip
_DEFAULTS = {"network_dim": 4, "network_alpha": 1, "optimizer_type": "AdamW", "max_train_steps": 1600,
             "learning_rate": 2e-6}  # fmt: skip
"""What sd-scripts does where its file leaves something out, and we do otherwise."""
_ZERO_IS_NONE = ("min_snr_gamma", "noise_offset", "ip_noise_gamma", "conv_dim", "conv_alpha", "seed",
                 "save_every_n_epochs", "noise_offset_random_strength", "keep_tokens")  # fmt: skip
_READ = frozenset((
    *_SAME, *_RENAMED, *_DEFAULTS, "pretrained_model_name_or_path", "train_data_dir", "reg_data_dir", "dataset_config",
    "unet_lr", "text_encoder_lr", "network_train_unet_only", "network_module", "network_args", "optimizer_args",
    "max_train_epochs", "epoch", "lr_scheduler_num_cycles", "lr_warmup_steps", "lr_warmup", "output_name", "clip_skip",
    "save_every_n_steps", "LoRA_type", "stop_text_encoder_training",
))  # fmt: skip
_PARTS = 20
"""Into as many epochs the steps between two checkpoints are cut at most."""
_OPTIMIZER_ARGS = {"decouple": "weight_decouple", "use_bias_correction": "bias_correction"}


@dataclass(frozen=True)
class KohyaRun:
    """Settings as a train.yaml would have them, and what has to be said of those that were not taken over."""

    values: dict[str, Any]
    notes: tuple[str, ...]


def read_kohya_file(path: Path) -> KohyaRun:
    """A run of sd-scripts (TOML) or of the kohya_ss GUI (JSON). Paths are relative to the file, or else to the working
    folder, as sd-scripts has them.

    Raises:
        ConfigError: it cannot be read, names no base or photos, or trains with something that we do not have.
    """
    theirs = _flat(_load(path))
    notes: list[str] = []
    ours: dict[str, Any] = {}
    module, kind = str(theirs.get("network_module") or ""), str(theirs.get("LoRA_type") or "")
    if module not in MODULES:
        raise ConfigError(path, "network_module", module, "networks.lora", "a plain LoRA or LoCon is trained here")
    if kind not in KINDS:
        raise ConfigError(path, "LoRA_type", kind, f"{KINDS[1]} or {KINDS[2]}")
    said = {**_DEFAULTS, **{key: value for key, value in theirs.items() if value is not None}}
    if "optimizer" in theirs:
        said.pop("optimizer_type")
    said |= _pairs(path, "network_args", said.pop("network_args", ()))
    base = said.get("pretrained_model_name_or_path")
    if not base:
        raise ConfigError(path, "pretrained_model_name_or_path", None, "the base model's path or hub id")
    ours["base"] = _place(path, str(base))
    ours |= _photos(path, said)
    for key in (*_SAME, *_RENAMED):
        if key in said and not (key in _ZERO_IS_NONE and not said[key]) and said[key] != "":
            ours[_RENAMED.get(key, key)] = said[key]
    if kind == KINDS[1]:
        ours.pop("conv_rank", None)
    if "conv_rank" not in ours:
        ours.pop("conv_alpha", None)
    ours["resolution"] = _resolution(ours.get("resolution", 512))
    if isinstance(ours.get("precision"), bool):
        ours["precision"] = "no"
    if said.get("clip_skip") not in (None, 0, 1):
        ours["clip_skip"] = said["clip_skip"]
    _optimizer(path, said, ours)
    _rates(said, ours)
    _course(path, said, ours, notes)
    if said.get("output_name"):
        ours["output"] = {"name": str(said["output_name"])}
    left = [key for key, off in NOT_HERE.items() if said.get(key) not in (None, "", False, [], off)]
    if path.suffix.lower() == ".toml":
        left += [key for key in theirs if key not in _READ and key not in NOT_HERE and key not in HARMLESS]
    if left:
        notes.append(f"{path.name}: not taken over, because there is nothing like it here: {', '.join(left)}")
    missing = [
        f"{key}: {value}"
        for key, value in _DEFAULTS.items()
        if key not in theirs and key in _TOLD and not (key == "learning_rate" and theirs.get("unet_lr"))
    ]
    if missing:
        notes.append(f"{path.name}: left out there, so as in sd-scripts: {', '.join(missing)}")
    return KohyaRun(ours, tuple(notes))


_TOLD = ("network_dim", "network_alpha", "learning_rate")


def _load(path: Path) -> dict[str, Any]:
    kind = "a TOML file of sd-scripts" if path.suffix.lower() == ".toml" else "a JSON file of the kohya_ss GUI"
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ConfigError(path, "", Plain(f"{path.stat().st_size:,} bytes"), f"{kind}, at most 1 MiB")
        text = path.read_bytes().decode("utf-8-sig")
        values = tomllib.loads(text) if path.suffix.lower() == ".toml" else json.loads(text)
    except OSError as error:
        raise ConfigError(shown(str(path)), "", None, f"{kind} that can be read", str(error.strerror)) from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(path, "", Plain(f"a mistake ({' '.join(str(error).split())[:200]})"), kind) from None
    if not isinstance(values, dict):
        raise ConfigError(path, "", values, kind)
    return values


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """Sections of a config.toml are only for the eye."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= value if isinstance(value, dict) else {key: value}
    return flat


def _place(path: Path, named: str) -> str:
    beside = path.parent / named
    there = Path(named)
    return str(there.resolve()) if not beside.exists() and there.exists() else named


def _photos(path: Path, said: Mapping[str, Any]) -> dict[str, Any]:
    """`data` and `reg_data`, and what a dataset file says of how photos are fed."""
    if not said.get("dataset_config"):
        if not said.get("train_data_dir"):
            raise ConfigError(path, "train_data_dir", None, "the folder of photos")
        found = {"data": _place(path, str(said["train_data_dir"]))}
        return found | ({"reg_data": _place(path, str(said["reg_data_dir"]))} if said.get("reg_data_dir") else {})
    file = Path(_place(path, str(said["dataset_config"])))
    file = file if file.is_absolute() else path.parent / file
    values = _load(file)
    datasets = values.get("datasets") or [{}]
    if len(datasets) > 1:
        raise ConfigError(file, "datasets", Plain(f"{len(datasets)}"), "one dataset, because a run has one resolution")
    feed = {**values.get("general", {}), **datasets[0]}
    found = {_RENAMED.get(key, key): feed[key] for key in feed if key in (*_SAME, *_RENAMED)}
    if "batch_size" in feed:
        found["batch_size"] = feed["batch_size"]
    folders: dict[bool, set[Path]] = {False: set(), True: set()}
    for number, subset in enumerate(feed.get("subsets", ())):
        place = file.parent / str(subset.get("image_dir", ""))
        shelf = SHELF.fullmatch(place.name)
        repeats = subset.get("num_repeats", feed.get("num_repeats", 1))
        if shelf is None or int(shelf[1]) != repeats:
            expected = f"a folder whose name begins with its repeats ({repeats}_sks dog)"
            raise ConfigError(file, f"datasets.subsets[{number}].image_dir", str(place), expected)
        folders[bool(subset.get("is_reg"))].add(place.parent)
    for is_reg, key in ((False, "data"), (True, "reg_data")):
        if len(folders[is_reg]) > 1 or (not is_reg and not folders[is_reg]):
            raise ConfigError(file, "datasets.subsets", sorted(map(str, folders[is_reg])), "folders in one folder")
        if folders[is_reg]:
            found[key] = str(*folders[is_reg])
    if found.get("reg_data") == str(Path(found["data"]) / "reg"):
        found.pop("reg_data")
    return found


def _resolution(written: Any) -> Any:
    sides = [int(side) for side in str(written).replace("x", ",").split(",")] if isinstance(written, str) else written
    if isinstance(sides, list):
        return sides[0] if len(set(sides)) == 1 else sides
    return sides


def _pairs(path: Path, key: str, written: Any) -> dict[str, Any]:
    """`name=value` words, as a list or, from the GUI, in one text."""
    words = written.split() if isinstance(written, str) else list(written or ())
    found = {}
    for word in words:
        name, equals, value = str(word).partition("=")
        if not equals:
            raise ConfigError(path, key, word, "words such as weight_decay=0.1")
        try:
            found[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            found[name] = value
    return found


def _optimizer(path: Path, said: Mapping[str, Any], ours: dict[str, Any]) -> None:
    arguments = _pairs(path, "optimizer_args", said.get("optimizer_args", ()))
    for key in ("weight_decay", "d_coef", "relative_step"):
        if key in arguments:
            ours[key] = arguments.pop(key)
    if str(ours.get("optimizer", "")).lower() == "adafactor":
        ours.setdefault("relative_step", True)
        arguments.pop("warmup_init", None)
        if arguments.get("scale_parameter") == ours["relative_step"]:
            arguments.pop("scale_parameter")
        if ours["relative_step"]:
            ours["lr_scheduler"] = "adafactor"
    if "schedulefree" in str(ours.get("optimizer", "")).lower() and "warmup_steps" in arguments:
        ours["warmup_steps"] = arguments.pop("warmup_steps")
    finds_its_rate = str(ours.get("optimizer", "")).lower() in ("prodigy", "dadaptadam", "dadaptation")
    if finds_its_rate and arguments.get("decouple") is True:
        del arguments["decouple"]
    named = {_OPTIMIZER_ARGS.get(key, key): value for key, value in arguments.items()}
    if named:
        ours["optimizer_args"] = {k: list(v) if isinstance(v, tuple) else v for k, v in named.items()}


def _rates(said: Mapping[str, Any], ours: dict[str, Any]) -> None:
    rate = float(said.get("unet_lr") or said["learning_rate"])
    if not ours.get("relative_step"):
        ours["learning_rate"] = rate
    encoder = said.get("text_encoder_lr")
    encoder = encoder[0] if isinstance(encoder, list) and encoder else encoder
    ours["train_text_encoder"] = not said.get("network_train_unet_only") and encoder != 0
    if ours["train_text_encoder"] and not ours.get("relative_step"):
        ours["text_encoder_lr"] = float(encoder or said["learning_rate"])


def _course(path: Path, said: Mapping[str, Any], ours: dict[str, Any], notes: list[str]) -> None:
    """Epochs, checkpoints, cycles and warm-up; sd-scripts also counts them in steps."""
    steps = _Steps(path, ours)
    epochs = int(said.get("max_train_epochs") or (said.get("epoch") if not said.get("max_train_steps") else 0) or 0)
    if not epochs and path.suffix.lower() == ".json":
        epochs = int(said.get("epoch") or 0)
    by_steps = not epochs
    if by_steps:
        epochs = max(1, math.ceil(int(said["max_train_steps"]) / steps.each))
        if not said.get("save_every_n_steps"):
            notes.append(
                f"{path.name}: max_train_steps: {said['max_train_steps']} are {epochs} epochs of {steps.each} steps"
            )
    ours["epochs"] = epochs
    length = 0 if not said.get("save_every_n_steps") else int(said["save_every_n_steps"])
    if length:
        total = epochs * steps.each if not by_steps else int(said["max_train_steps"])
        ours |= _saved_by_steps(length, total, steps.each)
        notes.append(_how_saved(path, length, total, ours))
        epochs = ours["epochs"]
    ours.setdefault("save_every_n_epochs", epochs)
    if ours.get("lr_scheduler") == "cosine_with_restarts":
        ours["num_cycles"] = int(said.get("lr_scheduler_num_cycles") or 1)
    warmup = said.get("lr_warmup_steps") or 0
    if isinstance(warmup, float) and warmup < 1:
        warmup = round(warmup * epochs * ours.get("steps_per_epoch", steps.each))
    if not warmup and said.get("lr_warmup"):
        warmup = round(float(said["lr_warmup"]) / 100 * epochs * ours.get("steps_per_epoch", steps.each))
    if warmup and ours.get("lr_scheduler", "constant") not in ("constant", "adafactor"):
        ours["warmup_steps"] = int(warmup)


def _saved_by_steps(length: int, total: int, each: int) -> dict[str, int]:
    """Epochs such that one ends at every `length` steps and at `total`; passes over the photos, of `each` steps, where
    these do. Where that takes very short ones, the run ends with the last `length` instead, a few steps later."""
    if length % each == 0 and total % each == 0:
        return {"epochs": total // each, "save_every_n_epochs": length // each}
    length = min(length, total)
    short = math.gcd(length, total)
    if short * _PARTS < length:
        return {"epochs": math.ceil(total / length), "steps_per_epoch": length, "save_every_n_epochs": 1}
    return {"epochs": total // short, "steps_per_epoch": short, "save_every_n_epochs": length // short}


def _how_saved(path: Path, length: int, total: int, ours: Mapping[str, Any]) -> str:
    """The sentence that says what became of `save_every_n_steps`."""
    each, every = ours.get("steps_per_epoch"), ours["save_every_n_epochs"]
    said = f"{path.name}: save_every_n_steps: {length}: "
    if each is None:
        return f"{said}a checkpoint every {every} epochs"
    epochs = f"{ours['epochs']} epochs of {each} steps here (steps_per_epoch)"
    longer = "" if ours["epochs"] * each == total else f", {ours['epochs'] * each} steps instead of {total}"
    return f"{said}the run is {epochs}{longer}" + (f", with a checkpoint at every {every}th" if every > 1 else "")


class _Steps:
    """Optimizer steps of an epoch, counted only where they are asked for."""

    def __init__(self, path: Path, ours: Mapping[str, Any]) -> None:
        self._path, self._ours = path, ours

    @property
    def each(self) -> int:
        data = self._path.parent / self._ours["data"]
        reg = self._ours.get("reg_data")
        try:
            found = scan_dataset(data, reg_data=None if reg is None else self._path.parent / reg)
        except DataError as error:
            raise ConfigError(
                self._path, "max_train_steps", None, "max_train_epochs, or photos to count", str(error).split("\n")[0]
            ) from None
        photos = sum(photo.repeats for photo in found.photos if not photo.is_reg)
        both = photos * (2 if any(photo.is_reg for photo in found.photos) else 1)
        batches = math.ceil(both / int(self._ours.get("batch_size", 1)))
        return max(1, math.ceil(batches / int(self._ours.get("gradient_accumulation_steps", 1))))
