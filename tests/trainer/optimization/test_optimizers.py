"""Optimizers by name: the right classes, usual rates, evaluation mode, effective rates, and clear refusals."""

import inspect
import math
import subprocess
import sys

import bitsandbytes
import pytest
import pytorch_optimizer
import torch
from torch import nn
from transformers.optimization import Adafactor, AdafactorSchedule

from trainer.errors import ConfigError, TrainerError
from trainer.optimization import optimizers
from trainer.optimization.optimizers import (
    OPTIMIZERS,
    OptimizerSettings,
    build_optimizer,
    effective_learning_rate,
    evaluation_mode,
)

CLASSES = {
    "AdamW": torch.optim.AdamW,
    "AdamW8bit": bitsandbytes.optim.AdamW8bit,
    "Adafactor": Adafactor,
    "DAdaptAdam": pytorch_optimizer.DAdaptAdam,
    "Prodigy": pytorch_optimizer.Prodigy,
    "Lion": pytorch_optimizer.Lion,
    "Lion8bit": bitsandbytes.optim.Lion8bit,
    "AdamWScheduleFree": pytorch_optimizer.ScheduleFreeAdamW,
}


def parameter(seed: int = 0) -> nn.Parameter:
    return nn.Parameter(torch.randn(64, 96, generator=torch.Generator().manual_seed(seed)))


def steps(optimizer: torch.optim.Optimizer, p: nn.Parameter, count: int) -> list[float]:
    """Losses of ½‖p‖² while the optimizer goes downhill."""
    losses = []
    for _ in range(count):
        loss = 0.5 * p.square().sum()
        loss.backward()
        losses.append(loss.item())
        optimizer.step()
        optimizer.zero_grad()
    return losses


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_each_name_builds_its_class_and_goes_downhill(name: str) -> None:
    p = parameter()
    rate = OPTIMIZERS[name].learning_rate
    optimizer = build_optimizer(OptimizerSettings(name), [{"params": [p], "lr": rate}])
    assert type(optimizer) is CLASSES[name]
    losses = steps(optimizer, p, 30)
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_allowed_arguments_exist_in_the_class(name: str) -> None:
    known = set(inspect.signature(CLASSES[name].__init__).parameters)
    assert OPTIMIZERS[name].args <= known
    assert not OPTIMIZERS[name].args & {"params", "lr", "weight_decay", "relative_step", "d_coef", "warmup_steps"}


def test_each_group_keeps_its_rate_and_the_weight_decay_is_the_usual_one() -> None:
    for name, kind in OPTIMIZERS.items():
        groups = [{"params": [parameter(1)], "lr": 1e-3}, {"params": [parameter(2)], "lr": 5e-4}]
        optimizer = build_optimizer(OptimizerSettings(name), groups)
        assert [group["lr"] for group in optimizer.param_groups] == [1e-3, 5e-4]
        assert {group["weight_decay"] for group in optimizer.param_groups} == {kind.weight_decay}


def test_eight_bit_states_are_eight_bit_on_the_cpu() -> None:
    for name in ("AdamW8bit", "Lion8bit"):
        p = parameter()
        optimizer = build_optimizer(OptimizerSettings(name), [{"params": [p], "lr": 1e-4}])
        steps(optimizer, p, 1)
        assert optimizer.state[p]["state1"].dtype == torch.uint8


def test_without_bitsandbytes_the_alternative_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimizers, "_BITSANDBYTES", None)
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", None)
    with pytest.raises(TrainerError, match=r"AdamW8bit needs bitsandbytes.*use AdamW instead"):
        build_optimizer(OptimizerSettings("AdamW8bit"), [{"params": [parameter()], "lr": 1e-4}])
    with pytest.raises(TrainerError, match="use Lion instead"):
        build_optimizer(OptimizerSettings("Lion8bit"), [{"params": [parameter()], "lr": 1e-4}])


def test_bitsandbytes_is_imported_without_noise() -> None:
    code = "import trainer, bitsandbytes"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout + done.stderr == ""


def test_schedule_free_is_looked_at_in_its_averages_and_trained_in_its_iterates() -> None:
    p = parameter()
    optimizer = build_optimizer(OptimizerSettings("AdamWScheduleFree"), [{"params": [p], "lr": 0.05}])
    steps(optimizer, p, 10)
    iterate = p.detach().clone()
    with evaluation_mode(optimizer):
        average = p.detach().clone()
    assert torch.equal(p, iterate)
    assert all(group["train_mode"] for group in optimizer.param_groups)
    # x = y + (1 − 1/β₁)(z − y), Defazio et al. 2024, "The Road Less Scheduled"
    z = optimizer.state[p]["z"]
    torch.testing.assert_close(average, iterate + (1 - 1 / 0.9) * (z - iterate))
    assert not torch.equal(average, iterate)


@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("warmup", [False, True])
def test_adafactors_rate_is_the_closed_form_and_what_transformers_reports(
    relative: bool, scaled: bool, warmup: bool
) -> None:
    large, small = parameter(1), parameter(2)
    with torch.no_grad():
        large.mul_(0.3)
        small.mul_(1e-5)  # below the least that counts for a parameter's size
    arguments = {"warmup_init": warmup and relative, "scale_parameter": scaled}
    settings = OptimizerSettings("Adafactor", relative_step=relative, optimizer_args=arguments)
    optimizer = build_optimizer(settings, [{"params": [large, small], "lr": 3e-4}])
    reported = AdafactorSchedule(optimizer) if relative else None  # it sets a rate of its own otherwise
    for step in range(1, 20):
        sizes = [max(1e-3, float(p.detach().square().mean().sqrt())) if scaled else 1.0 for p in (large, small)]
        for p in (large, small):
            p.grad = p.detach().clone()
        optimizer.step()
        rate = min(1e-6 * step if warmup else 1e-2, 1 / math.sqrt(step)) if relative else 3e-4
        expected = rate * sum(sizes) / 2
        assert float(effective_learning_rate(optimizer)) == pytest.approx(expected, rel=1e-5)
        if reported is not None:
            assert [float(each) for each in reported.get_lr()] == pytest.approx([rate * sizes[0]], rel=1e-5)


def test_fixed_adafactor_uses_the_rate_as_it_is() -> None:
    optimizer = build_optimizer(OptimizerSettings("Adafactor"), [{"params": [parameter()], "lr": 3e-4}])
    assert effective_learning_rate(optimizer) == 3e-4
    assert optimizer.param_groups[0]["scale_parameter"] is False
    assert optimizer.param_groups[0]["relative_step"] is False


@pytest.mark.parametrize("name", ["Prodigy", "DAdaptAdam"])
def test_the_effective_rate_of_adaptive_optimizers_is_d_times_the_rate(name: str) -> None:
    p = parameter()
    optimizer = build_optimizer(OptimizerSettings(name), [{"params": [p], "lr": 0.5}])
    assert effective_learning_rate(optimizer) == pytest.approx(0.5e-6)
    steps(optimizer, p, 30)
    d = optimizer.param_groups[0]["d"]
    assert d > 1e-5
    assert effective_learning_rate(optimizer) == pytest.approx(0.5 * d)


def test_d_coef_scales_the_step() -> None:
    found = []
    for d_coef in (1.0, 2.0):
        for name in ("Prodigy", "DAdaptAdam"):
            p = parameter()
            optimizer = build_optimizer(OptimizerSettings(name, d_coef=d_coef), [{"params": [p], "lr": 1.0}])
            steps(optimizer, p, 12)
            found.append(float(effective_learning_rate(optimizer)))
    assert found[2] > 1.3 * found[0]
    assert found[3] > 1.3 * found[1]


def test_schedule_free_warms_up_by_itself() -> None:
    p = parameter()
    optimizer = build_optimizer(OptimizerSettings("AdamWScheduleFree"), [{"params": [p], "lr": 1e-3}], warmup_steps=4)
    found = []
    for _ in range(6):
        steps(optimizer, p, 1)
        found.append(effective_learning_rate(optimizer))
    assert found == pytest.approx([0.25e-3, 0.5e-3, 0.75e-3, 1e-3, 1e-3, 1e-3])
    at_once = build_optimizer(OptimizerSettings("AdamWScheduleFree"), [{"params": [p], "lr": 1e-3}])
    for _ in range(2):
        assert effective_learning_rate(at_once) == 1e-3
        steps(at_once, p, 1)


def test_arguments_that_a_class_does_not_take_are_told_and_a_fault_of_ours_is_not_hidden() -> None:
    groups = [{"params": [parameter()], "lr": 1e-3}]
    given = {"betas": [0.9, 1.5]}
    with pytest.raises(ConfigError, match=r"optimizer_args: expected what AdamW takes \(.*\), got {'betas'"):
        build_optimizer(OptimizerSettings("AdamW", optimizer_args=given), groups)
    with pytest.raises(ValueError, match="empty parameter list") as caught:
        build_optimizer(OptimizerSettings("AdamW"), [])
    assert not isinstance(caught.value, ConfigError)


def test_groups_that_are_given_stay_as_they_are() -> None:
    for name in ("DAdaptAdam", "Adafactor"):
        groups = [{"params": [parameter()], "lr": 0.5}]
        build_optimizer(OptimizerSettings(name, d_coef=2.0, relative_step=name == "Adafactor"), groups)
        assert groups[0]["lr"] == 0.5


@pytest.mark.parametrize("given", [{}, {"foreach": True}, {"fused": False}])
def test_adamw_is_fused_unless_something_else_is_asked_for(given: dict[str, bool]) -> None:
    optimizer = build_optimizer(
        OptimizerSettings("AdamW", optimizer_args=given), [{"params": [parameter()], "lr": 1e-3}]
    )
    assert (optimizer.defaults["fused"], optimizer.defaults["foreach"]) == (
        given.get("fused", None if given else True), given.get("foreach")
    )  # fmt: skip


def test_eight_bits_that_change_nothing_are_no_eight_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimizers, "_BITSANDBYTES", None)
    monkeypatch.setattr(bitsandbytes.optim.AdamW8bit, "step", lambda self: None)
    with pytest.raises(TrainerError, match="an 8-bit step on the CPU changed nothing"):
        build_optimizer(OptimizerSettings("AdamW8bit"), [{"params": [parameter()], "lr": 1e-4}])


def test_before_the_first_step_adafactor_has_no_rate_of_its_own() -> None:
    optimizer = build_optimizer(
        OptimizerSettings("Adafactor", relative_step=True), [{"params": [parameter()], "lr": 1}]
    )
    assert effective_learning_rate(optimizer) == 0.0
    several = [{"params": [parameter(1)], "lr": 0.5}, {"params": [parameter(2)], "lr": 0.25}]
    found = build_optimizer(OptimizerSettings("AdamW"), several)
    assert [effective_learning_rate(found, group) for group in (0, 1)] == [0.5, 0.25]


def test_other_optimizers_are_looked_at_as_they_are() -> None:
    p = parameter()
    optimizer = build_optimizer(OptimizerSettings("AdamW"), [{"params": [p], "lr": 0.1}])
    steps(optimizer, p, 2)
    before = p.detach().clone()
    with evaluation_mode(optimizer):
        assert torch.equal(p, before)
    averaged = build_optimizer(OptimizerSettings("AdamWScheduleFree"), [{"params": [p], "lr": 0.1}])
    steps(averaged, p, 2)
    before = p.detach().clone()
    with pytest.raises(RuntimeError, match="on the way"), evaluation_mode(averaged):
        raise RuntimeError("on the way")
    assert torch.equal(p, before)
