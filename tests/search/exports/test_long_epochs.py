"""The production run of a study whose epochs are a number of steps."""

import tomllib
from dataclasses import replace
from pathlib import Path

from search.export import export
from search.record.record import TrialRecord
from search.verdict.verdict import finish
from tests.search.finished_studies import PLANS, make_study
from trainer.production.production_config import load_production


def test_epochs_of_steps_stay_the_same_part_of_a_pass_over_more_photos(
    tmp_path: Path, tiny_sd15: Path, tiny_photos: Path
) -> None:
    folder = make_study(tmp_path / "runs", tiny_sd15, tiny_photos, PLANS[:1])
    finish(folder)
    record = TrialRecord.load(folder.trial(0))
    replace(record, config=record.config.model_copy(update={"steps_per_epoch": 6})).save(folder.trial(0))
    done = export(folder, tmp_path / "out")
    about = folder.probe()
    trained, held = len(about.trained), about.held_out
    each = round(6 * (trained + held) / trained)
    config, output = load_production(tmp_path / "out" / "train.yaml")
    assert (config.steps_per_epoch, output.ship_epoch) == (each, done.epoch)
    assert any(f"An epoch has {each} steps here instead of 6" in line for line in done.said) == (each != 6)
    theirs = tomllib.loads((tmp_path / "out" / "sd-scripts" / "config.toml").read_text())
    assert theirs["max_train_steps"] == done.epoch * each
