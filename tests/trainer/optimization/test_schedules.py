"""Learning-rate curves against closed forms, transformers, and what a run really uses."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import get_scheduler as transformers_scheduler

from tests.trainer.packs import join, new_pack
from trainer.base_model.load import load_base
from trainer.data.dataset import scan_dataset
from trainer.optimization.schedules import ScheduleSettings, build_schedule, learning_rates

TOTAL, WARMUP, RATE = 60, 6, 2e-4


def progress(step: int, warmup: int) -> float:
    return (step - warmup) / (TOTAL - warmup)


CLOSED_FORMS = {
    "constant": (lambda step: 1.0, {}),
    "constant_with_warmup": (lambda step: min(1.0, step / WARMUP), {"warmup_steps": WARMUP}),
    "linear": (lambda step: 1 - progress(step, 0), {}),
    "cosine": (
        lambda step: step / WARMUP if step < WARMUP else 0.5 * (1 + math.cos(math.pi * progress(step, WARMUP))),
        {"warmup_steps": WARMUP},
    ),
    "cosine_with_restarts": (
        lambda step: 0.5 * (1 + math.cos(math.pi * ((3 * progress(step, 0)) % 1.0))),
        {"num_cycles": 3.0},
    ),
    "polynomial": (lambda step: ((RATE - 1e-7) * (1 - progress(step, 0)) + 1e-7) / RATE, {}),
}


@pytest.mark.parametrize("name", CLOSED_FORMS)
def test_rates_follow_the_closed_form(name: str) -> None:
    form, settings = CLOSED_FORMS[name]
    expected = [RATE * form(step) for step in range(TOTAL)]
    found = learning_rates(ScheduleSettings(name, **settings), learning_rate=RATE, total_steps=TOTAL)
    assert found == pytest.approx(expected, rel=1e-12, abs=1e-18)


@pytest.mark.parametrize("default", [None, 0.5])
def test_a_polynomial_starts_from_its_groups_rate_whatever_the_optimizers_default(default: float | None) -> None:
    optimizer = torch.optim.SGD([{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": RATE}], lr=0.1)
    optimizer.defaults["lr"] = default
    schedule = build_schedule(optimizer, ScheduleSettings("polynomial"), total_steps=TOTAL)
    assert schedule is not None
    found = [RATE * schedule.lr_lambdas[0](step) for step in range(TOTAL)]
    assert found == pytest.approx([RATE * CLOSED_FORMS["polynomial"][0](step) for step in range(TOTAL)], rel=1e-12)


@pytest.mark.parametrize("name", CLOSED_FORMS)
def test_rates_are_those_of_transformers_and_a_resumed_schedule_goes_on(name: str) -> None:
    settings: dict[str, Any] = CLOSED_FORMS[name][1]
    theirs = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=RATE)
    specific = {"num_cycles": 3} if name == "cosine_with_restarts" else {}
    specific = {"power": 1.0} if name == "polynomial" else specific
    reference = transformers_scheduler(
        name,
        theirs,
        num_warmup_steps=settings.get("warmup_steps", 0),
        num_training_steps=TOTAL,
        scheduler_specific_kwargs=specific,
    )
    ours = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=RATE)
    schedule = build_schedule(ours, ScheduleSettings(name, **settings), total_steps=TOTAL)
    assert schedule is not None
    for step in range(TOTAL):
        assert ours.param_groups[0]["lr"] == pytest.approx(theirs.param_groups[0]["lr"], rel=1e-12)
        fresh = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=RATE)
        resumed = build_schedule(fresh, ScheduleSettings(name, **settings), total_steps=TOTAL, step=step)
        assert fresh.param_groups[0]["lr"] == ours.param_groups[0]["lr"]
        theirs.step()
        reference.step()
        ours.step()
        schedule.step()
        assert resumed is not None
        fresh.step()
        resumed.step()
        assert fresh.param_groups[0]["lr"] == ours.param_groups[0]["lr"]


def test_a_cycle_may_end_with_the_horizon_half_way() -> None:
    whole, cut = (
        learning_rates(ScheduleSettings("cosine_with_restarts", cycles), learning_rate=1.0, total_steps=steps)
        for cycles, steps in ((2.0, 40), (1.5, 30))
    )
    assert cut == pytest.approx(whole[:30], abs=1e-9)


def test_restarts_with_one_cycle_are_cosine() -> None:
    one, none = (
        learning_rates(ScheduleSettings(name), learning_rate=1.0, total_steps=50)
        for name in ("cosine_with_restarts", "cosine")
    )
    assert one == pytest.approx(none, abs=1e-12)


def test_a_run_uses_its_schedule_and_sums_its_effort(tiny_sd15: Path, tiny_photos: Path, tmp_path: Path) -> None:
    pack = new_pack(load_base(tiny_sd15), scan_dataset(tiny_photos), batch_size=4, resolution=(32, 32))
    assert pack.steps_per_epoch == 4
    run = join(
        pack,
        run_dir=tmp_path,
        rank=2,
        epochs=3,
        learning_rate=RATE,
        lr_scheduler="cosine_with_restarts",
        num_cycles=3.0,
    )
    used = [run.optimizer.param_groups[0]["lr"]]
    for _ in range(3):
        pack.train_epoch(lambda pack: used.append(run.optimizer.param_groups[0]["lr"]))
    expected = learning_rates(ScheduleSettings("cosine_with_restarts", 3.0), learning_rate=RATE, total_steps=12)
    assert used[:12] == pytest.approx(expected, rel=1e-12)
    assert run.effort == pytest.approx(sum(expected), rel=1e-12)


def test_steps_are_batches_over_accumulation_rounded_up(tiny_sd15: Path, tiny_photos: Path) -> None:
    base, dataset = load_base(tiny_sd15), scan_dataset(tiny_photos)  # 8 photos × 2 repeats
    for batch_size, accumulation, steps in ((1, 1, 16), (3, 1, 6), (3, 4, 2), (5, 3, 2), (16, 2, 1)):
        pack = new_pack(
            base,
            dataset,
            batch_size=batch_size,
            gradient_accumulation_steps=accumulation,
            resolution=(32, 32),
        )
        assert pack.steps_per_epoch == steps
