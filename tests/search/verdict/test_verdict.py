"""The verdict: the right trial, the right epoch, in plain words, whatever the study came to."""

import io
import re
import shutil
from dataclasses import replace

import pytest
from rich.console import Console

from metrics.onset.sentences import READ_FROM, epoch_text, interval_text
from metrics.onset.turns import Choice
from metrics.trajectory.readings import Readings
from metrics.trajectory.trajectory import Trajectory
from search.errors import SearchError
from search.record.finished_run import FinishedRun
from search.record.record import StudyFolder, TrialRecord
from search.verdict.decision import Decision, OnsetFound
from search.verdict.plateau import Peak, peak, plateau
from search.verdict.quantities import duration
from search.verdict.sentences import headline, say
from search.verdict.settings_sentences import settings
from search.verdict.terminal import render, show
from search.verdict.trial_sentences import onset_sentences, plot_caption, trial_sentences
from search.verdict.verdict import Verdict, finish, make_verdict
from tests.search.finished_studies import PLANS, PROMPTS, Plan, make_lora, make_study
from trainer.config.config import load_train_config, parse_train_config
from trainer.production.production_config import load_production


@pytest.fixture(scope="module")
def study(finished_study: StudyFolder) -> StudyFolder:
    return finished_study


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
    assert (verdict.decision.outcome, verdict.trial) == ("ship", 2)
    onset = verdict.decision
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
    for name in ("context", "memory"):
        onset = getattr(verdict.decision, name)
        between = interval_text(onset.low, onset.high)
        assert re.search(rf"{name.capitalize()} onset: epoch {epoch_text(onset.epoch)} \([^)]*{between}\)", said)
    assert all(READ_FROM[channel] in said for channel in verdict.decision.context.channels)
    assert "learning rate 0.0006" in said
    assert "best/toy.safetensors" in said
    assert "the loss is NaN at epoch 4" in said


def test_best_holds_the_shipped_lora_and_a_train_yaml_that_keeps_the_horizon(finished):
    folder, verdict = finished
    shipped = folder.checkpoint(2, verdict.epoch) / "lora.safetensors"
    assert (folder.best_folder / "toy.safetensors").read_bytes() == shipped.read_bytes()
    assert verdict.lora_bytes == shipped.stat().st_size
    config, output = load_production(folder.best_folder / "train.yaml")
    assert config == TrialRecord.load(folder.trial(2)).config
    assert config.epochs == 40
    assert output.ship_epoch == verdict.epoch
    for path in verdict.files.values():
        assert (folder.path / path).exists(), path


def test_verdict_json_reads_back_as_the_same_verdict(finished):
    folder, verdict = finished
    again = Verdict.load(folder.verdict_file)
    assert again == verdict


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
    assert any(s.startswith("Trial 0 ") and f"±{verdict.noise:.3f}" in s for s in verdict.said.sure)


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
    assert verdict.decision.outcome == "not_learned"
    said = _text(verdict)
    assert "Ship nothing yet" in said
    assert "higher learning rate" in said
    assert "show the subject from" not in said


def test_a_score_of_nothing_is_never_recommended(tmp_path, tiny_photos):
    folder = make_study(tmp_path, tmp_path, tiny_photos, (replace(PLANS[0], quality=0.01),))
    verdict = finish(folder)
    assert verdict.decision.outcome == "poor"
    said = _text(verdict)
    assert "Ship nothing yet" in said
    assert "lower learning rate" in said
    assert "epoch to ship" not in (folder.best_folder / "train.yaml").read_text()


def test_a_study_where_everything_failed_still_ends_with_a_verdict(tmp_path, tiny_photos):
    folder = make_study(tmp_path, tmp_path, tiny_photos, (PLANS[4], PLANS[4]))
    verdict = finish(folder)
    assert verdict.decision.outcome == "nothing"
    assert verdict.trial is None
    assert "2 trials failed" in _text(verdict)
    assert "the loss is NaN at epoch 4" in folder.report.read_text()
    assert not (folder.best_folder / "train.yaml").exists()


def test_with_only_pruned_trials_the_best_of_them_is_shown_as_unfinished(tmp_path, tiny_photos):
    verdict = make_verdict(make_study(tmp_path, tmp_path, tiny_photos, (PLANS[1],)))
    assert (verdict.decision.outcome, verdict.trial) == ("unfinished", 0)
    assert "Ship nothing yet: no trial has trained to its end" in _text(verdict)


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
    assert not any("toy.safetensors" in s for s in verdict.sentences)
    assert any("best/train.yaml" in s and "not kept" in s for s in verdict.said.do)


def test_photos_held_out_move_the_epoch_of_the_production_run(finished):
    _, verdict = finished  # 6 of 8 photos trained on
    early = round(verdict.epoch * (6 / 8) ** 0.5)
    assert verdict.on_all_photos == (early, verdict.epoch)
    (told,) = (s for s in verdict.said.do if "held out" in s)
    for part in ("2 of the 8 photos", "best/train.yaml", f"epochs {early} to {verdict.epoch}"):
        assert part in told


def told_of(kind, onset, last=40):
    return onset_sentences(kind, Decision("ship", last=last, **{kind: onset}))


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (
            OnsetFound("found", 16.0, 12.0, 20.0, ("shifted_loss", "prompt")),
            ("epoch 16 ", "12–20", "moved subjects", "prompts"),
        ),
        (OnsetFound("found", 7.5, 6.0, None, ("copying", "prompt")), ("epoch 7.5 ", "6–open", "copies of photos")),
        (OnsetFound("beyond"), ("none", "epoch 40", "last checkpoint")),
        (OnsetFound("at_start", 4.0, 0.0, 8.0), ("epoch 4,", "first checkpoint", "0–8")),
        (OnsetFound("unmeasured"), ("not measured", "two checkpoints", "score.holdout_contexts")),
    ],
)
def test_every_kind_of_onset_is_told_with_what_is_known_of_it(found, told):
    said = " ".join(filter(None, told_of("context", found)))
    assert said.startswith("Context onset: ")
    assert [part for part in told if part not in said] == []
    assert ("contexts that the photos do not show" in said) == (found.epoch is not None)


def test_a_memory_onset_that_was_not_judged_names_all_that_it_needs():
    """One checkpoint is too few, too, however many photos are held out."""
    needs = told_of("memory", OnsetFound("unmeasured"), 2)[1]
    assert "score.holdout)" in needs
    assert "two checkpoints" in needs


def test_memory_without_held_out_photos_says_how_little_it_rests_on():
    said = " ".join(told_of("memory", OnsetFound("beyond", channels=("copying",))))
    assert said.startswith("Memory onset: no copies of the photos")
    assert "epoch 40" in said
    assert "(score.holdout)" in said
    where, meaning = told_of("memory", OnsetFound("found", 9, 8, 12, ("copying", "composition")))
    assert re.fullmatch(r"Memory onset: epoch 9 \([^)]*8–12\)\.", where)
    assert "copy the photos" in meaning
    where, meaning = told_of("memory", OnsetFound("beyond", channels=("heldout_loss",)))
    assert "none" in where
    assert meaning == ""


def test_one_run_is_told_where_its_images_are_best_and_no_trial_number(tmp_path, tiny_sd15, tiny_photos):
    folder = make_study(tmp_path, tiny_sd15, tiny_photos, (Plan({"rank": 8}, quality=0.6, turn=12.0),))
    record = TrialRecord.load(folder.trial(0))
    replace(record, params={}).save(folder.trial(0))
    verdict = make_verdict(folder)
    scores = {r.epoch: r.score for r in folder.trajectory(0).readings if r.epoch}
    best = max(scores, key=lambda epoch: scores[epoch])
    found = verdict.peak
    assert (found.epoch, found.score) == (best, scores[best])
    assert all(scores[e] >= scores[best] - verdict.noise for e in scores if found.first <= e <= found.last)
    assert headline(verdict).startswith(f"Ship epoch {verdict.epoch} (")
    assert f"best at epoch {best}, with a score of {scores[best]:.3f}" in " ".join(verdict.sentences)
    assert peak(None, 0.01) is None


def test_a_finished_run_that_counts_steps_is_told_in_steps_and_with_the_keys_of_its_file():
    """Every sentence is made with its unit: no other word for it is left anywhere."""
    onset = OnsetFound("found", 500, 300, None, ("heldout_loss",))
    found = Decision("ship", 0, 600, 0.5, 200, "images", memory=onset, last=600, kind="finished", unit="step")
    config = parse_train_config({"base": "b", "data": "d", "epochs": 600, "save_every_n_epochs": 100})
    run = FinishedRun({200: "a", 600: "b"}, "step", "rank 4", 2)
    outcomes = ("ship", "not_learned", "poor", "failed")
    decisions = [replace(found, outcome=outcome) for outcome in outcomes]
    decisions += [replace(found, memory=OnsetFound(status)) for status in ("beyond", "unmeasured")]
    decisions += [replace(found, memory=OnsetFound("at_start", 200, 0, 300)), replace(found, learned=700)]
    decisions += [replace(found, memory=OnsetFound("beyond", channels=("copying",)))]
    for decision in decisions:
        verdict = Verdict("x", decision, config, finished_run=run, peak=Peak(400, 0.5, 200, 600), epochs=600)
        said = [headline(verdict), plot_caption(decision), *trial_sentences(decision)]
        said += [sentence for _, part in say(verdict).parts for sentence in part]
        assert [one for one in said if "epoch" in one.lower()] == []
        assert [one for one in said if "score.holdout)" in one or "train." in one.replace("trained", "")] == []
        assert any("step" in one for one in said) or decision.outcome == "failed"


@pytest.mark.parametrize(("channels", "advised"), [(("shifted_loss",), True), (("context_loss",), False)])
def test_an_epoch_inside_the_context_interval_is_met_with_advice(finished, channels, advised):
    _, verdict = finished
    context = OnsetFound("found", 16.0, 9.5, None, channels)
    found = Decision("ship", 2, 12, 0.5, learned=8, learned_by="images", context=context, last=32)
    sure = " ".join(say(replace(verdict, decision=found)).sure)
    assert "Epoch 12 lies inside the interval of the context onset" in sure
    assert "To be surer, take epoch 8." in sure
    assert ("score.holdout_contexts" in sure) == advised
    late = " ".join(say(replace(verdict, decision=replace(found, learned=10))).sure)
    assert "No earlier epoch is safer" in late
    outside = " ".join(say(replace(verdict, decision=replace(found, epoch=8))).sure)
    assert "inside the interval" not in outside


@pytest.mark.parametrize(("channel", "best"), [("context_loss", "has the best losses"), ("fidelity", "scores best")])
def test_the_best_checkpoint_is_said_to_be_so_by_losses_where_the_score_may_be_higher_elsewhere(
    finished, channel, best
):
    _, verdict = finished
    context = OnsetFound("found", 16.0, 9.5, None, (channel,))
    found = Decision("ship", 2, 12, 0.5, learned=8, learned_by="images", context=context, last=32)
    chosen = say(replace(verdict, decision=found)).why[0]
    assert chosen.startswith(f"Epoch 12 {best}")
    assert "before the context onset" in chosen
    never = say(replace(verdict, decision=replace(found, context=OnsetFound("beyond", channels=(channel,))))).why[0]
    assert never.startswith(f"Epoch 12 {best}")
    assert "onset" not in never


def test_an_epoch_past_the_safe_one_and_a_subject_that_only_losses_see_are_said(finished):
    _, verdict = finished
    context = OnsetFound("found", 16.0, 9.5, None, ("context_loss",))
    found = Decision("ship", 2, 12, 0.5, learned_by="losses", context=context, last=32, safe=Choice(8, 6, 10))
    later, images = say(replace(verdict, decision=found)).why[:2]
    assert "Epoch 12 is later than the safe epoch" in later
    assert "look at the contact sheet" in images
    at_it = say(replace(verdict, decision=replace(found, safe=Choice(12, 8, 16)))).why[0]
    assert "safe epoch" not in at_it


@pytest.mark.parametrize(
    ("context", "memory", "held_out"),
    [
        (("shifted_loss", "fidelity"), ("copying",), False),
        (("shifted_loss",), (), False),
        (("shifted_loss", "heldout_loss"), ("copying", "composition"), True),
        (("context_loss",), ("copying", "composition"), True),
        (("shifted_loss",), ("heldout_loss",), True),
    ],
)
def test_why_an_epoch_past_the_safe_one_ships_hangs_on_what_was_held_out(finished, context, memory, held_out):
    _, verdict = finished
    context, memory = OnsetFound("found", 10.0, 9.5, None, context), OnsetFound("found", 30.0, 29.0, None, memory)
    found = Decision(
        "ship", 2, 12, 0.5, context=context, memory=memory, last=32, safe=Choice(8, 6, 10), chosen_by="balanced"
    )
    later = say(replace(verdict, decision=found)).why[0]
    assert ("No photos are held out" in later) != held_out
    assert ("still gets more alike" in later) == held_out


@pytest.mark.parametrize(
    ("asked", "instead"),
    [
        ({}, {}),
        ({"optimizer": "Lion"}, {0: "Lion", 1: "learning rate 2e-05"}),
        ({"optimizer": "Lion", "learning_rate_scale": 3.0}, {0: "Lion", 1: "learning rate 6e-05"}),
        ({"optimizer": "Prodigy"}, {0: "Prodigy", 1: "learning rate 1"}),
        ({"optimizer": "Prodigy", "d_coef": 2.0}, {0: "Prodigy", 1: "learning rate 1, d_coef 2"}),
        ({"optimizer": "Adafactor", "relative_step": True, "lr_scheduler": "adafactor"},
         {0: "Adafactor", 1: "sets its own learning rate", 2: "adafactor"}),
        ({"lr_scheduler": "cosine"}, {2: "cosine"}),
        ({"lr_scheduler": "cosine_with_restarts"}, {2: "cosine_with_restarts"}),
        ({"lr_scheduler": "cosine_with_restarts", "num_cycles": 1}, {2: "cosine_with_restarts, 1 cycle"}),
        ({"lr_scheduler": "cosine_with_restarts", "num_cycles": 3}, {2: "cosine_with_restarts, 3 cycles"}),
        ({"lr_scheduler": "cosine_with_restarts", "cycle_epochs": 5}, {2: "cosine_with_restarts every 5 epochs"}),
        ({"rank": 8}, {3: "rank 8", 4: "alpha 8"}),
        ({"rank": 16, "alpha_ratio": 0.25}, {4: "alpha 4"}),
        ({"targets": "attention"}, {5: "attention only"}),
        ({"steps_per_epoch": 120}, {5: "epochs of 120 steps"}),
        ({"dora": True}, {5: "DoRA"}),
        ({"rslora": True}, {5: "rank-stabilised"}),
        ({"train_text_encoder": True}, {5: "text encoder too"}),
    ],
    ids=str,
)  # fmt: skip
def test_settings_are_told_in_a_line_and_nothing_that_was_not_set(asked, instead):
    parts = dict(enumerate(["AdamW", "learning rate 0.0001", "constant", "rank 16", "alpha 16"]))
    assert settings(parse_train_config({"base": "b", "data": "d", **asked})) == ", ".join((parts | instead).values())


def test_markup_in_an_error_is_printed_as_it_is(tmp_path, tiny_photos):
    plan = replace(PLANS[4], error="RuntimeError: shape [4, 16] and [/bold] do not fit")
    verdict = make_verdict(make_study(tmp_path, tmp_path, tiny_photos, (plan,)))
    assert "shape [4, 16] and [/bold] do not fit" in _text(verdict)


@pytest.mark.parametrize(("seconds", "words"), [(42.4, "42 s"), (185, "3 min 5 s"), (7800, "2 h 10 min")])
def test_durations_read_like_a_clock(seconds, words):
    assert duration(seconds) == words


def test_a_lora_of_the_planted_study_loads(study, tiny_sd15, tmp_path):
    make_lora(tmp_path / "lora.safetensors", tiny_sd15, rank=4)
    from trainer.lora.kohya_file import load_lora

    assert all(m.rank == 4 for m in load_lora(tmp_path / "lora.safetensors").modules.values())


def test_train_yaml_names_the_lora_and_draws_samples(finished):
    config, output = load_production(finished[0].best_folder / "train.yaml")
    assert config == load_train_config(finished[0].best_folder / "train.yaml"), "who wants the config alone gets it"
    assert output.name == "toy"
    assert output.sample_prompts == tuple(p for p, kind in PROMPTS if kind == "C")


def test_a_better_neighbour_does_not_end_theplateau():
    scores = {4: 0.50, 6: 0.54, 8: 0.50, 10: 0.53, 12: 0.30}
    nothing = Readings(0, 0.0, {})
    trajectory = Trajectory((nothing, *(replace(nothing, epoch=e, score=score) for e, score in scores.items())))
    assert plateau(trajectory, 8, 0.02) == (4, 10)


def test_a_study_with_nothing_but_failures_is_no_success(tmp_path, tiny_photos, capsys):
    failed = Plan(PLANS[0].config, state="failed", error="the loss became NaN at epoch 1")
    folder = make_study(tmp_path, tmp_path, tiny_photos, (failed, failed))
    finish(folder)
    with pytest.raises(SearchError, match="every trial failed, the last one with: the loss became NaN at epoch 1"):
        show(folder)
    assert "verdict · toy" in capsys.readouterr().out
    mixed = make_study(tmp_path / "mixed", tmp_path, tiny_photos, (failed, PLANS[0]))
    finish(mixed)
    show(mixed)
