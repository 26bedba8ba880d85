"""A study file that looks at a finished run: what it may say, and what its files tell."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

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
