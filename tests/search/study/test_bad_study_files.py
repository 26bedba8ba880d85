"""Study files as people, editors and scripts get them wrong: exit 2, a line for each mistake, torch never loaded."""

import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from search.errors import StudyError
from search.study.study import load_study
from tests.messages import refusal

HUGE = 10**30
NAMES = {
    "of nothing": "",
    "of blanks": "  ",
    "with a newline": "x\ntouch PWNED\nb",
    "with a tab": "x\ty",
    "written from right to left": "abc\u202egnp.exe",
    "with a mark of direction": "abc\u200fdef",
    "with an isolate": "abc\u2067def",
    "with nothing to see": "abc\u200bdef",
    "with a line separator": "abc\u2028def",
    "with a dot at its end": "dog.",
    "with a dot at its front": ".dog",
    "with a blank at its end": "dog ",
    "with a blank at its front": " dog",
    "of a parent": "..",
    "with a slash": "a/b",
    "with a backslash": "a\\b",
    "with a colon": "C:dog",
    "of a device": "CON",
    "of a device, with an ending": "nul.txt",
    "of a port": "lpt1",
    "of 101 letters": "d" * 101,
    "of 60 letters of two bytes": "é" * 60,
    "of 5,000 letters": "d" * 5000,
}
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    # what is wrong: (changes, the key that is named)
    **{f"a name {what}": ({"study": name}, "study") for what, name in NAMES.items()},
    "a name with a carriage return": ({"study": "x\ry"}, "column"),  # by the file's line: no text may hold one
    "a name with an escape": ({"study": "x\x1b[2Jy"}, "column"),
    "a name that is a number": ({"study": 7}, "study"),
    "a seed below 0": ({"seed": -1}, "seed"),
    "a seed of 64 bits": ({"seed": 2**63}, "seed"),
    "a seed of 100 digits": ({"seed": 10**99}, "seed"),
    "a seed that is true": ({"seed": True}, "seed"),
    "10^30 trials": ({"budget": {"trials": HUGE}}, "budget.trials"),
    "10^30 trials at random": ({"budget": {"startup_trials": HUGE}}, "budget.startup_trials"),
    "endless hours": ({"budget": {"hours": float("inf")}}, "budget.hours"),
    "no hours": ({"budget": {"hours": float("nan")}}, "budget.hours"),
    "10^9 workers": ({"workers": {"count": 10**9}}, "workers.count"),
    "10^9 threads": ({"workers": {"threads": 10**9}}, "workers.threads"),
    "10^30 steps": ({"score": {"probe": {"steps": HUGE}}}, "score.probe.steps"),
    "10^30 images": ({"score": {"probe": {"seeds": HUGE}}}, "score.probe.seeds"),
    "10^30 levels": ({"score": {"losses": {"levels": HUGE}}}, "score.losses.levels"),
    "10^30 draws": ({"score": {"shifted": {"draws": HUGE}}}, "score.shifted.draws"),
    "10^30 composites": ({"score": {"shifted": {"composites": HUGE}}}, "score.shifted.composites"),
    "10^30 held out": ({"score": {"holdout": HUGE}}, "score.holdout"),
    "a probe's seed beyond 32 bits": ({"score": {"seed": 2**32}}, "score.seed"),
    "guidance without end": ({"score": {"probe": {"guidance": float("inf")}}}, "score.probe.guidance"),
    "a resolution of 10^30": ({"train": {"resolution": HUGE}}, "train.resolution"),
    "a resolution of 10^30 by 64": ({"train": {"resolution": [HUGE, 64]}}, "train.resolution"),
    "a resolution below 0": ({"train": {"resolution": -64}}, "train.resolution"),
    "a batch of 10^30": ({"train": {"batch_size": HUGE}}, "train.batch_size"),
    "10^30 epochs": ({"train": {"epochs": HUGE}}, "train.epochs"),
    "an endless learning rate": ({"train": {"learning_rate": "1e999"}}, "train.learning_rate"),
    "a learning rate of 100 digits": ({"train": {"learning_rate": 10**99}}, "train.learning_rate"),
    "no trigger at all": ({"train": {"trigger": ""}}, "train.trigger"),
    "a trigger of blanks": ({"train": {"trigger": "  "}}, "train.trigger"),
    "a trigger of two lines": ({"train": {"trigger": "sks\ndog"}}, "train.trigger"),
    "a class word of two lines": ({"train": {"class_word": "sks\ndog"}}, "train.class_word"),
    "a date among the optimizer's arguments": ({"train": {"optimizer_args": {"eps": "2024-01-01"}}}, "optimizer_args"),
    "a mapping among them": ({"train": {"optimizer_args": {"eps": {"a": 1}}}}, "train.optimizer_args"),
    "one beta": ({"train": {"optimizer_args": {"betas": [0.9]}}}, "optimizer_args"),
    "a beta of 2": ({"train": {"optimizer_args": {"betas": [0.9, 2]}}}, "optimizer_args"),
    "a list of lists among them": ({"train": {"optimizer_args": {"betas": [[0.9], [2]]}}}, "train.optimizer_args"),
    "a device that is none": ({"workers": {"device": "gpu"}}, "workers.device"),
    "a device of many digits": ({"workers": {"device": "cuda:999"}}, "workers.device"),
    "a device below 0": ({"workers": {"device": "cuda:-1"}}, "workers.device"),
    "no encoder": ({"score": {"encoder": ""}}, "score.encoder"),
    "an encoder of one word": ({"score": {"encoder": "nope"}}, "score.encoder"),
    "an encoder of no such model": ({"score": {"encoder": "ViT-B-33/openai"}}, "score.encoder"),
    "an encoder without weights": ({"score": {"encoder": "ViT-B-32/"}}, "score.encoder"),
    "an encoder in a folder above": ({"score": {"encoder": "../.."}}, "score.encoder"),
    "an encoder in a folder without one": ({"score": {"encoder": "photos"}}, "score.encoder"),
    "an encoder of 5,000 letters": ({"score": {"encoder": "d" * 5000}}, "score.encoder"),
    "an encoder of two lines": ({"score": {"encoder": "ViT-B-32\n/openai"}}, "score.encoder"),
    "an encoder of timm without a name": ({"score": {"encoder": "timm:"}}, "score.encoder"),
    "an encoder of the hub without one": ({"score": {"encoder": "hf-hub:dog"}}, "score.encoder"),
    "a second encoder of one word": ({"score": {"identity_encoder": "nope"}}, "score.identity_encoder"),
    "a prompt with a width": (
        {"score": {"probe": {"contexts": ["{trigger!r:>999999999}"]}}},
        "score.probe.contexts[0]",
    ),
    "a prompt that looks inside": ({"score": {"probe": {"contexts": ["{trigger.__class__}"]}}}, "score.probe.contexts"),
    "a prompt that counts": ({"score": {"probe": {"contexts": ["a {0}"]}}}, "score.probe.contexts[0]"),
    "a prompt that is left open": ({"score": {"probe": {"contexts": ["a {trigger"]}}}, "score.probe.contexts[0]"),
    "an empty prompt": ({"score": {"probe": {"contexts": [" "]}}}, "score.probe.contexts[0]"),
    "no prompts": ({"score": {"probe": {"contexts": []}}}, "score.probe.contexts"),
    "a prompt of 5,000 letters": ({"score": {"probe": {"contexts": ["d" * 5000]}}}, "score.probe.contexts.0"),
    "a caption with a width": ({"score": {"shifted": {"caption": "{context:>99999}"}}}, "score.shifted.caption"),
    "masks of nothing": ({"score": {"shifted": {"masks": ""}}}, "score.shifted.masks"),
    "masks of 5,000 letters": ({"score": {"shifted": {"masks": "d" * 5000}}}, "score.shifted.masks"),
    "a weight below 0": ({"score": {"weights": {"copying": -1}}}, "score.weights.copying"),
    "a weight without end": ({"score": {"weights": {"copying": float("inf")}}}, "score.weights.copying"),
    "a weight that is no number": ({"score": {"weights": {"copying": float("nan")}}}, "score.weights.copying"),
    "a field searched nowhere": ({"search": {"rank": []}}, "search.rank"),
    "a field of no values": ({"search": {"rank": {"values": []}}}, "search.rank.values"),
    "a value twice": ({"search": {"rank": {"values": [4, 4]}}}, "search.rank.values"),
    "min above max": ({"search": {"rank": {"min": 8, "max": 4}}}, "search.rank.max"),
    "min without max": ({"search": {"rank": {"min": 8}}}, "search.rank"),
    "a range without end": ({"search": {"learning_rate": {"min": 1e-5, "max": float("inf")}}}, "learning_rate.max"),
    "a value without end": (
        {"search": {"max_grad_norm": {"values": [1, float("inf")]}}},
        "search.max_grad_norm.values",
    ),
    "by factors from 0": ({"search": {"noise_offset": {"min": 0, "max": 1, "log": True}}}, "search.noise_offset.log"),
    "steps of nothing": ({"search": {"noise_offset": {"min": 0, "max": 1, "step": 1e-300}}}, "noise_offset.step"),
    "steps of no number": ({"search": {"noise_offset": {"min": 0, "max": 1, "step": float("nan")}}}, "offset.step"),
    "steps wider than the range": ({"search": {"rank": {"min": 4, "max": 8, "step": 5}}}, "search.rank.step"),
    "a rank of 10^30": ({"search": {"rank": {"values": [4, HUGE]}}}, "search.rank.values"),
    "conditions of lists": ({"search": {"rank": {"values": [4, 8], "when": {"optimizer": [[1]]}}}}, "search.rank.when"),
    "sections of the wrong kind": ({"score": [1], "budget": "many", "train": 3, "search": [4]}, "score"),
    "a base that is a device": ({"base": "/dev/null"}, "base"),
    "a base that never ends": ({"base": "/dev/zero"}, "base"),
    "a base of nobody's home": ({"base": "~nosuchuser/base"}, "base"),
    "a base of 5,000 letters": ({"base": "d" * 5000}, "base"),
    "photos in a file": ({"data": "study.yaml"}, "data"),
    "photos in a device": ({"data": "/dev/zero"}, "data"),
    "photos of nobody's home": ({"data": "~nosuchuser/photos"}, "data"),
    "photos of nothing": ({"data": ""}, "data"),
    "logs in a folder of 5,000 letters": (
        {"track": {"log_with": "tensorboard", "logging_dir": "d" * 5000}},
        "track.logging_dir",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_mistake_is_a_line_that_names_its_key(write_study, what: str) -> None:
    changes, key = WRONG[what]
    changes = {k: {"encoder": "clip", "holdout": 2, **v} if k == "score" and isinstance(v, dict) else v
               for k, v in changes.items()}  # fmt: skip
    path = write_study(**changes)
    with pytest.raises(StudyError) as caught:
        load_study(path)
    lines = str(caught.value).splitlines()
    assert any(f"{key}" in line.removeprefix(f"{path}: ").split(": ")[0] for line in lines), lines
    assert all(line.startswith(f"{path}: ") for line in lines)
    assert all(len(line) < 900 for line in lines)


@pytest.mark.parametrize(
    ("search", "line"),
    [
        ({"rank": [8, 16]}, "search.rank: .*, so {values: [8, 16]}, got [8, 16]"),
        ({"optimizer": ["AdamW"]}, 'search.optimizer: .*, so {values: ["AdamW"]}, got'),
        ({"rank": 8}, "search.rank: .*, got 8: what is the same for all trials belongs to train"),
    ],
)
def test_values_without_their_key_are_told_how_they_are_written(write_study, search: dict[str, Any], line: str) -> None:
    with pytest.raises(StudyError) as caught:
        load_study(write_study(search=search))
    assert re.search(re.escape(line).replace(re.escape(".*"), ".*"), "\n".join(caught.value.problems))
    assert len(caught.value.problems) == 1


def test_the_file_of_a_training_is_told_with_the_command_that_trains_it(tmp_path: Path) -> None:
    file = tmp_path / "train.yaml"
    file.write_text("base: sd15\ndata: photos\nrank: 8\nepochs: 4\noutput: {name: dog}\n")
    with pytest.raises(StudyError) as caught:
        load_study(file)
    (line,) = caught.value.problems
    assert line.startswith(f"{file}: expected a study file, got the file of one training")
    assert line.endswith(f"python -m trainer.run {file}")


def test_a_field_that_has_to_be_there_is_told_in_plain_words(write_study) -> None:
    path = write_study(drop=("search", "budget"), checkpoints={"folder": "photos"})
    with pytest.raises(StudyError, match=refusal("checkpoints.held_out", "nothing", "a value: it has no default")):
        load_study(path)


def test_a_base_that_can_run_code_is_refused_before_anything_is_loaded(write_study) -> None:
    path = write_study(base="old.ckpt")
    (path.parent / "old.ckpt").write_bytes(b"x")
    with pytest.raises(StudyError, match=refusal("base", "old.ckpt", "a .safetensors file")):
        load_study(path)


def test_every_file_that_cannot_be_read_is_named(write_study) -> None:
    path = write_study()
    shelf = path.parent / "photos" / "2_sks toy"
    (shelf / "03.png").write_bytes(b"not an image")
    (shelf / "01.txt").write_bytes(b"caf\xe9")
    with pytest.raises(StudyError) as caught:
        load_study(path)
    problems = caught.value.problems
    assert [name in line for name, line in zip(("01.txt", "03.png"), problems, strict=True)] == [True, True]
    assert all(line.startswith(f"{path}: data: ") for line in problems)


@pytest.mark.parametrize("name", ["dog", "my dog 2", "Ærø", "狗", "dog.v2", "zor-toy_(final)", "d" * 100])
def test_names_that_people_give_are_names(write_study, name: str) -> None:
    assert load_study(write_study(study=name)).name == name


def test_words_in_braces_stay_words(write_study) -> None:
    contexts = ["{trigger} {class}, ((snow)), <lora:x:1> $HOME %s", "a photo of {class}"]
    study = load_study(write_study(score={"encoder": "clip", "holdout": 2, "probe": {"contexts": contexts}}))
    assert list(study.score.probe.contexts) == contexts


def test_whatever_a_command_is_pointed_at_it_ends_with_2_and_loads_no_torch(write_study, tmp_path: Path) -> None:
    fifo, bomb = tmp_path / "fifo.yaml", tmp_path / "bomb.yaml"
    os.mkfifo(fifo)
    layers = [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    bomb.write_text("\n".join(["a0: &a0 [x, x, x]", *layers]))
    good = write_study()
    train = {"base": str(tmp_path / "base"), "data": str(tmp_path / "photos"), "resolution": 64}
    runs = {"trigger": "", "epochs": HUGE, "output": {"name": "CON"}, "learning_rate": float("nan"), "seed": 2**63}
    wrong = [fifo, bomb, Path("/dev/zero"), tmp_path, tmp_path / "none.yaml", tmp_path / ("x" * 3000), Path("~nobody")]
    for key, value in runs.items():
        (tmp_path / f"{key}.yaml").write_text(yaml.safe_dump({**train, key: value}))
    commands = [("search.run", path) for path in wrong] + [("trainer.run", path) for path in wrong]
    commands += [("search.status", path) for path in wrong if path != tmp_path]
    commands += [("trainer.run", tmp_path / f"{key}.yaml") for key in runs]
    script = """
import contextlib, importlib, io, json, sys
told = []
for command, path in json.load(sys.stdin):
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        code = importlib.import_module(command).main([path])
    told.append([command, path, code, said.getvalue()])
json.dump([told, [m for m in ("torch", "optuna", "pandas", "scipy", "diffusers") if m in sys.modules]], sys.stdout)
"""
    asked = json.dumps([(command, str(path)) for command, path in commands])
    done = subprocess.run(
        [sys.executable, "-c", script], input=asked, capture_output=True, text=True, check=True, cwd=good.parent
    )
    told, heavy = json.loads(done.stdout)
    assert heavy == []
    for command, path, code, said in told:
        assert (code, len(said.splitlines())) == (2, 1), (command, path[:80], code, said)


NASTY: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 7, 0.5, -0.5, HUGE, -HUGE, 2**63, 2**64, 1e-320, 1e300),
    *(float("inf"), float("-inf"), float("nan"), "", " ", "a", "1e999", "1e-5", "é", "x\ny", "\u202e", "x" * 3000),
    *("{trigger}", "{0}", "}{", "../..", "/", "~", "~nosuchuser", "/dev/null", "CON", "auto", "constant", "AdamW"),
    *([], [[]], [None], [1, 2], ["a"], [{}], {}, {"a": 1}, {"values": [1]}, {"min": 1, "max": 2}, {"when": {}}),
)


def damaged(values: Any, generator: random.Random) -> Any:
    """`values` with one of its parts replaced, dropped or joined by something else."""
    if isinstance(values, dict) and values and generator.random() < 0.85:
        key = generator.choice(list(values))
        if generator.random() < 0.1:
            return {k: v for k, v in values.items() if k != key}
        return {**values, key: damaged(values[key], generator)}
    if isinstance(values, dict) and generator.random() < 0.3:
        return {**values, generator.choice(["a", "rank", "optimizer", "when", "log", "step"]): generator.choice(NASTY)}
    if isinstance(values, list) and values and generator.random() < 0.5:
        row = generator.randrange(len(values))
        return [*values[:row], damaged(values[row], generator), *values[row + 1 :]]
    return generator.choice(NASTY)


@pytest.mark.parametrize("count", [60, pytest.param(20_000, marks=pytest.mark.slow)])
def test_whatever_is_damaged_it_is_a_study_or_lines(write_study, count: int) -> None:
    path = write_study()
    whole = yaml.safe_load(path.read_text()) | {
        "workers": {"count": 1, "threads": 1, "device": "cpu"},
        "stop": {"onset": True, "prune": True},
        "keep": {"checkpoints": "best", "samples": True},
    }
    whole["train"] |= {"optimizer_args": {"betas": [0.9, 0.99]}, "trigger": "sks", "resolution": [64, 64]}
    whole["search"] |= {
        "lr_scheduler": {"values": ["constant", "cosine"]},
        "num_cycles": [{"min": 2, "max": 4, "step": 1, "when": {"lr_scheduler": "cosine"}}],
    }
    whole["search"].pop("num_cycles")
    whole["score"] |= {
        "probe": {"seeds": 1, "contexts": ["{trigger} {class}", "snow"]},
        "shifted": {"caption": "{trigger}", "masks": "auto", "contexts": ["a beach"]},
        "weights": {"copying": 1.0},
        "holdout_contexts": [],
    }
    generator = random.Random(count)
    refused = 0
    for _ in range(count):
        values = whole
        for _ in range(generator.randint(1, 2)):
            values = damaged(values, generator)
        path.write_text(yaml.safe_dump(values, allow_unicode=True))
        outcome = study_or_lines(path)
        if outcome is not None:
            refused += 1
            assert outcome.strip(), values
            assert all(line.startswith(str(path)) for line in outcome.splitlines()), (values, outcome)
    assert refused > count / 2


def study_or_lines(path: Path) -> str | None:
    """What is said of a study that cannot be run; a good one is used as a sitting would."""
    try:
        study = load_study(path)
        assert study.digest
        for chosen in list(study.space.combinations())[:4]:
            study.config(chosen).model_dump_json()
    except StudyError as error:
        return str(error)
    return None
