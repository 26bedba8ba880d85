"""The kohya_ss GUI: its fields, and what it tells sd-scripts when our JSON is opened over other settings."""

import json
from pathlib import Path
from typing import Any

from benchmarks.parity import ours
from benchmarks.parity.checks import Check, ask, verdict
from search.exports.kohya_gui import absolute, to_kohya_gui
from search.exports.option_check import GUI_OPTIONS_FILE
from search.exports.toml import toml

_PATHS = ("dataset_config", "output_dir", "pretrained_model_name_or_path", "config_file")
_DIRTY = {
    "loss_type": "huber", "network_dropout": 0.3, "min_timestep": 200, "max_grad_norm": 5.0, "scale_weight_norms": 1.0,
    "caption_dropout_rate": 0.4, "masked_loss": True, "ip_noise_gamma": 0.1, "noise_offset": 0.2, "full_fp16": True,
    "additional_parameters": "--debiased_estimation_loss", "max_train_steps": 77, "lr_warmup": 50, "seed": 99,
    "weighted_captions": True, "rank_dropout": 0.1, "bucket_no_upscale": True, "v_pred_like_loss": 0.5,
}  # fmt: skip


def run(checkout: Path, python: str, work: Path) -> list[Check]:
    """All checks. sd-scripts is taken from the checkout's own folder `sd-scripts`."""
    made = list(ours.cases(work))
    asked = []
    (work / "base.safetensors").touch()
    for case in made:
        dataset_file = case.folder / "gui-dataset.toml"
        dataset_file.write_text(toml(absolute(case.there.dataset, case.folder)), encoding="utf-8")
        gui = to_kohya_gui(
            case.config, case.there, family=case.traits.family, folder=case.folder, dataset_file=dataset_file,
            total_steps=case.ending.steps_per_epoch * case.ending.last_epoch(case.config),
        )  # fmt: skip
        file = case.folder / "kohya_ss.json"
        file.write_text(json.dumps(gui), encoding="utf-8")
        asked.append({"name": case.name, "file": str(file), "folder": str(case.folder), "script": case.there.script})
    ours.note(work, {"cases": asked, "dirty": _DIRTY})
    found = ask("in_kohya_ss.py", checkout, python, work, more_paths=(checkout / "sd-scripts",))
    return [_fields(found["fields"]), *(_case(case, found["cases"][case.name]) for case in made)]


def _fields(found: dict[str, Any]) -> Check:
    table = json.loads(GUI_OPTIONS_FILE.read_text(encoding="utf-8"))
    known = set(table["fields"]) | set(table["left to the user"])
    wrong = [f"{name} does not exist there" for name in sorted(known - found.keys())]
    wrong += [f"{name} is not in our table" for name in sorted(found.keys() - known)]
    return verdict("fields", wrong, f"all {len(found)} are in our table (version {table['version']})")


def _case(case: ours.Case, theirs: dict[str, Any]) -> Check:
    """What sd-scripts would be told by the GUI, against what our config.toml tells it: every option of both."""
    if theirs.get("refused"):
        return Check("DIFFERS", case.name, theirs["refused"])
    gui, file = theirs["gui"], theirs["file"]
    wrong = []
    for name in sorted(gui.keys() | file.keys()):
        if name in _PATHS or name in theirs["not about training"]:
            continue
        if not _alike(gui.get(name), file.get(name)):
            wrong.append(f"{name}: {gui.get(name)!r} instead of {file.get(name)!r}")
    for name, value in (("dataset_config", "gui-dataset.toml"), ("output_dir", "output")):
        if Path(gui[name]) != (case.folder / value).resolve():
            wrong.append(f"{name}: {gui[name]}")
    if theirs["script"] != case.there.script:
        wrong.append(f"it starts {theirs['script']}")
    return verdict(f"GUI {case.name}", wrong, f"sd-scripts is told the same in all {len(file)} options")


def _alike(one: Any, other: Any) -> bool:
    if isinstance(one, list) and isinstance(other, list | float):
        other = other if isinstance(other, list) else [other] * len(one)  # text_encoder_lr: once for each encoder
        return len(one) == len(other) and all(_alike(a, b) for a, b in zip(one, other, strict=True))
    if isinstance(one, int | float) and isinstance(other, int | float):
        return abs(one - other) <= 1e-9 * abs(other)
    if isinstance(one, str) and isinstance(other, str):
        return one.lower() == other.lower()
    return (one or None) == (other or None)
