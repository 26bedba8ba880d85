"""A study file that looks at a finished run: what it may say, and what its files tell."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from safetensors.numpy import save_file

from search.errors import StudyError
from search.running.finished_run import efforts
from search.study.split import given_split
from search.study.study import Study, load_study
from tests.trainer.lora.made_loras import write_lora

DEMO = Path(__file__).parents[3] / "studies" / "demo"


def study_of(folder: Path, checkpoints: dict[str, Any] | None = None, **values: Any) -> Study:
    said = {
        "study": "mine",
        "base": str(DEMO / "base"),
        "data": str(DEMO / "photos"),
        "train": {"resolution": 64},
        "score": {"encoder": str(DEMO / "clip")},
        "checkpoints": {"folder": "loras", "held_out": "none", **(checkpoints or {})},
        **values,
    }
    path = folder / "border.yaml"
    path.write_text(yaml.safe_dump(said))
    return load_study(path)


def lines(folder: Path, checkpoints: dict[str, Any] | None = None, **values: Any) -> list[str]:
    with pytest.raises(StudyError) as caught:
        study_of(folder, checkpoints, **values)
    return [problem.removeprefix(f"{folder / 'border.yaml'}: ") for problem in caught.value.problems]


def counts(study: Study) -> tuple[str, dict[int, str]]:
    assert study.finished_run is not None
    return study.finished_run.unit, {count: Path(file).name for count, file in study.finished_run.files.items()}


def kohya(folder: Path, *epochs: int, **metadata: str) -> None:
    for epoch in epochs:
        write_lora(folder / "loras" / f"my-{epoch:06d}.safetensors", **metadata)


def test_epochs_come_from_names_and_the_last_one_from_the_file(tmp_path: Path) -> None:
    kohya(tmp_path, 2, 4)
    write_lora(tmp_path / "loras" / "my.safetensors", fill=1.0)
    (said,) = lines(tmp_path)
    assert said.startswith("checkpoints.last: expected the epoch of my.safetensors")
    study = study_of(tmp_path, {"last": 5})
    assert counts(study) == ("epoch", {2: "my-000002.safetensors", 4: "my-000004.safetensors", 5: "my.safetensors"})
    config = study.config({})
    assert (config.rank, config.epochs) == (4, 5)
    assert (study.budget.trials, study.stop.onset, study.score.holdout) == (1, False, 0)


def test_a_lora_of_a_higher_rank_than_any_that_is_trained_can_be_looked_at(tmp_path: Path) -> None:
    for epoch in (2, 4):
        write_lora(tmp_path / "loras" / f"my-{epoch:06d}.safetensors", rank=1030)
    assert study_of(tmp_path).config({}).rank == 1024


def test_steps_become_epochs_where_the_steps_of_an_epoch_are_known(tmp_path: Path) -> None:
    for step in (50, 100, 250):
        write_lora(tmp_path / "loras" / f"my_{step:09d}.safetensors")
    assert counts(study_of(tmp_path))[0] == "step"
    assert [*counts(study_of(tmp_path))[1]] == [50, 100, 250]
    unit, files = counts(study_of(tmp_path, {"steps_per_epoch": 50}))
    assert (unit, [*files]) == ("epoch", [1, 2, 5])
    for asked, told in (({}, True), ({"steps_per_epoch": 50}, False)):
        notices = study_of(tmp_path, asked).notices
        assert any("checkpoints.steps_per_epoch" in notice for notice in notices) == told
    assert "divides those of my_000000050.safetensors (50)" in lines(tmp_path, {"steps_per_epoch": 40})[0]


def test_a_final_file_that_is_the_last_numbered_one_again_counts_once(tmp_path: Path) -> None:
    kohya(tmp_path, 2, 4)
    write_lora(tmp_path / "loras" / "my-000004.safetensors", fill=1.0)
    write_lora(tmp_path / "loras" / "my.safetensors", fill=1.0)
    assert [*counts(study_of(tmp_path))[1]] == [2, 4]
    assert lines(tmp_path, {"last": 3})[0].startswith("checkpoints.last: expected nothing")


def test_what_belongs_to_trainings_is_refused(tmp_path: Path) -> None:
    kohya(tmp_path, 2, 4)
    said = lines(tmp_path, budget={"trials": 3}, train={"epochs": 4, "resolution": 64}, score={"holdout": 3})
    assert [line.split(":")[0] for line in said] == ["budget", "train.epochs", "score.holdout"]


@pytest.mark.parametrize(
    ("checkpoints", "where"),
    [
        ({"held_out": ["nothing.png"]}, "checkpoints.held_out[0]: expected the name of one photo in data"),
        (
            {"held_out": ["002.png"]},
            "checkpoints.held_out[0]: expected the name of one photo in data (did you mean 02.png?)",
        ),
        ({"folder": "elsewhere"}, "checkpoints.folder"),
        ({"folder": ""}, "checkpoints.folder"),
        ({"last": 0}, "checkpoints.last"),
        ({"last": 9}, "checkpoints.last: expected nothing"),
        ({"held_out": "02.png"}, "checkpoints.held_out: expected the names of photos, as a list, or none"),
        ({"helt_out": []}, "checkpoints.helt_out"),
        ({"held_out": 4}, "checkpoints.held_out"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, checkpoints: dict[str, Any], where: str) -> None:
    kohya(tmp_path, 2, 4)
    assert lines(tmp_path, checkpoints)[0].startswith(where)


def test_files_that_are_not_one_run_are_named(tmp_path: Path) -> None:
    kohya(tmp_path, 2)
    assert "expected at least two checkpoints" in lines(tmp_path)[0]
    write_lora(tmp_path / "loras" / "my-7.safetensors")
    assert "my-7.safetensors: whether it counts epochs or steps" in lines(tmp_path)[0]
    (tmp_path / "loras" / "my-7.safetensors").unlink()
    write_lora(tmp_path / "loras" / "epoch-2" / "my.safetensors", fill=1.0)
    assert "both of epoch 2" in lines(tmp_path)[0]


def test_held_out_photos_are_found_by_name_and_contexts_must_be_among_them(tmp_path: Path) -> None:
    kohya(tmp_path, 2, 4)
    study = study_of(tmp_path, {"held_out": ["02.png", "16"]})
    assert [study.photos[row].file.rpartition("/")[2] for row in study.rows_held_out] == ["02.png", "16.png"]
    word = "room"
    said = lines(tmp_path, score={"encoder": str(DEMO / "clip"), "holdout_contexts": [word]})
    assert said[0].startswith("score.holdout_contexts: expected words that no trained photo has")


def test_restarts_are_known_only_where_somebody_says_them(tmp_path: Path) -> None:
    kohya(tmp_path, *range(2, 17, 2), ss_lr_scheduler="cosine_with_restarts")
    assert any("cosine_with_restarts and not how often" in notice for notice in study_of(tmp_path).notices)
    train = {"resolution": 64, "lr_scheduler": "cosine_with_restarts", "cycle_epochs": 12}
    study = study_of(tmp_path, train=train)
    assert not any("not how often" in notice for notice in study.notices)
    assert study.finished_run is not None
    found = efforts(study.finished_run, study.config({}))
    rates = np.diff([0.0, *found.values()])
    assert rates[5] < 0.2 * rates[0]  # before the restart at epoch 12
    assert rates[6] == pytest.approx(rates[0], rel=0.01)  # and after it
    flat = study_of(tmp_path)
    assert flat.finished_run is not None
    assert efforts(flat.finished_run, flat.config({})) == pytest.approx(
        {count: float(count) for count in flat.finished_run.counts}
    )


def test_a_changed_file_or_another_photo_held_out_is_another_study(tmp_path: Path) -> None:
    kohya(tmp_path, 2, 4)
    before = study_of(tmp_path)
    other = study_of(tmp_path, {"held_out": ["02.png"]})
    assert before.digest != other.digest
    assert before.probe_digest != other.probe_digest
    write_lora(tmp_path / "loras" / "my-000004.safetensors", fill=1.0)
    again = study_of(tmp_path)
    assert before.digest != again.digest
    assert before.probe_digest == again.probe_digest


def test_a_held_out_photo_that_repeats_a_trained_one_measures_nothing() -> None:
    seen = np.random.default_rng(0).normal(size=(8, 16))
    seen[5] = seen[1]  # held out, and trained on as row 1
    seen[7] = seen[6]  # held out twice
    sides = given_split([5, 6, 7, 4], [4], seen)
    assert (sides.trained, sides.heldout, sides.repeats) == ([0, 1, 2, 3], [6], [5, 7])
    assert sides.note is not None
    assert "1 of 4" in sides.note


def test_what_the_files_tell_of_their_training_becomes_settings_and_words(tmp_path: Path) -> None:
    told = {"ss_network_alpha": "2.5", "ss_unet_lr": "0.00012", "ss_learning_rate": "0.5", "ss_lr_scheduler": "cosine",
            "ss_optimizer": "bitsandbytes.optim.AdamW8bit(weight_decay=0.1)"}  # fmt: skip

    def read(**metadata: str) -> tuple[dict[str, Any], str]:
        kohya(tmp_path, 4, 6, 10, **metadata)
        study = study_of(tmp_path)
        assert study.finished_run is not None
        config = study.config({})
        fields = ("rank", "alpha", "epochs", "save_every_n_epochs")
        return {name: getattr(config, name) for name in fields}, study.finished_run.settings

    plain = {"rank": 4, "alpha": None, "epochs": 10, "save_every_n_epochs": 2}
    assert read() == (plain, "rank 4")
    assert read(**told) == ({**plain, "alpha": 2.5}, "rank 4, alpha 2.5, AdamW8bit, cosine, learning rate 0.00012")
    bare = {"ss_unet_lr": "None", "ss_learning_rate": "0.5", "ss_optimizer": "mine.Sophia", "ss_lr_scheduler": "mine"}
    assert read(**bare) == (plain, "rank 4, learning rate 0.5")
    for alpha in ("0", "-1", "100001", "none"):
        assert read(ss_network_alpha=alpha) == (plain, "rank 4")
    assert read(ss_network_alpha="100000")[0]["alpha"] == 100_000


def test_what_most_layers_have_is_the_rank(tmp_path: Path) -> None:
    for epoch in (2, 4):
        site = "lora_unet_mid_block_attentions_0_"
        shapes = {"proj_in": 8, "proj_out": 8, "transformer_blocks_0_attn1_to_q": 4}
        tensors = {f"{site}{name}.lora_down.weight": np.zeros((rank, 8)) for name, rank in shapes.items()}
        tensors |= {f"{site}{name}.lora_up.weight": np.zeros((8, rank)) for name, rank in shapes.items()}
        path = tmp_path / "loras" / f"my-{epoch:06d}.safetensors"
        path.parent.mkdir(exist_ok=True)
        save_file(tensors, path)
    study = study_of(tmp_path)
    assert study.finished_run is not None
    assert (study.config({}).rank, study.finished_run.settings) == (8, "rank 8")


def test_files_that_are_no_loras_are_named_three_at_most(tmp_path: Path) -> None:
    kohya(tmp_path, 2, 4)
    assert not any("left out" in notice for notice in study_of(tmp_path).notices)
    for number in range(1, 5):
        save_file({"weight": np.zeros(2)}, tmp_path / "loras" / f"other{number}.safetensors")
        (told,) = (notice for notice in study_of(tmp_path).notices if "left out" in notice)
        named = ", ".join(f"other{k}.safetensors" for k in range(1, min(number, 3) + 1))
        assert told.endswith(named + " and 1 more" * (number == 4))


def test_whether_photos_were_held_out_is_a_notice(tmp_path: Path) -> None:
    kohya(tmp_path, 2, 4)
    for held_out, told in (("none", True), (["02.png"], False)):
        notices = study_of(tmp_path, {"held_out": held_out}).notices
        assert any("no photo was held out" in notice for notice in notices) == told


def test_two_photos_at_least_were_trained_on(tmp_path: Path) -> None:
    kohya(tmp_path, 2, 4)
    names = sorted(path.name for path in (DEMO / "photos").rglob("*.png"))
    assert study_of(tmp_path, {"held_out": names[2:]}).rows_held_out
    (told,) = lines(tmp_path, {"held_out": names[1:]})
    assert told.startswith(
        f"checkpoints.held_out: expected two photos that were trained on, got '{len(names) - 1} photos"
    )


def test_each_way_in_which_files_are_no_run_is_named(tmp_path: Path) -> None:
    loras = tmp_path / "loras"
    kohya(tmp_path, 2, 4)
    for name in ("one", "two"):
        write_lora(loras / f"{name}.safetensors", fill=1.0)
    (told,) = lines(tmp_path)
    assert "LoRA files of one run" in told or "one file without a number" in told
    for name in ("one", "two"):
        (loras / f"{name}.safetensors").unlink()
    write_lora(loras / "my-step00000500.safetensors")
    (told,) = lines(tmp_path)
    assert "all say their epoch, or all their step" in told
    (loras / "my-step00000500.safetensors").unlink()
    write_lora(loras / "my-100001.safetensors")
    (told,) = lines(tmp_path)
    assert "expected at most 100000 epochs, got 100001" in told
    (loras / "my-100001.safetensors").unlink()
    (told,) = lines(tmp_path, {"last": 3})
    assert told == "checkpoints.last: expected nothing: the files say 4, got 3"
    write_lora(loras / "my.safetensors", fill=1.0)
    unnamed = "checkpoints.last: expected the epoch of my.safetensors, whose name and metadata do not say it"
    assert lines(tmp_path) == [f"{unnamed}, after 4, got nothing"]
    for name in ("my-000002", "my-000004"):
        (loras / f"{name}.safetensors").unlink()
    assert lines(tmp_path) == [f"{unnamed}, got nothing"]
