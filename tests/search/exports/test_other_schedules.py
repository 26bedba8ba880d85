"""Learning rates as OneTrainer, ai-toolkit and SimpleTuner would give them, at every step, against ours."""

import ast
import importlib
import math
from pathlib import Path

import pytest
import torch

from search.errors import SearchError
from search.exports.ai_toolkit import for_ai_toolkit
from search.exports.production_run import ProductionRun
from search.exports.simpletuner import for_simpletuner
from tests.search.exports.exported import SCHEDULES, STEPS, ai_toolkit, make_run, onetrainer, simpletuner
from trainer.optimization.schedules import build_schedule
from trainer.packing.builder import run_settings


def ours(made: ProductionRun, steps: int) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    settings = run_settings(made.config).schedule
    return rates(optimizer, build_schedule(optimizer, settings, total_steps=made.steps(made.config.epochs)), steps)


def rates(optimizer, schedule, steps: int) -> list[float]:
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if schedule is not None:
            schedule.step()
    return found


def a_step() -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)


def in_onetrainer(values: dict, steps: int) -> list[float]:
    """`create_lr_scheduler` for the options that are written, with its rules for the warm-up."""
    optimizer, asked = a_step(), values["learning_rate_warmup_steps"]
    warmup = int(asked / values["gradient_accumulation_steps"]) if asked > 1 else int(asked * steps)
    name, cycles = values["learning_rate_scheduler"], values.get("learning_rate_cycles", 1.0)
    if name == "CUSTOM":
        module, function = values["custom_learning_rate_scheduler"].rsplit(".", 1)
        keywords = {pair["key"]: ast.literal_eval(pair["value"]) for pair in values["scheduler_params"]}
        schedule = getattr(importlib.import_module(module), function)(optimizer=optimizer, last_epoch=-1, **keywords)
        return rates(optimizer, schedule, steps)

    def rate(step: int) -> float:
        if step < warmup:
            return step / warmup
        part = (step - warmup) / (steps - warmup)
        if name == "LINEAR":
            return 1 - part
        if name == "COSINE":
            return 0.5 * (1 + math.cos(math.pi * part))
        if name == "COSINE_WITH_HARD_RESTARTS":
            return 0.5 * (1 + math.cos(math.pi * ((part * cycles) % 1.0)))
        assert name == "CONSTANT"
        return 1.0

    return [rate(step) for step in range(steps)]


@pytest.mark.parametrize("epoch", [4, None], ids=["cut", "whole"])
@pytest.mark.parametrize("changes", SCHEDULES, ids=str)
def test_onetrainers_learning_rate_is_ours_at_every_step(photos, changes, epoch):
    made = make_run(photos, epoch=epoch, **changes)
    steps = made.steps(made.last_epoch)
    assert steps == (28 if epoch else 84)
    assert in_onetrainer(onetrainer(made)[0], steps) == pytest.approx(ours(made, steps), abs=2e-5)


@pytest.mark.parametrize("epoch", [4, None], ids=["cut", "whole"])
@pytest.mark.parametrize("changes", SCHEDULES, ids=str)
def test_ai_toolkits_learning_rate_is_ours_or_what_is_lost_is_said(photos, changes, epoch):
    made = make_run(photos, epoch=epoch, **changes)
    if changes["lr_scheduler"] in ("cosine_with_restarts", "polynomial"):
        with pytest.raises(SearchError, match=f"lr_scheduler: {changes['lr_scheduler']}: ai-toolkit"):
            for_ai_toolkit(made, Path("/out"))
        return
    train, optimizer = ai_toolkit(made)["train"], a_step()
    schedulers = {
        "constant": lambda o, **k: torch.optim.lr_scheduler.ConstantLR(o, factor=1.0, **k),
        "linear": torch.optim.lr_scheduler.LinearLR,
        "cosine": lambda o, total_iters: torch.optim.lr_scheduler.CosineAnnealingLR(o, T_max=total_iters),
        "constant_with_warmup": lambda o, total_iters, num_warmup_steps: torch.optim.lr_scheduler.LambdaLR(
            o, lambda step: min(1.0, step / num_warmup_steps)
        ),
    }
    keywords = {**train["lr_scheduler_params"], "total_iters": train["steps"]}  # it adds them to every scheduler
    theirs = rates(optimizer, schedulers[train["lr_scheduler"]](optimizer, **keywords), train["steps"])
    notices = for_ai_toolkit(made, Path("/out")).notices
    if changes.get("warmup_steps") and changes["lr_scheduler"] in ("linear", "cosine"):
        assert any(line.startswith("warmup_steps: 6: ai-toolkit has none") for line in notices)
    else:
        assert theirs == pytest.approx(ours(made, train["steps"]), abs=2e-5)
    goes_on = train["steps"] > made.steps(made.last_epoch)
    assert goes_on == any("take toy_000000028.safetensors (epoch 4)" in line for line in notices)


@pytest.mark.parametrize("changes", SCHEDULES, ids=str)
def test_simpletuners_schedule_is_ours_or_what_is_lost_is_said(photos, changes):
    made = make_run(photos, **changes)
    if changes["lr_scheduler"] == "cosine_with_restarts":
        with pytest.raises(SearchError, match="lr_scheduler: cosine_with_restarts: SimpleTuner"):
            for_simpletuner(made, Path("/out"))
        return
    values = simpletuner(made)
    if changes["lr_scheduler"] == "cosine":
        assert values["lr_warmup_steps"] == 84, "the half wave of its cosine"
        assert values["lr_end"] == 0
        assert values["max_train_steps"] == 28
    else:
        flat = changes["lr_scheduler"].startswith("constant")
        assert values["max_train_steps"] == (28 if flat else 84), "its schedule ends with the training"
        assert values["lr_warmup_steps"] == changes.get("warmup_steps", 0)
    assert values["num_train_epochs"] == 0
    assert values["checkpoint_step_interval"] == STEPS
