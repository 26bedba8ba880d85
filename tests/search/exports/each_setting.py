"""What each setting of a run changes in the files of each other trainer: these keys to these values, and no others.

`each_setting.json` holds it: for each trainer the whole of a plain run for each family, and what every setting alone
changes of it. After a change that is meant, `python -m tests.search.exports.each_setting` writes it anew; read its diff
before it is committed.
"""

import json
import re
import tempfile
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from search.errors import SearchError
from search.exports.ai_toolkit import for_ai_toolkit
from search.exports.kohya_gui import to_kohya_gui
from search.exports.onetrainer import for_onetrainer
from search.exports.production_run import ProductionRun
from search.exports.sdscripts import to_sdscripts
from search.exports.simpletuner import for_simpletuner
from tests.search.base_predictions import traits
from tests.search.exports.exported import make_photos, make_run
from trainer.data.dataset import scan_dataset

TABLE = Path(__file__).with_name("each_setting.json")
BASES = {
    "sd15": traits(), "sd2 of velocities": traits(velocity=True, v2=True), "sd3": traits("sd3"),
    "sdxl": traits("sdxl"), "sdxl of velocities": traits("sdxl", velocity=True, zero_terminal=True),
}  # fmt: skip
TRAINED = {"train_text_encoder": True, "text_encoder_lr": 2e-5}
SETTINGS: dict[str, list[dict[str, Any]]] = {
    "sd15": [
        {"batch_size": 2}, {"gradient_accumulation_steps": 2}, {"resolution": [512, 768]},
        {"enable_bucket": True, "min_bucket_resolution": 64, "max_bucket_resolution": 128},
        {"flip": True}, {"shuffle_caption": True}, {"shuffle_caption": True, "keep_tokens": 1},
        {"caption_dropout": 0.1}, {"clip_skip": 2},
        {"precision": "bf16"}, {"precision": "fp16"}, {"precision": "bf16", "quantize": "nf4"},
        {"gradient_checkpointing": True}, {"seed": 3}, {"save_every_n_epochs": 2}, {"epochs": 20},
        {"rank": 8, "alpha": 2.0}, {"rank": 16, "alpha": 4.0, "rslora": True}, {"conv_rank": 4, "conv_alpha": 2.0},
        {"targets": "attention"}, {"dora": True}, {"learning_rate": 3e-4}, {"learning_rate_scale": 2.0}, TRAINED,
        {"train_text_encoder": True},
        {"min_snr_gamma": 3.0}, {"debiased_estimation_loss": True}, {"noise_offset": 0.05}, {"ip_noise_gamma": 0.1},
        {"noise_offset": 0.05, "noise_offset_random_strength": True}, {"prior_loss_weight": 0.5},
        {"max_grad_norm": 0.0}, {"max_grad_norm": 0.5}, {"weight_decay": 0.1},
        {"optimizer": "AdamW", "optimizer_args": {"betas": [0.9, 0.99], "eps": 1e-7}},
        {"optimizer": "AdamW8bit", "optimizer_args": {"min_8bit_size": 128}},
        {"optimizer": "Adafactor", "optimizer_args": {"eps": [1e-30, 1e-4]}},
        {"optimizer": "Adafactor", "relative_step": True, "lr_scheduler": "adafactor"},
        {"optimizer": "DAdaptAdam", "d_coef": 0.5},
        {"optimizer": "Prodigy", "d_coef": 2.0, "optimizer_args": {"bias_correction": True}},
        {"optimizer": "Prodigy", "optimizer_args": {"foreach": False}},
        {"optimizer": "Lion"}, {"optimizer": "Lion8bit"}, {"optimizer": "AdamWScheduleFree", "warmup_steps": 10},
        {"lr_scheduler": "constant_with_warmup", "warmup_steps": 6}, {"lr_scheduler": "linear", "warmup_steps": 6},
        {"lr_scheduler": "cosine"}, {"lr_scheduler": "cosine", "warmup_steps": 6}, {"lr_scheduler": "polynomial"},
        {"lr_scheduler": "cosine_with_restarts", "num_cycles": 1},
        {"lr_scheduler": "cosine_with_restarts", "num_cycles": 3},
        {"lr_scheduler": "cosine_with_restarts", "cycle_epochs": 5},
    ],
    "sdxl": [TRAINED, {"caption_dropout": 0.1}, {"clip_skip": 2}, {"precision": "fp16"}],
    "sd3": [TRAINED, {"min_snr_gamma": 3.0}, {"targets": "attention"}],
}  # fmt: skip


scanned = cache(scan_dataset)


def files_of(tool: str, run: ProductionRun) -> tuple[dict[str, Any], list[str]]:
    """What is written, read back, and the lines that are said of it."""
    out = Path("/out")
    if tool in ("sd-scripts", "kohya_ss GUI"):
        made = to_sdscripts(run.config, run.dataset, traits=run.traits, folder=out, name=run.name, ending=run.ending)
        if tool == "sd-scripts":
            return {"config": made.config, "dataset": made.dataset}, list(made.notices)
        values = to_kohya_gui(
            run.config, made, family=run.traits.family, folder=out, dataset_file=out / "gui.toml",
            total_steps=run.steps(run.last_epoch),
        )  # fmt: skip
        return values, []
    write = {"OneTrainer": for_onetrainer, "ai-toolkit": for_ai_toolkit, "SimpleTuner": for_simpletuner}[tool]
    made = write(run, out)
    return {name.partition(".")[0]: yaml.load(text, _Numbers) if name.endswith(".yaml") else json.loads(text)
            for name, text in made.files.items()}, list(made.notices)  # fmt: skip


class _Numbers(yaml.SafeLoader):
    """YAML 1.1 takes 1e-05 for text; who reads these files does not."""


TOOLS = ("sd-scripts", "kohya_ss GUI", "OneTrainer", "ai-toolkit", "SimpleTuner")


def flat(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """(place, value) of everything inside."""
    if isinstance(value, Mapping):
        for name, inside in value.items():
            yield from flat(inside, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list) and any(isinstance(each, Mapping) for each in value):
        for place, inside in enumerate(value):
            yield from flat(inside, f"{key}[{place}]")
    else:
        yield key, list(value) if isinstance(value, tuple) else value


def written(photos: Path, tool: str, base: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Every key with its value, and which settings are spoken of."""
    try:
        files, notices = files_of(tool, make_run(photos, BASES[base], dataset=scanned(photos), **changes))
    except SearchError as error:
        return {"refused": str(error).partition(":")[0]}
    found = {key: json.loads(json.dumps(value).replace(str(photos), "PHOTOS")) for key, value in flat(files)}
    return found | {"said of": sorted({line.partition(":")[0].replace(str(photos), "PHOTOS") for line in notices})}


def table_of(photos: Path, tool: str) -> dict[str, Any]:
    plain = {base: written(photos, tool, base, {}) for base in BASES}
    changed: dict[str, Any] = {}
    for base, settings in SETTINGS.items():
        for changes in settings:
            now, before = written(photos, tool, base, changes), plain[base]
            if "refused" in now:
                before = {}
            asked = base + "".join(f", {key}: {json.dumps(value)}" for key, value in changes.items())
            changed[asked] = unlike(now, before)
    first = plain.pop("sd15")
    families = {"sd15": first} | {base: unlike(found, first) for base, found in plain.items()}
    return {"plain": families, "changed": changed}


def unlike(now: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """What differs, as it is now; of several datasets whose change is the same, once."""
    found = {
        key: now.get(key, "is not there")
        for key in {**before, **now}
        if key not in now or key not in before or now[key] != before[key]
    }
    for key, value in list(found.items()):
        head, place, rest = key.rpartition("[0].")
        if not place:
            continue
        same = [name for name in found if re.fullmatch(re.escape(head) + r"\[\d\]\." + re.escape(rest), name)]
        if len(same) == 3 and all(found[name] == value for name in same):
            for name in same:
                del found[name]
            found[f"{head}[each].{rest}"] = value
    return found


def make_captioned(root: Path) -> Path:
    """The photos, with `.caption` files beside the regularisation images."""
    photos = make_photos(root)
    for text in (photos / "reg" / "1_toy").glob("*.txt"):
        text.rename(text.with_suffix(".caption"))
    return photos


def in_lines(table: Mapping[str, Any], depth: int = 0) -> str:
    """JSON with a line for each setting and, of the plain runs, for each key."""
    inner = []
    for key, value in table.items():
        deep = depth < 2 or (depth == 2 and len(json.dumps(value)) > 1000)
        inner.append(f"{json.dumps(key)}: {in_lines(value, depth + 1) if deep else json.dumps(value)}")
    return "{\n" + ",\n".join(inner) + "\n}"


def assert_a_setting_changes_what_it_should_and_nothing_else(home: Path, tool: str) -> None:
    """`home`: an empty folder."""
    found, expected = table_of(make_captioned(home), tool), json.loads(TABLE.read_text())[tool]
    assert found == expected
    assert json.dumps(found) == json.dumps(expected)  # a whole number is no float


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as home:
        here = make_captioned(Path(home))
        TABLE.write_text(in_lines({tool: table_of(here, tool) for tool in TOOLS}) + "\n")
