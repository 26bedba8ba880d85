"""The verdict: the right trial, the right epoch, in plain words, whatever the study came to."""

import io
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from metrics.readings import Readings
from metrics.trajectory import Trajectory
from search.best import onset_of
from search.record import StudyFolder, TrialRecord
from search.verdict import Verdict, _plateau, finish, make_verdict, render
from search.words import duration, sentences, settings, turn
from tests.search.made import PLANS, PROMPTS, Plan, make_lora, make_study, shared_study
from trainer.config import load_train_config, parse_train_config
from trainer.production_config import load_production


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, tiny_sd15: Path, tiny_photos: Path) -> StudyFolder:
    return shared_study(tmp_path_factory.getbasetemp() / "made", tiny_sd15, tiny_photos)


@pytest.fixture(scope="module")
def finished(study: StudyFolder, tmp_path_factory: pytest.TempPathFactory) -> tuple[StudyFolder, Verdict]:
    copy = StudyFolder(tmp_path_factory.mktemp("finished") / "runs" / "toy")
    shutil.copytree(study.path, copy.path)
    return copy, finish(copy, wall_seconds=125.0)


def _text(verdict: Verdict) -> str:
    out = io.StringIO()
    Console(file=out, width=400).print(render(verdict))
    return out.getvalue()


def test_it_names_the_planted_winner_and_an_epoch_between_learning_and_onset(finished):
    folder, verdict = finished
    assert (verdict.status, verdict.trial) == ("found", 2)
    onset = onset_of(verdict.onset)
    assert onset.learned <= verdict.epoch < onset.context.epoch
    assert verdict.epoch == TrialRecord.load(folder.trial(2)).epoch_shipped
    assert abs(onset.context.epoch - 18) < 6, "planted at 18"
    assert verdict.plateau[0] <= verdict.epoch <= verdict.plateau[1]


def test_it_says_what_it_cost(finished):
    _, verdict = finished
    cost = verdict.cost
    assert (cost.trials, cost.complete, cost.pruned, cost.failed, cost.at_onset) == (8, 6, 1, 1, 1)
    assert cost.epochs == 40 * 5 + 32 + 10 + 4
    assert cost.seconds == pytest.approx(cost.train + cost.sample + cost.score)
    assert cost.wall_seconds == 125.0
    assert "2 min 5 s on the clock" in verdict.sentences[-1]


def test_the_words_name_epoch_settings_both_onsets_their_channels_and_the_files(finished):
    _, verdict = finished
    said = _text(verdict)
    assert f"Ship epoch {verdict.epoch} of trial 2" in said
    assert "New contexts get worse from epoch" in said
    assert re.search(r"New contexts get worse [^;]*; [^;.]*shifted loss[^;.]* says? so", said)
    assert "The set's own contexts get worse" in said
    assert re.search(r"own contexts get worse [^;]*; [^;.]*held-out loss[^;.]* says? so", said)
    assert "learning rate 0.0006" in said
    assert "best/toy.safetensors" in said
    assert "the loss is NaN at epoch 4" in said


def test_best_holds_the_shipped_lora_and_a_train_yaml_that_keeps_the_horizon(finished):
    folder, verdict = finished
    shipped = folder.checkpoint(2, verdict.epoch) / "lora.safetensors"
    assert (folder.best_folder / "toy.safetensors").read_bytes() == shipped.read_bytes()
    assert verdict.lora_bytes == shipped.stat().st_size
    config, output = load_production(folder.best_folder / "train.yaml")
    assert config == parse_train_config(TrialRecord.load(folder.trial(2)).config)
    assert config.epochs == 40
    assert output.ship_epoch == verdict.epoch
    for path in verdict.files.values():
        assert (folder.path / path).exists(), path


def test_verdict_json_reads_back_as_the_same_verdict(finished):
    folder, verdict = finished
    again = Verdict.load(folder.verdict_file)
    assert replace(again, onset=None) == replace(verdict, onset=None)
    assert onset_of(again.onset) == onset_of(verdict.onset)


def test_among_ties_the_smaller_file_wins_and_the_other_is_named(tmp_path, tiny_photos):
    config = {"optimizer": "AdamW", "lr_scheduler": "constant", "learning_rate_scale": 4.0}
    plans = (
        Plan({**config, "rank": 16}, quality=0.601),
        Plan({**config, "rank": 4}, quality=0.6),
        Plan({**config, "rank": 2}, quality=0.4),
    )
    folder = make_study(tmp_path, tmp_path, tiny_photos, plans)
    for number, value in ((0, 0.601), (1, 0.6), (2, 0.4)):
        record = TrialRecord.load(folder.trial(number))
        replace(record, value=value, score=value).save(folder.trial(number))
    verdict = make_verdict(folder)
    assert verdict.trial == 1
    assert verdict.ties == (0,)
    assert any("As good within the noise" in s and "trial 0" in s for s in verdict.sentences)


def test_among_ties_of_one_size_the_wider_plateau_wins(tmp_path, tiny_photos):
    config = {"optimizer": "AdamW", "lr_scheduler": "constant", "rank": 8}
    narrow, wide = Plan(config, quality=0.66, turn=4), Plan(config, quality=0.55, turn=None)
    folder = make_study(tmp_path, tmp_path, tiny_photos, (narrow, wide))
    records = [TrialRecord.load(folder.trial(n)) for n in (0, 1)]
    for record in records:  # the same value for both: only the plateau is left to decide
        replace(record, value=0.6, score=0.6).save(folder.trial(record.number))
    assert make_verdict(folder).trial == 1


def test_nothing_learned_is_said_and_nothing_is_recommended(tmp_path, tiny_photos):
    folder = make_study(tmp_path, tmp_path, tiny_photos, PLANS[:1], learn=False)
    verdict = make_verdict(folder)
    assert verdict.status == "not_learned"
    said = _text(verdict)
    assert "Ship nothing yet" in said
    assert "higher learning rate" in said
    assert "The subject is learned" not in said


def test_a_score_of_nothing_is_never_recommended(tmp_path, tiny_photos):
    folder = make_study(tmp_path, tmp_path, tiny_photos, (replace(PLANS[0], quality=0.01),))
    verdict = finish(folder)
    assert verdict.status == "poor"
    said = _text(verdict)
    assert "Ship nothing yet" in said
    assert "lower learning rate" in said
    assert "epoch to ship" not in (folder.best_folder / "train.yaml").read_text()


def test_a_study_where_everything_failed_still_ends_with_a_verdict(tmp_path, tiny_photos):
    folder = make_study(tmp_path, tmp_path, tiny_photos, (PLANS[4], PLANS[4]))
    verdict = finish(folder)
    assert verdict.status == "nothing"
    assert verdict.trial is None
    assert "2 trials failed" in _text(verdict)
    assert "the loss is NaN at epoch 4" in folder.report.read_text()
    assert not (folder.best_folder / "train.yaml").exists()


def test_with_only_pruned_trials_the_best_of_them_is_shown_as_unfinished(tmp_path, tiny_photos):
    verdict = make_verdict(make_study(tmp_path, tmp_path, tiny_photos, (PLANS[1],)))
    assert (verdict.status, verdict.trial) == ("unfinished", 0)
    assert "No trial is complete" in _text(verdict)


def test_a_study_that_went_on_leaves_nothing_of_the_old_winner_in_best(finished, tmp_path):
    folder = StudyFolder(tmp_path / "toy")
    shutil.copytree(finished[0].path, folder.path)
    (folder.best_folder / "stale.png").write_bytes(b"old")
    record = TrialRecord.load(folder.trial(3))
    replace(record, value=0.99, score=0.99).save(folder.trial(3))
    verdict = finish(folder)
    assert verdict.trial == 3
    assert not (folder.best_folder / "stale.png").exists()
    assert not (folder.best_folder / "toy.safetensors").exists(), "trial 3's checkpoint was not kept"
    assert "no LoRA here" in _text(verdict)


def test_photos_held_out_move_the_epoch_of_the_production_run(finished):
    _, verdict = finished  # 6 of 8 photos trained on
    early = round(verdict.epoch * (6 / 8) ** 0.5)
    expected = f"train.yaml trains on all 8, where the same point lies between epochs {early} and {verdict.epoch}."
    assert any(s.endswith(expected) for s in verdict.sentences)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ({"status": "found", "epoch": 16.0, "low": 12.0, "high": 20.0, "channels": ("shifted_loss", "prompt")},
         "New contexts get worse from epoch 16 on (90 % interval 12–20); shifted loss, prompt obedience say so."),
        ({"status": "found", "epoch": 7.5, "low": 6.0, "high": None, "channels": ("copying",)},
         "New contexts get worse from epoch 7.5 on (90 % interval from 6 to behind the last checkpoint); "
         "copying says so."),
        ({"status": "beyond"}, "New contexts were not yet getting worse at epoch 40, the last one looked at."),
        ({"status": "at_start"},
         "New contexts are already getting worse at the first checkpoint: save more often, or learn more slowly."),
        ({"status": "unmeasured"}, "New contexts could not be judged: no channel measures them in this study."),
    ],
)  # fmt: skip
def test_every_kind_of_turn_has_its_sentence(found, expected):
    assert turn("context", found, 40) == expected


def test_memory_without_held_out_photos_says_how_little_it_rests_on():
    said = turn("memory", {"status": "beyond", "channels": ["copying"]}, 40)
    assert said.startswith("No copies of the photos turned up until epoch 40")
    assert "score.holdout" in said
    copied = turn(
        "memory", {"status": "found", "epoch": 9, "low": 8, "high": 12, "channels": ["copying", "composition"]}, 40
    )
    assert copied == "Photos are reproduced from epoch 9 on (90 % interval 8–12)."
    measured = turn("memory", {"status": "beyond", "channels": ["heldout_loss"]}, 40)
    assert measured.startswith("The set's own contexts were not yet getting worse at epoch 40")


@pytest.mark.parametrize(("channels", "advised"), [(["shifted_loss"], True), (["context_loss", "shifted_loss"], False)])
def test_an_epoch_inside_the_context_interval_is_met_with_advice(finished, channels, advised):
    _, verdict = finished
    context = {"status": "found", "epoch": 16.0, "low": 4.0, "high": None, "channels": channels}
    said = sentences(replace(verdict, epoch=12, onset={"learned": 8, "context": context}))
    assert any("Epoch 12 lies inside the onset's interval" in sentence for sentence in said)
    assert any("score.holdout_contexts" in sentence for sentence in said) == advised


def test_settings_say_the_learning_rate_in_force():
    given = {"base": "b", "data": "d"}
    relative = parse_train_config(
        {**given, "optimizer": "Adafactor", "relative_step": True, "lr_scheduler": "adafactor"}
    )
    assert "sets its own learning rate" in settings(relative.model_dump())
    scaled = parse_train_config(
        {**given, "optimizer": "Lion", "learning_rate_scale": 3.0, "rank": 16, "alpha_ratio": 0.25}
    )
    assert "learning rate 6e-05" in settings(scaled.model_dump())
    assert settings(scaled.model_dump()).endswith("rank 16, alpha 4")
    assert "alpha 16" in settings(parse_train_config({**given, "rank": 16}).model_dump())


def test_markup_in_an_error_is_printed_as_it_is(tmp_path, tiny_photos):
    plan = replace(PLANS[4], error="RuntimeError: shape [4, 16] and [/bold] do not fit")
    verdict = make_verdict(make_study(tmp_path, tmp_path, tiny_photos, (plan,)))
    assert "shape [4, 16] and [/bold] do not fit" in _text(verdict)


@pytest.mark.parametrize(("seconds", "words"), [(42.4, "42 s"), (185, "3 min 5 s"), (7800, "2 h 10 min")])
def test_durations_read_like_a_clock(seconds, words):
    assert duration(seconds) == words


def test_a_lora_of_the_planted_study_loads(study, tiny_sd15, tmp_path):
    make_lora(tmp_path / "lora.safetensors", tiny_sd15, rank=4)
    from trainer.kohya import load_lora

    assert all(m.rank == 4 for m in load_lora(tmp_path / "lora.safetensors").modules.values())


def test_train_yaml_names_the_lora_and_draws_samples(finished):
    config, output = load_production(finished[0].best_folder / "train.yaml")
    assert config == load_train_config(finished[0].best_folder / "train.yaml"), "who wants the config alone gets it"
    assert output.name == "toy"
    assert output.sample_prompts == tuple(p for p, kind in PROMPTS if kind == "C")


def test_a_better_neighbour_does_not_end_the_plateau():
    scores = {4: 0.50, 6: 0.54, 8: 0.50, 10: 0.53, 12: 0.30}
    nothing = Readings(0, 0.0, {})
    trajectory = Trajectory((nothing, *(replace(nothing, epoch=e, score=score) for e, score in scores.items())))
    assert _plateau(trajectory, 8, 0.02) == (4, 10)
