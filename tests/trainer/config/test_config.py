"""TrainConfig: every mistake named, every pair judged, numbers as people write them."""

import re
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import get_args

import pytest

from tests.messages import refusal as told_refusal
from trainer.config.config import (
    OptimizerName,
    SchedulerName,
    TrainConfig,
    load_train_config,
    parse_train_config,
)
from trainer.config.rules import check_pair
from trainer.errors import ConfigError
from trainer.optimization.optimizers import OPTIMIZERS
from trainer.production.production_config import load_production

REQUIRED = {"base": "org/base", "data": "photos"}


def config(**values: object) -> TrainConfig:
    return parse_train_config({**REQUIRED, **values})


def refusal(**values: object) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        config(**values)
    return caught.value


def test_dora_on_a_quantised_base_is_refused_and_each_alone_is_not() -> None:
    assert refusal(quantize="nf4", dora=True).key == "dora"
    assert config(dora=True).dora
    assert config(quantize="nf4").quantize == "nf4"


def test_import_loads_nothing_heavy() -> None:
    heavy = {"torch", "pandas", "scipy", "optuna", "diffusers", "transformers", "matplotlib", "numpy"}
    code = f"import sys, trainer.config.config; print(sorted({heavy!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_unknown_key_names_the_nearest_known_one() -> None:
    assert "did you mean rank?" in str(refusal(rnak=8))
    assert refusal(rnak=8).key == "rnak"


def test_a_key_like_no_other_is_told_in_a_line_that_can_be_read() -> None:
    told = str(refusal(xyzzy=8))
    assert told == "xyzzy: expected a known key (docs/fields.md has them all), got 'xyzzy'"


@pytest.mark.parametrize("text", ["study: dog\nsearch: {rank: {values: [4, 8]}}\n", "flow: [a.yaml, b.yaml]\n"])
def test_the_file_of_a_study_is_told_with_the_command_that_runs_it(text: str, tmp_path: Path) -> None:
    (tmp_path / "dog.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_production(tmp_path / "dog.yaml")
    assert len(caught.value.all) == 1
    assert str(caught.value).endswith(f"run it with: python -m search.run {tmp_path / 'dog.yaml'}")


def test_each_refusal_names_key_value_and_what_is_allowed() -> None:
    assert str(refusal(rank=0)) == "rank: expected at least 1, got 0"
    assert "'AdamW', 'AdamW8bit'" in refusal(optimizer="Adam").expected
    assert "did you mean Prodigy?" in refusal(optimizer="prodgy").expected
    assert "did you mean cosine_with_restarts?" in refusal(lr_scheduler="cosine_restarts").expected
    assert refusal(rank=True).key == "rank"
    assert refusal(rank="16").key == "rank"
    assert refusal(resolution=63).expected.startswith("a multiple of 8")
    assert refusal(alpha_ratio=1.5).expected == "at most 1"
    assert refusal(alpha=4.0, alpha_ratio=0.5).key == "alpha_ratio"
    assert refusal(learning_rate=float("nan")).key == "learning_rate"
    assert refusal(learning_rate=1e-4, learning_rate_scale=2.0).key == "learning_rate_scale"
    assert refusal(min_bucket_resolution=2048).key == "min_bucket_resolution"


@pytest.mark.parametrize(
    ("written", "key", "got"),
    [("output: 5", "output", 5), ("output: toy", "output", "toy"), ("output: [name, toy]", "output", ["name", "toy"]),
     ("name: toy", "name", "toy"), ("output: {name: 5}", "output.name", 5),
     ("optimizer_args: [eps]", "optimizer_args", ["eps"]),
     ("output: {ship_epoch: 41}\nepochs: 40", "output.ship_epoch", 41)],
)  # fmt: skip
def test_what_stands_in_the_wrong_place_or_form_is_refused_with_its_key(tmp_path: Path, written, key, got) -> None:
    (tmp_path / "photos").mkdir()
    file = tmp_path / "train.yaml"
    file.write_text(f"base: org/base\ndata: photos\n{written}\n")
    with pytest.raises(ConfigError, match=told_refusal(key, got)) as refused:
        load_production(file)
    assert str(refused.value).startswith(f"{file}: {key}: ")
    assert len(refused.value.all) == 1


def test_a_missing_required_setting_is_named() -> None:
    with pytest.raises(ConfigError, match=told_refusal("data", "nothing")):
        parse_train_config({"base": "org/base"})


def test_numbers_written_with_an_exponent_are_numbers(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    file = tmp_path / "train.yaml"
    file.write_text("base: org/base\ndata: photos\nlearning_rate: 1e-5\noptimizer_args: {eps: 1e-7}\ntrigger: 1e5\n")
    loaded = load_train_config(file)
    assert loaded.learning_rate == 1e-5
    assert loaded.optimizer_args == {"eps": 1e-7}
    assert loaded.trigger == "1e5"


def test_paths_are_resolved_against_the_file_and_hub_ids_are_kept(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "demo" / "base").mkdir(parents=True)
    file = tmp_path / "train.yaml"
    file.write_text("base: demo/base\ndata: photos\n")
    assert load_train_config(file).base == str(tmp_path / "demo" / "base")
    file.write_text("base: org/model\ndata: photos\n")
    assert load_train_config(file).base == "org/model"
    file.write_text("base: ./missing/base\ndata: photos\n")
    with pytest.raises(ConfigError, match=told_refusal("base", "./missing/base", "a path that exists", file)):
        load_train_config(file)
    file.write_text("base: org/model\ndata: phtos\n")
    with pytest.raises(ConfigError, match=told_refusal("data", "phtos")):
        load_train_config(file)


@pytest.mark.parametrize("text", ["- a\n", "base: [\n", "base: a\nbase: b\ndata: c\n"])
def test_broken_files_are_refused_by_name(tmp_path: Path, text: str) -> None:
    file = tmp_path / "train.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=r"train\.yaml"):
        load_train_config(file)


def test_what_webuis_make_of_dora_is_said_where_it_is_chosen() -> None:
    assert config(dora=True).notices() == ()
    (said,) = config(dora=True).cautions()
    assert said.startswith("dora: A1111 and ComfyUI")
    assert config().cautions() == ()
    both = config(min_snr_gamma=5.0, debiased_estimation_loss=True)
    assert both.cautions()[0].startswith("debiased_estimation_loss: ")
    assert "min_snr_gamma" in both.cautions()[0]
    assert config(debiased_estimation_loss=True).cautions() == ()


def test_alpha_is_absolute_or_a_ratio_or_the_rank() -> None:
    assert config(rank=16).effective_alpha == 16
    assert config(rank=16, alpha=0).effective_alpha == 16
    assert "alpha: 0 means rank" in config(rank=16, alpha=0).notices()[0]
    assert config(rank=16, alpha=4).effective_alpha == 4
    assert config(rank=16, alpha_ratio=0.25).effective_alpha == 4


def test_learning_rates_follow_the_optimizer() -> None:
    assert config().effective_learning_rate == 1e-4
    assert config(learning_rate_scale=2.0).effective_learning_rate == 2e-4
    assert config(learning_rate_scale=2.0).effective_text_encoder_lr == 1e-4
    assert config(learning_rate=4e-4).effective_text_encoder_lr == 2e-4
    assert config(optimizer="Prodigy").effective_learning_rate == 1.0
    lion, adamw = OPTIMIZERS["Lion"], OPTIMIZERS["AdamW"]
    assert 3 <= adamw.learning_rate / lion.learning_rate <= 10
    assert 3 <= lion.weight_decay / adamw.weight_decay <= 10
    assert config(optimizer="Adafactor").effective_max_grad_norm == 0
    assert config(optimizer="Adafactor", max_grad_norm=0.5).effective_max_grad_norm == 0.5


def test_cycles_are_a_number_or_a_length_in_epochs() -> None:
    restarts = {"lr_scheduler": "cosine_with_restarts"}
    assert config(**restarts, num_cycles=3).effective_num_cycles == 3
    assert config(**restarts, cycle_epochs=4, epochs=12).effective_num_cycles == 3
    assert config(**restarts, cycle_epochs=4, epochs=10).effective_num_cycles == 2.5
    assert config(**restarts).effective_num_cycles == 1
    assert refusal(**restarts, num_cycles=2, cycle_epochs=2).key == "cycle_epochs"
    (said,) = config(**restarts, num_cycles=1).notices()
    assert re.search(r"cosine_with_restarts .*one.* cosine\b", said)


def test_warm_up_belongs_to_schedules_that_have_one() -> None:
    assert refusal(warmup_steps=10).key == "warmup_steps"
    assert refusal(lr_scheduler="constant_with_warmup").key == "warmup_steps"
    assert config(lr_scheduler="cosine", warmup_steps=10).warmup_steps == 10
    assert config(optimizer="AdamWScheduleFree", warmup_steps=10).warmup_steps == 10


def test_pairs_that_cannot_work_are_refused_with_a_reason() -> None:
    refused = {
        (optimizer, scheduler, relative)
        for optimizer, scheduler, relative in product(get_args(OptimizerName), get_args(SchedulerName), (False, True))
        if check_pair(optimizer, scheduler, relative)
    }
    others = set(get_args(OptimizerName)) - {"Adafactor"}
    schedulers = set(get_args(SchedulerName))
    expected = {(o, s, True) for o in others for s in schedulers}
    expected |= {(o, "adafactor", False) for o in (*others, "Adafactor")}
    expected |= {("Adafactor", s, True) for s in schedulers - {"adafactor", "constant"}}
    expected |= {("AdamWScheduleFree", s, False) for s in schedulers - {"constant"}}
    assert refused == expected
    assert (refused := refusal(optimizer="Adafactor", lr_scheduler="adafactor")).key == "relative_step"
    assert refused.expected.startswith("true")
    assert refusal(relative_step=True).key == "relative_step"


def test_settings_without_effect_are_said_once() -> None:
    assert config().notices() == ()
    said = config(keep_tokens=1, d_coef=2.0, num_cycles=3, text_encoder_lr=1e-5, bucket_step=32).notices()
    assert len(said) == 5
    assert all("takes no effect" in sentence for sentence in said)
    (said,) = config(noise_offset_random_strength=True).notices()
    assert said.startswith("noise_offset_random_strength: True takes no effect: noise_offset is 0")
    assert config(noise_offset_random_strength=True, noise_offset=0.05, ip_noise_gamma=0.1).notices() == ()
    assert "sd3" in config(family="sd3", debiased_estimation_loss=True).notices()[0]
    relative = config(optimizer="Adafactor", relative_step=True, lr_scheduler="adafactor", learning_rate=1e-3)
    assert "relative-step Adafactor sets its own rate" in relative.notices()[0]


@pytest.mark.parametrize(
    ("optimizer", "rates", "said"),
    [
        (
            "Prodigy",
            {"learning_rate": 1e-4},
            "learning_rate: 0.0001 will not work: it takes a rate of about 1 with Prodigy",
        ),
        (
            "DAdaptAdam",
            {"learning_rate": 5e-3},
            "learning_rate: 0.005 will not work: it takes a rate of about 1 with DAda",
        ),
        ("Prodigy", {"learning_rate_scale": 1e-4}, "learning_rate_scale: 0.0001 will not work"),
        ("AdamW", {"learning_rate": 1.0}, "learning_rate: 1 will not work: it takes a rate of about 0.0001 with AdamW"),
        (
            "Lion8bit",
            {"learning_rate": 0.5},
            "learning_rate: 0.5 will not work: it takes a rate of about 2e-05 with Lion8",
        ),
        ("AdamWScheduleFree", {"learning_rate_scale": 5000.0}, "learning_rate_scale: 5000 will not work"),
        ("Prodigy", {}, None),
        ("Prodigy", {"learning_rate": 0.5}, None),
        ("DAdaptAdam", {"learning_rate": 0.1, "d_coef": 0.2}, None),
        ("AdamW", {"learning_rate": 2e-2}, None),
        ("Adafactor", {"learning_rate": 0.5, "optimizer_args": {"scale_parameter": True}}, None),
    ],
)
def test_a_rate_of_another_kind_of_optimizer_is_told(optimizer: str, rates: dict, said: str | None) -> None:
    notices = config(optimizer=optimizer, **rates).notices()
    if said is None:
        assert notices == ()
    else:
        (notice,) = notices
        assert notice.startswith(said)
        assert "learning_rate_scale" in notice


def test_buckets_fit_the_resolution_and_rounded_bounds_are_told() -> None:
    refused = refusal(enable_bucket=True, resolution=64, bucket_step=128, min_bucket_resolution=64)
    assert (refused.key, refused.expected) == ("bucket_step", "at most the resolution's shorter side (64)")
    assert (
        refusal(enable_bucket=True, resolution=(128, 64), bucket_step=72, min_bucket_resolution=8).key == "bucket_step"
    )
    oblong = {"enable_bucket": True, "resolution": (640, 512)}
    for key, value, expected in (
        ("bucket_step", 520, "at most the resolution's shorter side (512)"),
        ("min_bucket_resolution", 520, "at most the resolution's shorter side (512)"),
        ("max_bucket_resolution", 632, "at least the resolution's longer side (640)"),
    ):
        refused = refusal(**oblong, **{key: value})
        assert (refused.key, refused.expected) == (key, expected)
    for key, value in (("bucket_step", 512), ("min_bucket_resolution", 512), ("max_bucket_resolution", 640)):
        assert getattr(config(**oblong, **{key: value}), key) == value
    bounds = {"min_bucket_resolution": 37, "max_bucket_resolution": 131}
    assert config(enable_bucket=True, resolution=64, bucket_step=16, **bounds).notices() == (
        "min_bucket_resolution: 37 is taken as 32, a multiple of bucket_step, as by sd-scripts",
        "max_bucket_resolution: 131 is taken as 144, a multiple of bucket_step, as by sd-scripts",
    )
    assert config(enable_bucket=True).notices() == ()


def test_prodigy_has_one_rate_for_all_parts() -> None:
    assert refusal(optimizer="Prodigy", train_text_encoder=True, text_encoder_lr=0.5).key == "text_encoder_lr"
    assert config(optimizer="Prodigy", train_text_encoder=True).effective_text_encoder_lr == 1.0


def test_optimizer_args_are_those_of_the_optimizer() -> None:
    assert "did you mean betas?" in refusal(optimizer_args={"beta": [0.9, 0.99]}).expected
    assert config(optimizer_args={"betas": [0.9, 0.99]}).optimizer_args["betas"] == [0.9, 0.99]


@pytest.mark.parametrize(
    ("optimizer", "arguments", "wanted"),
    [
        ("AdamW", {"eps": -1}, "0 or more"),
        ("AdamWScheduleFree", {"decoupling_c": -2}, "0 or more"),
        ("Prodigy", {"d0": 0}, "above 0"),
        ("Prodigy", {"beta3": 1.5}, "from 0 to below 1"),
        ("Adafactor", {"clip_threshold": 0}, "above 0"),
    ],
)
def test_numbers_that_an_optimizer_cannot_work_with_are_refused_before_it_is_made(
    optimizer: str, arguments: dict[str, float], wanted: str
) -> None:
    refused = refusal(optimizer=optimizer, optimizer_args=arguments)
    assert refused.key == "optimizer_args"
    assert wanted in refused.expected
    assert next(iter(arguments)) in refused.expected


def test_every_field_is_described() -> None:
    properties = TrainConfig.model_json_schema()["properties"]
    assert [name for name, field in properties.items() if not field.get("description")] == []
    assert set(get_args(OptimizerName)) == set(OPTIMIZERS)


@pytest.mark.parametrize("word", ["sks", "ohwx man", "ツバメ　の子", "می\u200cخواهم", "l'été", "a, b"])
def test_words_of_any_script_are_triggers(word: str) -> None:
    assert config(trigger=word, class_word=word).trigger == word


@pytest.mark.parametrize("word", ["", "  ", "a\nb", "a\u2028b", "a\x00b", "a" * 201])
def test_what_no_caption_can_say_is_no_trigger(word: str) -> None:
    assert refusal(trigger=word).key == "trigger"
    assert refusal(class_word=word).expected.startswith("words in one line")


def test_every_mistake_of_a_file_is_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "train.yaml"
    path.write_text(
        "base: nowhere/at/all\nrnak: 8\nresolution: 1000000\nbatch_size: 0\nseed: x\nsample_steps: 3\n"
        "output: {name: a/b, ship_epoch: 0, sample_stesp: 4}\n"
    )
    with pytest.raises(ConfigError) as refused:
        load_production(path)
    lines = str(refused.value).splitlines()
    wrong = {line.split(": ")[1]: line for line in lines}
    named = {"base", "rnak", "resolution", "batch_size", "seed", "sample_steps", "data"}
    assert set(wrong) == named | {"output.name", "output.ship_epoch", "output.sample_stesp"}
    assert all(line.startswith(f"{path}: ") and ": expected " in line and ", got " in line for line in lines)
    assert "did you mean rank?" in wrong["rnak"]
    assert "a multiple of 8 from 8 to 16384" in wrong["resolution"]
    assert (refused.value.key, len(refused.value.all)) == ("base", len(lines))


def test_all_settings_that_do_not_go_together_are_told_at_once() -> None:
    settings = {"base": "b", "data": "d", "alpha": 4, "alpha_ratio": 0.5, "resolution": 500, "warmup_steps": 5}
    with pytest.raises(ConfigError) as refused:
        parse_train_config(settings)
    assert [error.key for error in refused.value.all] == ["alpha_ratio", "resolution", "warmup_steps"]
