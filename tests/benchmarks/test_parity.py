"""The parity kit asks other tools the right thing; their answers need the tools themselves."""

import json
import subprocess
import sys
import tomllib

import pytest
import torch

from benchmarks.parity import kohya_ss, onetrainer_training, ours, sdscripts, training
from benchmarks.parity.checks import ask, verdict
from search.exports.base import encoders_of_transformers_5
from search.exports.option_check import OPTIONS_FILE
from tests.search.study_processes import STUDIES
from trainer.base_model.load import load_base
from trainer.config.config import parse_train_config
from trainer.data.dataset import scan_dataset
from trainer.packing.builder import pack_settings, run_settings
from trainer.packing.loss import draw_examples
from trainer.packing.pack import Pack


@pytest.mark.parametrize(("family", "modules"), [("sd15", 192 + 72), ("sdxl", 722 + 72 + 192)])
def test_modules_are_those_of_the_full_size(family, modules):
    found = ours.lora_modules(family)
    assert len(found) == modules
    assert {len(shape) for shape in found.values()} <= {2, 4}


def test_the_cases_cover_optimizers_schedules_endings_and_bases(tmp_path):
    made = list(ours.cases(tmp_path))
    assert len({case.folder for case in made}) == len(made)
    for case in made:
        assert tomllib.loads((case.folder / "config.toml").read_text()) == dict(case.there.config)
    assert {case.config.optimizer for case in made} > {"AdamW", "Prodigy", "Lion", "Adafactor"}
    assert sum("lr_scheduler_type" in case.there.config for case in made) == 5, "those that end before their horizon"
    assert {case.there.config.get("v_parameterization") for case in made} == {None, True}
    assert {case.there.script for case in made} == {"train_network.py", "sdxl_train_network.py"}


def test_an_option_that_is_gone_is_a_difference():
    options = list(json.loads(OPTIONS_FILE.read_text())["config"])
    assert sdscripts._options({"train_network.py": options}).state == "ok"
    gone = sdscripts._options({"train_network.py": options[1:]})
    assert (gone.state, gone.said) == ("DIFFERS", f"{options[0]} does not exist there")
    assert verdict("x", ["a", "b", "c", "d"], "").said == "a; b; c … and 1 more"


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        (1e-4, 1e-4, True),
        (0, None, True),
        ([1e-5, 1e-5], 1e-5, True),
        ([1e-5, 2e-5], 1e-5, False),
        ("AdamW", "adamw", True),
        (200, None, False),
        (["a=1"], ["a=2"], False),
    ],
)
def test_what_counts_as_told_the_same(one, other, alike):
    assert kohya_ss._alike(one, other) is alike


def test_a_checkout_that_is_none_is_told_with_its_last_lines(tmp_path):
    ours.note(tmp_path, {})
    with pytest.raises(RuntimeError, match=r"(?s)in_comfyui.py under .*ModuleNotFoundError"):
        ask("in_comfyui.py", tmp_path, sys.executable, tmp_path)


def test_the_command_explains_itself():
    command = [sys.executable, "-m", "benchmarks.parity", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "sd-scripts" in done.stdout


@pytest.mark.slow
def test_the_draws_handed_to_sd_scripts_are_those_that_we_train_with(tmp_path):
    """Without them the two programs would see other noise; the photos' order is compared in the same place."""
    base = training.make_base(tmp_path / "base", widths=(32, 32, 32, 32))
    dataset = scan_dataset(training._photos(tmp_path / "photos", training._SIDE, photos=2, regularisation=1))
    noise = {"noise_offset": 0.2, "noise_offset_random_strength": True, "ip_noise_gamma": 0.15}
    config = parse_train_config({"base": str(base), "data": str(dataset.root), "resolution": training._SIDE, **noise})
    draws, order = training._draws(config, dataset), training._order(config, dataset)
    loaded = load_base(config.base)
    pack = Pack(loaded, dataset, pack_settings(config))
    photos = [[str(dataset.photos[i].path.resolve()) for i in batch] for batch in pack.feed.photo_pass(0)]
    assert order[0] == photos
    batch = pack.feed.batch(pack.feed.photo_pass(0)[1], 0, 1)
    assert float(batch.std.max()) < 1e-6, "a photo has one latent"
    drawn = draw_examples(
        loaded,
        batch.mean,
        batch.std,
        batch.prior,
        settings=run_settings(config).loss,
        seed=config.seed,
        epoch=0,
        batch=1,
    )
    expected = draws["1/noise"] + 0.2 * draws["1/strength"] * draws["1/offset"]
    torch.testing.assert_close(drawn.target, expected)
    seen = loaded.noise_scheduler.add_noise(batch.mean, expected + 0.15 * draws["1/perturbation"], drawn.timesteps)
    torch.testing.assert_close(drawn.noisy, seen, atol=1e-5, rtol=1e-5)
    assert drawn.timesteps.equal(draws["1/timesteps"])


def test_the_base_that_onetrainer_trains_on_has_names_that_it_knows_and_is_the_demos(tmp_path):
    made, demo = onetrainer_training.demo_base(tmp_path / "base"), STUDIES / "demo" / "base"
    assert encoders_of_transformers_5(demo) == ["text_encoder"]
    assert encoders_of_transformers_5(made) == []
    for one, other in zip(
        *(load_base(str(folder)).text_encoders[0].parameters() for folder in (made, demo)), strict=True
    ):
        assert torch.equal(one, other)
