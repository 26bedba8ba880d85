"""The parity kit asks other tools the right thing; their answers need the tools themselves."""

import json
import subprocess
import sys
import tomllib

import pytest

from benchmarks.parity import kohya_ss, ours, sdscripts
from benchmarks.parity.checks import ask, verdict
from search.exports.option_check import OPTIONS_FILE


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
