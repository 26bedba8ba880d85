"""`search.run --dry-run`: the bill of a study, and a study that goes on from what it computed."""

import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from search import run
from search.errors import StudyError
from search.record.finalists import FRESH
from search.record.finished_run import FinishedRun
from search.record.record import StudyFolder
from search.running import pack_measure
from search.running.bill import Bill, measure, planned
from search.running.eta import planned_epochs
from search.running.finals_cost import FinalsCost
from search.study.study import load_study
from search.verdict.quantities import duration
from tests.messages import refusal
from trainer.config.config import TrainConfig
from trainer.packing.training_run import Run

BILL = Bill(
    study="dog", trials=10, distinct=None, epochs=(20, 40), all_epochs=300.0, photos=(26, 4), steps_per_epoch=13,
    passes=1.0, settings="AdamW, rank 4, batch 2", device="the CPU", prepare=60.0, step=0.2, images=4.0, readings=1.0,
    checkpoints=80.0, workers=2, memory=1.1, lora=2_000_000, pictures=100_000, kept=22.0,
)  # fmt: skip


def test_the_time_is_that_of_training_and_looking_shared_among_the_workers() -> None:
    assert BILL.seconds == pytest.approx(60 + (300 * 13 * 0.2 + 80 * 5) / 2)
    assert BILL.disk == pytest.approx(22 * 2e6 + 80 * 1e5)
    said = "\n".join(BILL.lines())
    assert "10 trials of 20 to 40 epochs, 300 epochs in all" in said
    assert "time: at most 10 min 50 s with 2 workers" in said
    assert "any number of different configurations" in said


def test_of_trials_at_once_it_says_how_many() -> None:
    assert "AdamW, rank 4, batch 2, 4 trials at once:" in "\n".join(replace(BILL, at_once=4).lines())


def test_the_finals_cost_what_trials_of_the_mean_length_cost() -> None:
    finals = FinalsCost(looks=5, retrained=4, twins=3)
    bill = replace(BILL, finals=finals, twin_losses=2.0)
    again = finals.seconds(300 / 10 * 13 * 0.2, 4.0, 1.0, workers=2, twin_losses=80 / 10 * 2.0)
    assert bill.seconds - BILL.seconds == pytest.approx(again)
    said = "\n".join(bill.lines())
    assert "to draw the finalists again, train them again and train 3 twins of the winner" in said


def test_every_line_of_a_bill_says_its_numbers() -> None:
    assert BILL.lines() == [
        "study dog: 10 trials of 20 to 40 epochs, 300 epochs in all",
        "search space: any number of different configurations",
        "photos: 26 to train on, 4 held out; 13 steps an epoch",
        "measured on the CPU with AdamW, rank 4, batch 2:",
        "  a step 0.2 s, a look at a checkpoint 5 s (images 4 s, readings 1 s)",
        "time: at most 10 min 50 s with 2 workers, 1 min 0 s of it to load; less where trials are stopped early",
        "memory: 1.1 GiB each worker",
        "disk: about 52.0 MB in the end (a LoRA 2.0 MB, the images of a checkpoint 100 kB)",
    ]
    other = replace(
        BILL, epochs=(30, 30), all_epochs=12000.0, distinct=1234, passes=2.5, workers=1, at_once=2, step=12.4,
        images=4.26, finals=FinalsCost(looks=2), lora=1_000,
    )  # fmt: skip
    drawing = 2 * (FRESH * 4.26 + 1.0)
    total = 60 + 12000 * 13 * 12.4 + 80 * 5.26 + drawing
    assert other.lines() == [
        "study dog: 10 trials of 30 epochs, 12,000 epochs in all",
        "search space: 1,234 different configurations",
        "photos: 26 to train on, 4 held out; 13 steps an epoch, 2.5 passes over them",
        "measured on the CPU with AdamW, rank 4, batch 2, 2 trials at once:",
        "  a step 12 s, a look at a checkpoint 5.3 s (images 4.3 s, readings 1 s)",
        f"time: at most {duration(total)}, 1 min 0 s of it to load and {duration(drawing)} "
        "to draw the finalists again; less where trials are stopped early",
        "memory: 1.1 GiB",
        "disk: about 8.0 MB in the end (a LoRA 1 kB, the images of a checkpoint 100 kB)",
    ]
    assert replace(BILL, distinct=1).lines()[1] == "search space: 1 configuration"


@pytest.mark.parametrize(("workers", "shared_by"), [(1, 1), (9, 9), (10, 10), (11, 10)])
def test_no_more_workers_share_the_work_than_there_are_trials(workers: int, shared_by: int) -> None:
    assert replace(BILL, workers=workers).seconds == pytest.approx(60 + (300 * 13 * 0.2 + 80 * 5) / shared_by)


def test_a_critic_is_trained_once_and_no_time_of_the_study(
    write_study, tiny_sd15: Path, tiny_clip: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    probe = {"seeds": 1, "steps": 1, "trained": 1, "heldout": 1, "contexts": ["{trigger} {class} in snow"]}
    small = {"losses": {"levels": 1}, "shifted": {"composites": 0}, "probe": probe, "critic": {"steps": 4, "levels": 1}}
    file = write_study(
        base=str(tiny_sd15),
        search={"rank": {"values": [2, 4]}},
        score={"encoder": str(tiny_clip), "holdout": 2, **small},
        finalists={"trials": 0},
        workers={"pack": 1, "device": "cpu"},
    )
    study, folder, now = load_study(file), StudyFolder(tmp_path / "runs" / "small"), [0.0]

    def later(run: Run) -> Path:
        now[0] += 600  # for each part
        return save(run)

    save = Run.save
    with monkeypatch.context() as patch:
        patch.setattr(Run, "save", later)
        patch.setattr("search.running.bill.time", SimpleNamespace(perf_counter=lambda: now[0]))
        first, told = measure(study, folder), capsys.readouterr().out.splitlines()
        again, told_again = measure(study, folder), capsys.readouterr().out.splitlines()
    assert told == [*(f"training the critic ({part} of 4 parts done)" for part in range(4)), "building the probe"]
    assert (first.critic, first.prepare) == (2400, 0)
    assert "critic: trained just now in 40 min 0 s, and kept for the study" in first.lines()
    assert (again.critic, told_again) == (0, [])
    assert not any("critic" in line for line in again.lines())


@pytest.mark.parametrize(("pack", "twins", "samples"), [(1, 0, True), (2, 2, False)])
def test_what_is_measured_is_what_the_bill_says(
    write_study, tiny_sd15: Path, tiny_clip: Path, tmp_path: Path, monkeypatch, pack: int, twins: int, samples: bool
) -> None:
    """The first step warms up; of the others the middle one counts, shared among the trials that take it."""
    probe = {"seeds": 1, "steps": 1, "trained": 1, "heldout": 1, "contexts": ["{trigger} {class} in snow"]}
    small = {"losses": {"levels": 1, "draws": 1}, "shifted": {"composites": 0}, "probe": probe}
    file = write_study(
        base=str(tiny_sd15),
        train={"resolution": 64, "epochs": 4, "batch_size": 2, "optimizer": "AdamW"},
        search={"rank": {"values": [2, 4, 8]}},
        score={"encoder": str(tiny_clip), "holdout": 2, **small},
        budget={"trials": 3},
        finalists={"twins": twins},
        keep={"samples": samples},
        workers={"pack": pack, "threads": 1, "device": "cpu"},
    )
    study, folder = load_study(file), StudyFolder(tmp_path / "runs" / "small")
    whole, asked = pack_measure.step_seconds, list[tuple[int, int, int | None]]()

    def steps_of(packed: Any, steps: int) -> list[float]:
        asked.append((steps, len(packed.runs), packed.width))
        whole(packed, 1)
        return [100.0, 5.0, 1.0, 3.0]

    monkeypatch.setattr(pack_measure, "step_seconds", steps_of)
    before = torch.get_num_threads()
    bill = measure(study, folder)
    threads = torch.get_num_threads()
    torch.set_num_threads(before)
    assert threads == 1, "as the study says, once the probe is built"
    assert asked == [(6, pack, pack if pack > 1 else None)]
    assert (bill.study, bill.step, bill.at_once) == ("small", 3.0 / pack, pack)
    split = json.loads((folder.cache / "probe" / "probe.json").read_text())
    trained = len(split["trained"])
    assert bill.photos == (trained, len(study.photos) - trained)
    assert len(study.photos) > trained > 0
    assert bill.steps_per_epoch == trained, "each is repeated twice, in batches of two"
    assert bill.passes == 1
    assert (bill.settings, bill.device) == ("AdamW, rank 2, batch 2", "the CPU")
    assert 0 < min(bill.prepare, bill.images, bill.readings) <= max(bill.prepare, bill.images, bill.readings) < 600
    assert (bill.workers, bill.finals) == (1, FinalsCost.of(study))
    assert (bill.pictures > 0) == samples
    assert (bill.twin_losses > 0) == (twins > 0)
    assert 0.01 < bill.memory < 1000
    assert 1_000 < bill.lora < 1_000_000
    assert (bill.trials, bill.distinct, bill.epochs, bill.checkpoints) == (3, 3, (4, 4), 12)


@pytest.mark.slow
@pytest.mark.parametrize("pack", [2, "auto"])
def test_it_measures_trains_no_trial_and_the_study_takes_its_probe(write_study, tmp_path: Path, capsys, pack) -> None:
    demo = Path(__file__).parents[3] / "studies" / "demo"
    probe = {"seeds": 1, "steps": 1, "trained": 1, "heldout": 1, "contexts": ["{trigger} {class} in snow"]}
    small = {"losses": {"levels": 1, "draws": 1}, "shifted": {"composites": 0}, "probe": probe}
    file = write_study(
        base=str(demo / "base"),
        search={"rank": {"values": [2, 4, 8]}},
        score={"encoder": str(demo / "clip"), "holdout": 2, "holdout_contexts": ["beach"], **small},
        budget={"trials": 5},
        workers={"pack": pack},
    )
    runs = tmp_path / "runs"
    assert run.main([str(file), "--runs", str(runs), "--dry-run"]) == 0
    said = capsys.readouterr().out
    study = load_study(file)
    folder = StudyFolder(runs / study.name)
    assert "3 trials of" in said
    assert "3 different configurations" in said
    assert re.search(r"note: \d of \d photos are held out with their context \(beach\)", said)
    assert not folder.database.exists()
    assert not list(folder.records())
    found = re.search(r"a step (\S+) s, a look at a checkpoint (\S+) s", said)
    assert found is not None
    assert all(0 < float(seconds) < 600 for seconds in found.groups())
    kept = {path: path.stat().st_mtime_ns for path in (folder.cache / "probe").iterdir()}
    assert kept
    assert run.main([str(file), "--runs", str(runs), "--dry-run"]) == 0
    assert {path: path.stat().st_mtime_ns for path in (folder.cache / "probe").iterdir()} == kept


@pytest.mark.parametrize(
    ("every", "looks"), [(1, {4: 4, 9: 9}), (3, {4: 2, 9: 3}), (9, {4: 1, 9: 1}), (20, {4: 1, 9: 1})]
)
@pytest.mark.parametrize("keep", ["all", "best", "none"])
def test_trials_are_as_long_as_the_space_plans_them(write_study, every: int, looks: dict[int, int], keep: str) -> None:
    file = write_study(
        train={"resolution": 64, "lr_scheduler": "cosine"},
        search={"rank": {"values": [2, 4]}, "epochs": {"values": [4, 9]}},
        budget={"trials": 4},
        keep={"checkpoints": keep},
    )
    study = load_study(file)
    horizons = planned_epochs(study.space, 0)
    assert set(horizons) == {4, 9}
    checkpoints = 4 * sum(looks[epochs] for epochs in horizons) / len(horizons)
    assert planned(study, every) == {
        "trials": 4,
        "distinct": 4,
        "epochs": (4, 9),
        "all_epochs": pytest.approx(4 * sum(horizons) / len(horizons)),
        "checkpoints": pytest.approx(checkpoints),
        "kept": pytest.approx({"all": checkpoints, "best": 4 + 3 * 4, "none": 3}[keep]),
    }


def test_where_the_space_does_not_plan_them_the_study_does(write_study) -> None:
    study = load_study(write_study(train={"resolution": 64, "epochs": 5}, search={"rank": {"min": 2, "max": 9}}))
    found = planned(study, 2)
    assert (found["epochs"], found["all_epochs"], found["checkpoints"]) == (
        (5, 5),
        5.0 * study.trials,
        3.0 * study.trials,
    )
    usual = load_study(write_study(train={"resolution": 64}))
    assert planned(usual, 2)["epochs"] == (TrainConfig.model_fields["epochs"].default,) * 2


def test_of_a_flow_there_is_no_bill(tmp_path: Path, capsys) -> None:
    flow = tmp_path / "flow.yaml"
    file = tmp_path / "a.yaml"
    file.write_text("study: a\n")
    flow.write_text("flow: [a.yaml]\n")
    assert run.main([str(flow), "--runs", str(tmp_path / "runs"), "--dry-run"]) == 2
    assert re.search(refusal("--dry-run", "a flow file", "a study file"), capsys.readouterr().err)


def test_of_a_run_that_is_finished_there_is_no_bill(tmp_path: Path) -> None:
    finished: Any = SimpleNamespace(finished_run=FinishedRun({2: "a.safetensors"}))
    with pytest.raises(StudyError, match="--dry-run: expected a study that trains, got a run that is finished"):
        measure(finished, StudyFolder(tmp_path))
