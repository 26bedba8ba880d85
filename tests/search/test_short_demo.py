"""A shortened demo through the command: to its verdict, killed and resumed to the same numbers, and again."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import psutil
import pytest
import yaml
from PIL import Image

from search import status
from search.record.lock import locked
from search.record.record import StudyFolder
from search.verdict.verdict import Verdict
from tests.messages import refusal
from tests.search import damage
from tests.search.recovery.real_studies import run_here
from tests.search.shared_server import own_server
from tests.search.short_demo import cut_short
from tests.search.study_processes import PATIENCE_SECONDS, STUDIES, finish, start, wait_until, workers_of


@pytest.fixture(scope="module")
def short_demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo study with half of its photos, two trials of three epochs of a few steps, and a small probe."""
    home = tmp_path_factory.mktemp("short")
    values: dict[str, Any] = yaml.safe_load((STUDIES / "demo.yaml").read_text())
    (photos,) = (STUDIES / values["data"]).iterdir()
    for number in (*range(1, 13), *range(25, 28)):  # the last three are all that show a desert
        for file in photos.glob(f"{number:02}.*"):
            (home / "photos" / photos.name).mkdir(parents=True, exist_ok=True)
            shutil.copy(file, home / "photos" / photos.name)
    values |= {"base": str(STUDIES / values["base"]), "data": str(home / "photos")}
    values["train"] |= {"epochs": 3, "save_every_n_epochs": 1, "batch_size": 2}
    values["search"]["epochs"]["values"] = [3]
    del values["sampler"]  # what it starts with has other epochs
    values["score"] |= {"precision": "fp32", "holdout_contexts": ["desert"]}
    cut_short(values["score"], contexts=1, steps=2, composites=4)
    values["budget"] = {"trials": 2, "startup_trials": 1}
    values |= {"stop": {"onset": False, "prune": False}, "keep": {}}
    path = home / "demo.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


@pytest.fixture(scope="module")
def undisturbed(short_demo: Path) -> tuple[StudyFolder, str]:
    """The folder it leaves and what it said."""
    runs = short_demo.parent / "undisturbed"
    with own_server():
        code, said = run_here(short_demo, runs)
    assert code == 0, said
    return StudyFolder(runs / "demo"), said


@pytest.fixture(scope="module")
def disturbed(short_demo: Path) -> StudyFolder:
    """The same study: interrupted, then a worker and after it the coordinator killed in a trial, then what they left
    is damaged; then it goes on."""
    runs = short_demo.parent / "disturbed"
    folder = StudyFolder(runs / "demo")
    process = start(short_demo, runs)
    wait_until(lambda: (folder.trial(1) / "record.json").is_file(), process)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 130, said
    assert "everything finished so far is kept" in said
    process = start(short_demo, runs)
    wait_until(lambda: (folder.trial(0) / "readings" / "0001.npz").is_file(), process)
    victim, *others = workers_of(process)
    victim.kill()
    wait_until(lambda: any((folder.trial(n) / "readings" / "0002.npz").is_file() for n in (0, 1)), process)
    orphans = workers_of(process)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert not psutil.wait_procs([*orphans, *others], timeout=30)[1], "workers outlive their coordinator"
    states = [r.state for r in folder.records()]
    assert "running" in states
    for record in [r for r in folder.records() if r.state == "running"]:
        home = folder.trial(record.number)
        damage.empty(home / "record.json")
        for newest in (sorted(home.glob("readings/0*.npz"))[-1:], sorted(home.glob("checkpoints/0*/state.json"))[-1:]):
            for path in newest:
                damage.flip(path)
    damage.truncate(folder.cache / "probe" / "calibration.npz")
    said = finish(start(short_demo, runs))
    assert "calibration.npz is damaged or missing: the probe is built again" in said
    return folder


def test_it_ends_with_a_verdict_and_the_files_it_promises(undisturbed) -> None:
    folder, said = undisturbed
    verdict = Verdict.load(folder.verdict_file)
    assert verdict.cost.complete == 2
    if verdict.decision.ships:
        assert verdict.finalists is not None
        assert (verdict.finalists.of(verdict.trial).score, verdict.finalists.left_out) == (verdict.score, {})
        assert verdict.files["strengths"] == "strengths.png"
    assert "verdict" in said
    assert sum("to compare" in sentence and "LoRA files" in sentence for sentence in verdict.sentences) == 1
    for name in ("study.db", "study.yaml", "report.html", "best/train.yaml", "best/sheet.png", "artifacts", "cache"):
        assert (folder.path / name).exists(), name
    for record in folder.records():
        trial = folder.trial(record.number)
        for name in ("config.yaml", "record.json", "trajectory.csv", "items.npz", "sheet.png", "onset.png"):
            assert (trial / name).is_file(), name
        kept = sorted(int(p.name) for p in (trial / "checkpoints").iterdir())
        around = {record.epoch_shipped - 1, record.epoch_shipped, record.epoch_shipped + 1}
        assert around & {*range(1, record.epochs_trained + 1)} <= set(kept)  # two trials: both are finalists
        assert not list((trial / "checkpoints").glob("*/state.*"))
        assert folder.sampled_epochs(record.number) == list(range(record.epochs_trained + 1))
        assert record.timings["train"] > 0
        assert record.versions["torch"]


def test_every_loss_channel_is_measured(undisturbed) -> None:
    folder, _ = undisturbed
    trajectory = folder.trajectory(0)
    assert {
        "heldout_loss",
        "context_loss",
        "shifted_loss",
        "fidelity",
        "prompt",
        "copying",
        "colour",
        "composition",
    } <= set(trajectory.channels)
    assert np.isfinite(trajectory.scores).all()


def test_held_out_photos_are_not_trained_on(undisturbed) -> None:
    folder, _ = undisturbed
    about = folder.probe()
    assert (len(about.trained), len(about.heldout), len(about.context)) == (8, 4, 3)
    assert not {*about.heldout, *about.context} & set(about.trained)
    assert not set(about.heldout) & set(about.context)


@pytest.mark.slow  # each day's tests kill a smaller study at its writes (running/test_crash_points.py)
def test_killed_and_resumed_it_gives_the_same_numbers(undisturbed, disturbed) -> None:
    before, _ = undisturbed
    assert [r.number for r in disturbed.records()] == [r.number for r in before.records()] == [0, 1]
    for first, second in zip(before.records(), disturbed.records(), strict=True):
        assert (first.params, first.state, first.epoch_shipped) == (second.params, second.state, second.epoch_shipped)
        assert (first.value, first.score, first.onset) == (second.value, second.score, second.onset)
        number = first.number
        assert (before.trial(number) / "trajectory.csv").read_text() == (
            disturbed.trial(number) / "trajectory.csv"
        ).read_text()
        epoch = first.epochs_trained
        assert (before.samples(number, epoch) == disturbed.samples(number, epoch)).all()
    tables = [optuna.load_study(study_name="demo", storage=f"sqlite:///{f.database}") for f in (before, disturbed)]
    assert len({str([(t.number, t.params, t.value, t.intermediate_values) for t in s.trials]) for s in tables}) == 1


def test_run_again_it_says_at_once_that_it_is_finished(short_demo: Path, undisturbed) -> None:
    script = (
        "import sys; from search.run import main; code = main(sys.argv[1:]); "
        "print(code, [m for m in ('torch', 'optuna', 'pandas', 'scipy') if m in sys.modules])"
    )
    runs = undisturbed[0].path.parent
    done = subprocess.run(
        [sys.executable, "-c", script, str(short_demo), "--runs", str(runs)], capture_output=True, text=True, check=True
    )
    assert "is finished: 2 trials" in done.stdout
    assert done.stdout.splitlines()[-1] == "0 []"


def test_a_changed_study_is_refused_by_name(short_demo: Path, undisturbed) -> None:
    changed = short_demo.with_name("changed.yaml")
    changed.write_text(short_demo.read_text().replace("batch_size: 2", "batch_size: 4"))
    code, said = run_here(changed, undisturbed[0].path.parent)
    assert code == 2
    assert re.search(refusal("train.batch_size", 4, "2, as the study 'demo' was begun"), said)


def test_a_base_that_does_not_load_is_told_in_one_line(short_demo: Path) -> None:
    broken = short_demo.with_name("broken.yaml")
    hollow = short_demo.parent / "hollow"
    hollow.mkdir()
    (hollow / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    values = yaml.safe_load(short_demo.read_text()) | {"base": str(hollow), "study": "broken"}
    broken.write_text(yaml.safe_dump(values))
    code, said = run_here(broken, short_demo.parent / "broken")
    assert code == 2, said
    assert str(hollow) in said.strip().splitlines()[-1]
    assert "Traceback" not in said


def test_a_second_run_of_the_same_study_is_kept_out(short_demo: Path, undisturbed) -> None:
    runs = short_demo.parent / "taken"
    (runs / "demo").mkdir(parents=True)
    with locked(runs / "demo" / ".coordinator.lock"):
        code, said = run_here(short_demo, runs)
    assert code == 1
    assert f"another process (pid {os.getpid()}) is running this study" in said


def test_the_status_shows_every_trial(undisturbed, capsys: pytest.CaptureFixture[str]) -> None:
    folder, _ = undisturbed
    assert status.main([str(folder.path)]) == 0
    assert capsys.readouterr().out.count("complete") >= 2


def test_the_lora_works_in_diffusers_as_the_samples_show(undisturbed) -> None:
    import torch
    from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline

    from trainer.base_model.load import load_base
    from trainer.inference.sample import initial_noise

    folder, _ = undisturbed
    about = folder.probe()
    shipped = {r.number: int(r.epoch_shipped) for r in folder.records() if r.epoch_shipped}

    def change(number: int) -> float:
        """How far the study's own samples of the shipped epoch are from the base's."""
        first, last = (np.asarray(Image.open(folder.samples_file(number, e)), float) for e in (0, shipped[number]))
        return float(np.abs(last - first).mean())

    number = max(shipped, key=change)  # short runs: the one that moved most
    epoch = shipped[number]
    base = load_base(STUDIES / "demo" / "base")
    pipe = StableDiffusionPipeline.from_pretrained(
        STUDIES / "demo" / "base", safety_checker=None, torch_dtype=torch.float32
    )
    pipe.scheduler = DPMSolverMultistepScheduler.from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)

    def drawn() -> np.ndarray:
        with torch.no_grad():
            images = pipe(
                list(about.prompts),
                negative_prompt=[about.negative] * len(about.prompts),
                latents=initial_noise(base, [about.seeds[0]] * len(about.prompts), tuple(about.size)),
                num_inference_steps=about.steps,
                guidance_scale=about.guidance,
                width=about.size[0],
                height=about.size[1],
                output_type="np",
            ).images
        return images * 255

    plain = drawn()
    lora = folder.checkpoint(number, epoch) / "lora.safetensors"
    pipe.load_lora_weights(str(lora.parent), weight_name=lora.name)
    with_lora = drawn()
    shown = folder.samples(number, epoch)[:, 0].astype(float)
    assert np.abs(plain.reshape(len(plain), -1) - folder.samples(number, 0)[:, 0].reshape(len(plain), -1)).mean() < 2
    assert np.abs(with_lora - shown).mean() < 2
    assert np.abs(with_lora - plain).mean() > 3 * np.abs(with_lora - shown).mean()
