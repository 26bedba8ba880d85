"""Every mistake in a study file is named in one line: file, key, value and what is allowed."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from search.errors import StudyError
from search.run import main
from search.study.study import load_study
from tests.messages import refusal

SEARCHES: dict[str, tuple[dict[str, Any], str, str]] = {
    # name: (what is wrong, the key that must be named, what must be said about it)
    "misspelt section": ({"budgt": {"trials": 3}}, "budgt", "did you mean budget?"),
    "a training's field at the top": ({"network_dim": 4}, "network_dim", "it under train or search: rank"),
    "misspelt field": ({"train": {"rankk": 4}}, "train.rankk", "did you mean rank?"),
    "misspelt nested key": ({"score": {"probe": {"sedes": 2}}}, "score.probe.sedes", "did you mean seeds?"),
    "misspelt entry": ({"search": {"rank": {"vales": [1]}}}, "search.rank.vales", "did you mean values?"),
    "searched name of no field": (
        {"search": {"lr": {"values": [1]}}},
        "search.lr",
        "expected learning_rate, as lr is called here",
    ),
    "wrong type": ({"budget": {"trials": "many"}}, "budget.trials", "a whole number"),
    "wrong type of a fixed field": ({"train": {"rank": "big"}}, "train.rank", "a whole number"),
    "wrong type of a searched value": (
        {"search": {"rank": {"values": [4, 0.5]}}},
        "search.rank.values",
        "whole number",
    ),
    "alpha ratio above 1": (
        {"search": {"alpha_ratio": {"values": [0.5, 2.0]}}},
        "search.alpha_ratio.values",
        "at most 1",
    ),
    "fixed alpha ratio above 1": ({"train": {"alpha_ratio": 1.5}}, "train.alpha_ratio", "at most 1"),
    "min above max": ({"search": {"rank": {"min": 8, "max": 4}}}, "search.rank.max", "more than min"),
    "both values and a range": (
        {"search": {"rank": {"values": [4], "min": 4, "max": 8}}},
        "search.rank",
        "exactly one",
    ),
    "a range of words": (
        {"search": {"optimizer": {"min": "AdamW", "max": "Lion"}}},
        "search.optimizer",
        "not a number",
    ),
    "log from zero": (
        {"search": {"noise_offset": {"min": 0, "max": 1, "log": True}}},
        "search.noise_offset.log",
        "above 0",
    ),
    "one range of rates for Prodigy and AdamW": (
        {"search": {"optimizer": {"values": ["AdamW", "Prodigy"]}, "learning_rate": {"min": 1e-4, "max": 1e-3}}},
        "search.learning_rate",
        "about 1 with Prodigy",
    ),
    "an AdamW rate for DAdaptAdam": (
        {"train": {"learning_rate": 1e-4, "optimizer": "DAdaptAdam"}, "search": {"rank": {"values": [4, 8]}}},
        "train.learning_rate",
        "learning_rate_scale multiplies",
    ),
    "a Prodigy rate for AdamW": (
        {"train": {"learning_rate": 1.0}, "search": {"rank": {"values": [4, 8]}}},
        "train.learning_rate",
        "about 0.0001 with AdamW",
    ),
    "a bucket step above the side": (
        {"train": {"resolution": 64, "enable_bucket": True, "bucket_step": 128, "min_bucket_resolution": 64}},
        "train.bucket_step",
        "shorter side",
    ),
    "missing data": ({"data": "fotos"}, "data", "a path that exists"),
    "missing base": ({"base": "photos/none"}, "base", "a path that exists"),
    "too many held out": ({"score": {"holdout": 7}}, "score.holdout", "at most 6"),
    "a context that no caption says": (
        {"score": {"holdout_contexts": ["at the beach"]}},
        "score.holdout_contexts[0]",
        "no caption has them",
    ),
    "an empty context": ({"score": {"holdout_contexts": [" "]}}, "score.holdout_contexts[0]", "no caption has them"),
    "contexts that leave nothing": (
        {"score": {"holdout": 0, "holdout_contexts": ["sks"]}},
        "score.holdout_contexts",
        "leave two photos",
    ),
    "data under train": ({"train": {"data": "photos"}}, "train.data", "at the top"),
    "seed searched": ({"search": {"seed": {"values": [1, 2]}}}, "search.seed", "same for every trial"),
    "unknown weight": ({"score": {"weights": {"copy": 2.0}}}, "score.weights.copy", "did you mean copying?"),
    "context with other braces": (
        {"score": {"probe": {"contexts": ["a {dog}"]}}},
        "score.probe.contexts[0]",
        "{trigger}",
    ),
    "a place with braces": (
        {"score": {"shifted": {"contexts": ["a beach", "{trigger} in the snow"]}}},
        "score.shifted.contexts[1]",
        "without braces",
    ),
    "when of a fixed field": (
        {
            "search": {"d_coef": {"values": [1.0, 2.0], "when": {"optimizer": "Prodigy"}}},
            "train": {"optimizer": "Prodigy"},
        },
        "search.d_coef.when.optimizer",
        "a field that is searched",
    ),
    "when that can never hold": (
        {
            "search": {
                "optimizer": {"values": ["AdamW", "Lion"]},
                "d_coef": {"values": [1.0, 2.0], "when": {"optimizer": "Prodigy"}},
            }
        },
        "search.d_coef.when.optimizer",
        "one of the values searched",
    ),
    "when in a circle": (
        {
            "search": {
                "optimizer": {"values": ["AdamW", "Lion"], "when": {"rank": 4}},
                "rank": {"values": [4, 8], "when": {"optimizer": "AdamW"}},
            }
        },
        "search",
        "circle",
    ),
    "a pair that cannot work": (
        {
            "search": {
                "optimizer": {"values": ["AdamW", "Adafactor"]},
                "lr_scheduler": {"values": ["constant", "adafactor"]},
            }
        },
        "search.lr_scheduler",
        "with optimizer: AdamW",
    ),
    "a fixed pair that cannot work": (
        {"train": {"optimizer": "AdamWScheduleFree", "lr_scheduler": "cosine"}},
        "train.lr_scheduler",
        "constant with optimizer: AdamWScheduleFree",
    ),
    "learning rate under relative steps": (
        {"train": {"optimizer": "Adafactor", "lr_scheduler": "adafactor", "relative_step": True}},
        "search.learning_rate_scale",
        "sets its own rate",
    ),
    "cycles of one": (
        {"train": {"lr_scheduler": "cosine_with_restarts"}, "search": {"num_cycles": {"values": [1, 3]}}},
        "search.num_cycles",
        "one cycle is cosine",
    ),
    "cycles without restarts": (
        {"search": {"lr_scheduler": {"values": ["cosine", "cosine_with_restarts"]}, "num_cycles": {"values": [2, 3]}}},
        "search.num_cycles",
        "`when:`",
    ),
    "horizon under a constant schedule": (
        {"train": {"resolution": 64}, "search": {"epochs": {"values": [4, 8]}}},
        "search.epochs",
        "train.epochs",
    ),
    "alpha beside rank": (
        {"search": {"rank": {"values": [4, 8]}, "alpha": {"values": [1.0, 4.0]}}},
        "search.alpha",
        "alpha_ratio",
    ),
    "both learning rates": (
        {"search": {"learning_rate": {"min": 1e-5, "max": 1e-3}, "learning_rate_scale": {"min": 0.5, "max": 2}}},
        "search.learning_rate",
        "learning_rate or learning_rate_scale",
    ),
    "fixed and searched": ({"train": {"rank": 4}}, "train.rank", "it is searched"),
}


@pytest.mark.parametrize("case", SEARCHES)
def test_a_mistake_is_named_with_file_key_and_what_is_allowed(write_study, case: str) -> None:
    changes, key, said = SEARCHES[case]
    path = write_study(**changes)
    with pytest.raises(StudyError) as caught:
        load_study(path)
    lines = [line for line in caught.value.problems if f": {key}: " in line]
    assert lines, caught.value.problems
    assert said in lines[0]
    assert lines[0].startswith(str(path))
    assert "\n" not in lines[0]


def test_all_mistakes_are_told_at_once(write_study) -> None:
    path = write_study(train={"rankk": 1}, budget={"trials": 0}, base="./nowhere")
    with pytest.raises(StudyError) as caught:
        load_study(path)
    assert len(caught.value.problems) == 3


def test_a_key_given_twice_is_refused(write_study) -> None:
    path = write_study()
    path.write_text(path.read_text() + "study: again\n")
    with pytest.raises(StudyError, match="'study' is given twice"):
        load_study(path)


def test_a_number_in_exponent_form_is_a_number(write_study) -> None:
    path = write_study(drop=("search",))
    path.write_text(path.read_text() + "search: {learning_rate: {min: 1e-5, max: 1e-3, log: true}}\n")
    (entry,) = load_study(path).space.entries
    assert (entry.low, entry.high) == (1e-5, 1e-3)


def test_a_corrupt_image_is_named(write_study) -> None:
    path = write_study()
    (path.parent / "photos" / "2_sks toy" / "03.png").write_bytes(b"\x89PNG\r\n\x1a\n and nothing else")
    with pytest.raises(StudyError, match=r"data: .*03\.png"):
        load_study(path)


def test_a_folder_without_images_is_refused(write_study) -> None:
    path = write_study(data="empty")
    (path.parent / "empty").mkdir()
    with pytest.raises(StudyError, match="no images"):
        load_study(path)


def test_an_image_without_caption_is_a_notice(write_study) -> None:
    path = write_study()
    (path.parent / "photos" / "2_sks toy" / "03.txt").unlink()
    assert any("03.png" in notice for notice in load_study(path).notices)


def test_a_fixed_setting_without_effect_is_a_notice(write_study) -> None:
    study = load_study(write_study(train={"resolution": 64, "num_cycles": 3}))
    assert any(notice.startswith("num_cycles: 3 takes no effect") for notice in study.notices)


def test_what_webuis_make_of_dora_is_a_notice_where_it_is_searched_too(write_study) -> None:
    study = load_study(write_study(search={"dora": {"values": [True, False]}, "rank": {"values": [4, 8]}}))
    assert any(notice.startswith("dora: A1111 and ComfyUI") for notice in study.notices)


def test_other_trainers_words_count_as_what_they_mean_in_conditions_too(write_study) -> None:
    study = load_study(
        write_study(
            train={"resolution": "64,64"},
            search={
                "optimizer": {"values": ["adamw8bit", "DAdaptation"]},
                "rank": {"values": [4, 8], "when": {"optimizer": "ADAMW8bit"}},
            },
        )
    )
    chosen = list(study.space.combinations())
    assert {each["optimizer"] for each in chosen} == {"AdamW8bit", "DAdaptAdam"}
    assert {("rank" in each) for each in chosen if each["optimizer"] == "AdamW8bit"} == {True}
    assert study.config(chosen[0]).size == (64, 64)


def test_every_mistake_in_a_condition_is_told(write_study) -> None:
    when = {"optimiser": "AdamW", "optimizer": "Prodigy"}
    with pytest.raises(StudyError) as caught:
        load_study(
            write_study(
                search={
                    "optimizer": {"values": ["AdamW", "DAdaptAdam"]},
                    "rank": {"values": [4, 8], "when": when},
                }
            )
        )
    told = "\n".join(caught.value.problems)
    assert "search.rank.when.optimiser" in told
    assert "search.rank.when.optimizer" in told


def test_restarts_without_cycles_are_searched_and_told(write_study) -> None:
    study = load_study(
        write_study(train={"resolution": 64}, search={"lr_scheduler": {"values": ["linear", "cosine_with_restarts"]}})
    )
    assert [notice for notice in study.notices if "num_cycles is 1" in notice]


def test_conditional_parameters_are_accepted(write_study) -> None:
    study = load_study(
        write_study(
            train={"resolution": 64, "optimizer": "Adafactor"},
            search={
                "lr_scheduler": {"values": ["constant", "cosine", "cosine_with_restarts", "adafactor"]},
                "epochs": {"values": [4, 8], "when": {"lr_scheduler": ["cosine", "cosine_with_restarts"]}},
                "num_cycles": {"value": 2, "when": {"lr_scheduler": "cosine_with_restarts"}},
                "relative_step": {"value": True, "when": {"lr_scheduler": "adafactor"}},
                "optimizer": {
                    "values": ["AdamW", "Prodigy"],
                    "when": {"lr_scheduler": ["constant", "cosine", "cosine_with_restarts"]},
                },
                "learning_rate_scale": {"min": 0.5, "max": 4, "when": {"optimizer": "AdamW"}},
            },
        )
    )
    assert study.notices == ()
    schedulers = {c["lr_scheduler"]: study.config(c) for c in study.space.combinations()}
    assert schedulers["adafactor"].optimizer == "Adafactor"
    assert schedulers["adafactor"].relative_step


def test_one_range_of_scales_serves_prodigy_and_adamw(write_study) -> None:
    search = {
        "optimizer": {"values": ["AdamW", "Prodigy", "Lion"]},
        "learning_rate_scale": {"min": 0.1, "max": 10, "log": True},
    }
    assert load_study(write_study(search=search)).notices == ()
    apart = [
        {"min": 1e-4, "max": 1e-3, "when": {"optimizer": "AdamW"}},
        {"min": 0.5, "max": 2.0, "when": {"optimizer": "Prodigy"}},
    ]
    assert load_study(write_study(search={"optimizer": {"values": ["AdamW", "Prodigy"]}, "learning_rate": apart}))


def test_the_demo_study_is_sound() -> None:
    study = load_study(Path(__file__).parents[3] / "studies" / "demo.yaml")
    assert study.notices == ()
    assert study.budget.trials > study.budget.startup > len(study.sampler.start_with) > 0
    chosen = list(study.space.combinations())
    assert {c["lr_scheduler"] for c in chosen} == {"constant", "cosine", "cosine_with_restarts", "adafactor"}
    assert {"AdamW", "AdamW8bit", "Adafactor", "Lion", "Prodigy"} <= {study.config(c).optimizer for c in chosen}
    assert {e.field for e in study.space.entries} >= {"epochs", "rank", "alpha_ratio", "learning_rate_scale"}


@pytest.mark.parametrize("score", [{"holdout": 0}, {"holdout": 2}, {"holdout": 0, "holdout_contexts": ["sks"]}])
def test_one_photo_is_too_few_whatever_is_held_out(write_study, score: dict[str, Any]) -> None:
    path = write_study(score=score)
    photos = sorted(path.parent.rglob("*sks toy/*.png"))
    assert len(photos) > 1
    for photo in photos[1:]:
        photo.unlink()
    with pytest.raises(StudyError, match=refusal("data", "", "two photos or more")) as caught:
        load_study(path)
    assert len(caught.value.problems) == 1


def test_one_photo_is_no_context(write_study) -> None:
    path = write_study(score={"encoder": "clip", "holdout": 5, "holdout_contexts": ["attic"]})
    shelf = path.parent / "photos" / "2_sks toy"
    (shelf / "03.txt").write_text("sks toy, attic\n")
    with pytest.raises(StudyError, match=refusal("score.holdout_contexts", "attic", "two photos")):
        load_study(path)
    (shelf / "05.txt").write_text("sks toy, attic\n")
    with pytest.raises(StudyError, match=refusal("score.holdout", 5, "at most 4") + ": there are 8 photos, 2 of"):
        load_study(path)


def test_masks_in_a_folder_are_checked(write_study) -> None:
    path = write_study(score={"encoder": "clip", "holdout": 2, "shifted": {"masks": "masks"}})
    shelf, masks = path.parent / "photos" / "2_sks toy", path.parent / "masks"
    masks.mkdir()
    with pytest.raises(StudyError, match=refusal("score.shifted.masks", "masks") + ".*named like the photos"):
        load_study(path)
    photo = sorted(shelf.glob("*.png"))[0]
    width, height = Image.open(photo).size
    Image.new("L", (2 * width, 2 * height), 255).save(masks / photo.name)
    load_study(path)
    Image.new("L", (2 * width, 3 * height)).save(masks / photo.name)
    with pytest.raises(StudyError, match=rf"is {2 * width}×{3 * height}, its photo {width}×{height}: a mask shows all"):
        load_study(path)


def test_the_command_ends_with_2_and_one_line_on_bad_input(write_study, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(write_study(train={"rankk": 4}))]) == 2
    said = capsys.readouterr().err.strip()
    assert said.count("\n") == 0
    assert re.fullmatch("error: .*" + refusal("train.rankk", "rankk", "did you mean rank?") + "'", said)


def test_help_and_refusal_load_neither_torch_nor_pandas_nor_optuna(write_study) -> None:
    heavy = "('torch', 'pandas', 'scipy', 'optuna', 'diffusers', 'matplotlib')"
    script = f"""
import sys
from search.run import main
try:
    code = main(sys.argv[1:])
except SystemExit as end:
    code = end.code
print(code, [name for name in {heavy} if name in sys.modules])
"""
    bad = write_study(search={"rank": {"values": [0]}})
    for arguments, code in ((["--help"], 0), ([str(bad)], 2)):
        done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == f"{code} []"
