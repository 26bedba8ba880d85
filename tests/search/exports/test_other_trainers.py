"""The same run in the words of OneTrainer, ai-toolkit and SimpleTuner, each with its traps stepped around.

The reference is each tool's own reading: names are held against the tables that its sources gave. Learning rates have
a file of their own (`test_other_schedules.py`).
"""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from safetensors.torch import load_file, save_file

from search.errors import SearchError
from search.exports.ai_toolkit import for_ai_toolkit
from search.exports.onetrainer import for_onetrainer
from search.exports.option_tables import option_table
from search.exports.other_trainers import other_trainers
from search.exports.ship_epoch import Ending
from search.exports.simpletuner import for_simpletuner
from tests import tiny
from tests.search.base_predictions import traits
from tests.search.exports.exported import SCHEDULES, ai_toolkit, make_run, onetrainer, simpletuner

OPTIMIZERS = [
    {"optimizer": "AdamW", "optimizer_args": {"betas": [0.9, 0.99], "eps": 1e-7}},
    {"optimizer": "AdamW8bit"},
    {"optimizer": "Adafactor", "optimizer_args": {"eps": [1e-30, 1e-4]}},
    {"optimizer": "Adafactor", "relative_step": True, "lr_scheduler": "adafactor"},
    {"optimizer": "DAdaptAdam", "d_coef": 0.5},
    {"optimizer": "Prodigy", "d_coef": 2.0, "optimizer_args": {"bias_correction": True}},
    {"optimizer": "Lion", "weight_decay": 0.1},
    {"optimizer": "Lion8bit"},
    {"optimizer": "AdamWScheduleFree", "warmup_steps": 10},
]
OTHERS = [
    {"min_snr_gamma": 5.0, "noise_offset": 0.05, "ip_noise_gamma": 0.1},
    {"debiased_estimation_loss": True, "noise_offset": 0.1, "noise_offset_random_strength": True},
    {"train_text_encoder": True, "text_encoder_lr": 2e-5, "clip_skip": 2},
    {"conv_rank": 4, "conv_alpha": 2.0, "targets": "attention", "rslora": True, "rank": 16, "alpha": 4.0},
    {"dora": True, "precision": "bf16"},
    {"quantize": "nf4", "precision": "bf16"},
    {
        "enable_bucket": True,
        "min_bucket_resolution": 64,
        "batch_size": 2,
        "gradient_accumulation_steps": 2,
        "flip": True,
    },
    {"shuffle_caption": True, "keep_tokens": 1, "caption_dropout": 0.1, "resolution": [512, 768]},
]
BASES = [
    traits("sd15"), traits("sd15", velocity=True, v2=True), traits("sdxl", velocity=True, zero_terminal=True),
    traits("sdxl"), traits("sd3"),
]  # fmt: skip
TRANSLATE = {"onetrainer": for_onetrainer, "ai_toolkit": for_ai_toolkit, "simpletuner": for_simpletuner}


@pytest.mark.parametrize("tool", TRANSLATE)
def test_every_name_that_is_written_is_one_of_the_tools(photos, tool):
    table, seen = option_table(tool), 0
    assert "(commit " in table.version
    for changes in (*OPTIMIZERS, *SCHEDULES, *OTHERS):
        for base in BASES:
            try:
                export = TRANSLATE[tool](make_run(photos, base, **changes), Path("/out"))
            except SearchError:
                continue
            for section, values in written(tool, export.files):
                known = set(table.sections[section])
                assert set(values) <= known, (changes, set(values) - known)
                for key, value in values.items():
                    assert value in table.choices.get(f"{section}.{key}", [value]), (section, key, value)
            seen += 1
    assert seen > 40


def written(tool: str, files):
    """(section, values) of each mapping in the files, as the tool reads them: with JSON and YAML of their own."""
    if tool == "onetrainer":
        config, concepts = (json.loads(files[name]) for name in ("config.json", "concepts.json"))
        assert config.pop("__version") == 11
        yield "config", {key: value for key, value in config.items() if not isinstance(value, dict)}
        yield "optimizer", config["optimizer"]
        for part in ("unet", "transformer", "vae", "text_encoder", "text_encoder_2", "text_encoder_3"):
            yield "part", config.get(part, {})
        for concept in concepts:
            assert concept["__version"] == 2
            yield "concept", concept
            yield "image", concept["image"]
            yield "text", concept["text"]
    elif tool == "ai_toolkit":
        (process,) = yaml.safe_load(files["config.yaml"])["config"]["process"]
        yield "process", process
        yield from ((section, process[section]) for section in ("network", "save", "train", "model"))
        yield from (("dataset", dataset) for dataset in process["datasets"])
    else:
        yield "config", json.loads(files["config.json"])
        yield from (("backend", backend) for backend in json.loads(files["multidatabackend.json"]))


def test_a_name_that_the_tool_does_not_know_is_refused():
    with pytest.raises(SearchError, match="OneTrainer: config: epoch: expected an option of OneTrainer, got 3"):
        option_table("onetrainer").check("config", {"epoch": 3})
    with pytest.raises(SearchError, match=r"one of .*COSINE_WITH_HARD_RESTARTS"):
        option_table("onetrainer").check("config", {"learning_rate_scheduler": "COSINE_RESTARTS"})


def test_rank_alpha_rates_and_loss_mean_the_same(photos):
    changes = {"rank": 16, "alpha": 4.0, "learning_rate": 3e-4, "text_encoder_lr": 1e-5, "train_text_encoder": True}
    made = make_run(photos, BASES[3], min_snr_gamma=5.0, noise_offset=0.05, seed=3, **changes)
    config, _ = onetrainer(made)
    assert (config["lora_rank"], config["lora_alpha"]) == (16, 4.0)
    assert config["unet"]["learning_rate"] == 3e-4
    assert {config[part]["learning_rate"] for part in ("text_encoder", "text_encoder_2")} == {1e-5}
    assert (config["loss_weight_fn"], config["loss_weight_strength"]) == ("MIN_SNR_GAMMA", 5.0)
    assert config["offset_noise_weight"] == 0.05
    process = ai_toolkit(made)
    assert (process["network"]["linear"], process["network"]["linear_alpha"]) == (16, 4.0)
    assert (process["train"]["lr"], process["train"]["min_snr_gamma"]) == (3e-4, 5.0)
    assert process["training_seed"] == 3
    notices = for_ai_toolkit(made, Path("/out")).notices
    assert any(line.startswith("text_encoder_lr: 1e-05: ai-toolkit trains") for line in notices)
    with pytest.raises(SearchError, match="train_text_encoder: true: SimpleTuner"):
        simpletuner(made)
    alone = make_run(photos, BASES[3], min_snr_gamma=5.0, noise_offset=0.05, seed=3, rank=16, alpha=4.0, rslora=True)
    values = simpletuner(alone)
    assert (values["lora_rank"], values["lora_alpha"]) == (16, 16.0)
    assert (values["snr_gamma"], values["noise_offset"], values["offset_noise"]) == (5.0, 0.05, True)
    assert values["noise_offset_probability"] == 1.0, "its default gives the offset to a quarter of the batches"


def test_traps_of_the_optimizers(photos):
    optimizer = onetrainer(make_run(photos, optimizer="AdamW8bit"))[0]["optimizer"]
    assert optimizer["block_wise"], "its own default is off"
    optimizer = onetrainer(make_run(photos, optimizer="Prodigy", d_coef=2.0))[0]["optimizer"]
    assert (optimizer["decouple"], optimizer["d_coef"]) == (True, 2.0)
    assert onetrainer(make_run(photos, **OPTIMIZERS[2]))[0]["optimizer"]["eps2"] == 1e-4
    train = ai_toolkit(make_run(photos, optimizer="Adafactor"))["train"]
    assert train["max_grad_norm"] > 1e6, "of 0 it would clip all of every gradient away"
    assert ai_toolkit(make_run(photos, optimizer="DAdaptAdam"))["train"]["optimizer"] == "dadaptation"
    with pytest.raises(SearchError, match="relative_step: true: ai-toolkit"):
        ai_toolkit(make_run(photos, **OPTIMIZERS[3]))
    values = simpletuner(make_run(photos, optimizer="Lion", weight_decay=0.1))
    assert (values["optimizer"], values["optimizer_config"]) == ("bnb-lion", "weight_decay=0.1")
    assert values["grad_clip_method"] == "norm", "its own default clips values"


def test_what_simpletuner_does_not_read_as_it_is_named(photos):
    with pytest.raises(SearchError, match="optimizer: AdamWScheduleFree: SimpleTuner keeps no average"):
        simpletuner(make_run(photos, **OPTIMIZERS[-1]))
    with pytest.raises(SearchError, match=r"base: org/base: SimpleTuner does not take .* Stable Diffusion 2, sd2x"):
        simpletuner(make_run(photos, traits("sd15", v2=True)))
    for seed, told in ((0, 1), (7, 7), (2**31 + 5, 5)):
        made = make_run(photos, seed=seed, shuffle_caption=True)
        assert simpletuner(made)["seed"] == told, "0 is the time of day there"
        export = for_simpletuner(made, Path("/out"))
        assert json.loads(export.files["multidatabackend.json"])[1]["caption_shuffle"]["seed"] == told
        assert any(line.startswith(f"seed: {seed}: ") for line in export.notices) == (seed != told)


def test_onetrainer_is_told_of_a_text_encoder_that_it_cannot_load_and_draws_no_samples(photos, tmp_path):
    base, made = tiny.make_sd15(tmp_path / "base"), make_run(photos)
    file = base / "text_encoder" / "model.safetensors"
    weights = {name.removeprefix("text_model."): tensor for name, tensor in load_file(file).items()}
    for prefix, told in (("", 1), ("text_model.", 0)):
        save_file({f"{prefix}{name}": tensor for name, tensor in weights.items()}, file, {"format": "pt"})
        export = for_onetrainer(replace(made, config=made.config.model_copy(update={"base": str(base)})), Path("/out"))
        said = [line for line in export.notices if "OneTrainer cannot load" in line]
        assert len(said) == told
        assert json.loads(export.files["config.json"])["samples"] == [], "else its command opens a file of its window"


def test_captions_of_several_lines_and_photos_without_one_are_told(photos, tmp_path):
    def told(root: Path, start: str) -> list[list[str]]:
        exports = (translate(make_run(root), Path("/out")) for translate in TRANSLATE.values())
        return [[line for line in export.notices if line.startswith(start)] for export in exports]

    assert told(photos, "3_sks toy") == [[], [], []]
    root = tmp_path / "photos"
    shutil.copytree(photos, root)
    first, second, *_ = sorted((root / "3_sks toy").glob("*.txt"))
    first.write_text(f"{first.read_text()}\nanother line\n")
    onetrainer_says, ai_toolkit_says, simpletuner_says = told(root, "3_sks toy: captions of several lines: ")
    assert ["takes one of them" in line for line in (*onetrainer_says, *simpletuner_says)] == [True, True]
    assert ["reads all of them" in line for line in ai_toolkit_says] == [True]
    second.unlink()
    assert told(root, "3_sks toy: SimpleTuner stops at photos without a .txt; --prepare-photos")[2] != []


def test_warm_up_counts_batches_in_onetrainer_and_one_step_is_no_share_of_the_run(photos):
    config, _ = onetrainer(
        make_run(photos, lr_scheduler="constant_with_warmup", warmup_steps=6, gradient_accumulation_steps=2)
    )
    assert config["learning_rate_warmup_steps"] == 12
    config, _ = onetrainer(make_run(photos, **OPTIMIZERS[-1], gradient_accumulation_steps=2))
    assert config["learning_rate_warmup_steps"] == 10, "this optimizer counts its own steps"
    config, _ = onetrainer(make_run(photos, lr_scheduler="constant_with_warmup", warmup_steps=1))
    assert 1 < config["learning_rate_warmup_steps"] < 2


def test_photos_captions_and_repeats(photos):
    made = make_run(photos, prior_loss_weight=0.5, flip=True)
    _, concepts = onetrainer(made)
    assert [(Path(c["path"]).name, c["balancing"], c["loss_weight"]) for c in concepts] == [
        ("1_sks toy", 1.0, 1.0), ("3_sks toy", 3.0, 1.0), ("1_toy", 1.0, 0.5),
    ]  # fmt: skip
    assert all(Path(c["path"]).is_dir() for c in concepts)
    assert all(c["image_variations"] == c["text_variations"] == 1 for c in concepts), (
        "each photo as it is, once a repeat"
    )
    datasets = ai_toolkit(made)["datasets"]
    assert [d["num_repeats"] for d in datasets] == [1, 3, 1]
    assert datasets[0]["default_caption"] == "sks toy", "what photos without a caption file are called"
    assert [d.get("is_reg", False) for d in datasets] == [False, False, True]
    backends = json.loads(for_simpletuner(made, Path("/out")).files["multidatabackend.json"])
    assert [b.get("repeats") for b in backends] == [0, 2, 0, None], "beyond the first time"
    assert backends[0]["instance_prompt"] == "sks toy"
    assert backends[-1]["dataset_type"] == "text_embeds"
    said = for_onetrainer(made, Path("/out")).notices
    assert any(line.startswith("1_sks toy: no captions") for line in said)


def test_what_goes_on_behind_the_epoch_names_the_file_to_take(photos):
    made = make_run(photos, go_on=True, lr_scheduler="cosine", save_every_n_epochs=2)
    assert onetrainer(made)[0]["epochs"] == 12
    assert any("-4-0.safetensors" in line for line in for_onetrainer(made, Path("/out")).notices)
    assert any("take checkpoint-28" in line for line in for_simpletuner(made, Path("/out")).notices)
    for epoch in (4, None):  # where training ends with the epoch to ship there is none to take
        made = make_run(photos, epoch=epoch, lr_scheduler="constant")
        assert not any("take toy-" in line for line in for_onetrainer(made, Path("/out")).notices)


def test_epochs_of_a_number_of_steps_are_told_in_steps(photos):
    made = make_run(photos, lr_scheduler="cosine", steps_per_epoch=3, gradient_accumulation_steps=2)
    made = replace(made, ending=Ending(4, steps_per_epoch=3, steps_per_pass=7))
    config = onetrainer(made)[0]
    assert (config["epochs"], config["save_every"], config["save_every_unit"]) == (2, 6, "STEP")
    assert config["learning_rate_scheduler"] == "CUSTOM", "over the steps of the run, not those of two passes"
    assert any("-save-24-" in line for line in for_onetrainer(made, Path("/out")).notices)
    assert json.loads(for_simpletuner(made, Path("/out")).files["config.json"])["max_train_steps"] == 12


def test_each_trainer_gets_a_folder_or_a_reason(photos, tmp_path):
    run = make_run(photos, lr_scheduler="cosine_with_restarts", num_cycles=3)
    found = list(other_trainers(replace(run, traits=replace(run.traits, single_file=True)), tmp_path))
    folders = [{file.path.relative_to(tmp_path).parts[0] for file in other.files} for other in found]
    assert folders == [{"sd-scripts", "kohya_ss-dataset.toml", "kohya_ss.json"}, {"onetrainer"}, set(), set()]
    assert found[2].notices[0].startswith("no files for ai-toolkit: lr_scheduler: cosine_with_restarts")
