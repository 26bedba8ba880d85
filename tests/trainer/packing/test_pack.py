"""Runs in a pack end where they would have ended alone, under plain peft with the same optimizer."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from bitsandbytes.optim import AdamW8bit
from diffusers.optimization import get_scheduler
from peft import LoraConfig, inject_adapter_in_model
from torch import nn
from torch.nn import functional as F
from transformers.optimization import Adafactor

from tests.trainer import packs
from tests.trainer.packs import create_adapters, join
from trainer.base_model.load import load_base
from trainer.data.dataset import Dataset, scan_dataset
from trainer.families.family import Base
from trainer.lora.lora import ADAPTER
from trainer.packing.loss import draw_examples
from trainer.packing.pack import Pack
from trainer.packing.settings import LossSettings
from trainer.packing.training_run import Run

STEPS_PER_EPOCH = 4  # 8 photos × 2 repeats ÷ 4


@dataclass(frozen=True)
class Spec:
    """A run, and how a person would build its optimizer by hand."""

    keywords: dict[str, Any]
    by_hand: Callable[[list[nn.Parameter]], torch.optim.Optimizer]
    schedule: tuple[str, dict[str, Any]] = ("constant", {})
    clip: float = 1.0
    targets: str = field(default="kohya")


SPECS = [
    Spec(
        {"rank": 4, "alpha": 2.0, "optimizer": "AdamW", "learning_rate": 1e-3, "max_grad_norm": 0.05},
        lambda p: torch.optim.AdamW(p, lr=1e-3, weight_decay=0.01),
        clip=0.05,
    ),
    Spec(
        {"rank": 8, "alpha": 8.0, "optimizer": "Adafactor", "learning_rate": 1e-3, "max_grad_norm": 0.0,
         "lr_scheduler": "cosine"},
        lambda p: Adafactor(p, lr=1e-3, relative_step=False, scale_parameter=False),
        schedule=("cosine", {"num_warmup_steps": 0}),
        clip=0.0,
    ),
    Spec(
        {"rank": 3, "alpha": 3.0, "optimizer": "AdamW", "learning_rate": 3e-3, "lr_scheduler": "cosine_with_restarts",
         "num_cycles": 3.0, "warmup_steps": 2, "targets": "attention"},
        lambda p: torch.optim.AdamW(p, lr=3e-3, weight_decay=0.01),
        schedule=("cosine_with_restarts", {"num_warmup_steps": 2, "num_cycles": 3}),
        targets="attention",
    ),
    Spec(
        {"rank": 6, "alpha": 1.0, "optimizer": "Adafactor", "relative_step": True, "lr_scheduler": "adafactor",
         "max_grad_norm": 0.0},
        lambda p: Adafactor(p, relative_step=True),
        clip=0.0,
    ),
    Spec(
        {"rank": 8, "alpha": 4.0, "optimizer": "AdamW", "learning_rate": 1e-4, "weight_decay": 0.1,
         "lr_scheduler": "linear"},
        lambda p: torch.optim.AdamW(p, lr=1e-4, weight_decay=0.1),
        schedule=("linear", {"num_warmup_steps": 0}),
    ),
]  # fmt: skip
EIGHT_BIT = Spec(
    {"rank": 5, "alpha": 5.0, "optimizer": "AdamW8bit", "learning_rate": 1e-4, "optimizer_args": {"min_8bit_size": 64}},
    lambda p: AdamW8bit(p, lr=1e-4, weight_decay=0.01, min_8bit_size=64),
)
HORIZON = 5  # epochs


@pytest.fixture(scope="module")
def dataset(tiny_photos: Path) -> Dataset:
    return scan_dataset(tiny_photos)


def base_in(folder: Path, dtype: torch.dtype, device: str = "cpu") -> Base:
    base = load_base(folder, device=device)
    for module in (base.denoiser, *base.text_encoders):
        nn.Module.to(module, dtype)
    base.dtype = dtype
    return base


def new_pack(base: Base, dataset: Dataset, **keywords: Any) -> Pack:
    return packs.new_pack(base, dataset, batch_size=4, resolution=(32, 32), **keywords)


Alone = Callable[[torch.dtype, Spec, int], dict[str, torch.Tensor]]


@pytest.fixture(scope="module")
def alone(tiny_sd15: Path, dataset: Dataset) -> Alone:
    """(dtype, spec, steps) → the parameters after `steps` steps alone; every run is trained once."""
    trained: dict[tuple[torch.dtype, int], list[dict[str, torch.Tensor]]] = {}

    def after(dtype: torch.dtype, spec: Spec, steps: int) -> dict[str, torch.Tensor]:
        key = (dtype, id(spec))
        if key not in trained:
            trained[key] = alone_under_peft(tiny_sd15, dtype, dataset, spec, 12)
        return trained[key][steps - 1]

    return after


def alone_under_peft(
    folder: Path, dtype: torch.dtype, dataset: Dataset, spec: Spec, steps: int, device: str = "cpu"
) -> list[dict[str, torch.Tensor]]:
    """The documented recipe: peft's own layers in the UNet, one optimizer, diffusers' schedule. Parameters by step."""
    base = base_in(folder, dtype, device)
    feed = new_pack(base, dataset).feed
    start = create_adapters(base, rank=spec.keywords["rank"], alpha=spec.keywords["alpha"], targets=spec.targets)
    config = LoraConfig(
        r=spec.keywords["rank"],
        lora_alpha=spec.keywords["alpha"],
        target_modules=[path for _, path in start.layers],
    )
    unet = inject_adapter_in_model(config, base.denoiser)
    ours = {path: layer for (_, path), layer in start.layers.items()}
    parameters: dict[str, nn.Parameter] = {}
    for path, layer in ours.items():
        peft_layer = unet.get_submodule(path)
        for name, half, own in (("down", peft_layer.lora_A, layer.lora_A), ("up", peft_layer.lora_B, layer.lora_B)):
            half.to(dtype)
            half[ADAPTER].weight.data.copy_(own[ADAPTER].weight.data)
            parameters[f"denoiser.{path}.{name}"] = half[ADAPTER].weight
    optimizer = spec.by_hand(list(parameters.values()))
    relative = spec.keywords.get("relative_step", False)
    name, more = spec.schedule
    total = HORIZON * STEPS_PER_EPOCH
    schedule = None if relative else get_scheduler(name, optimizer, num_training_steps=total, **more)
    trajectory = []
    for step in range(steps):
        epoch, place = divmod(step, STEPS_PER_EPOCH)
        batch = feed.batch(feed.epoch(epoch)[place], epoch, place)
        drawn = draw_examples(
            base, batch.mean, batch.std, batch.prior, settings=LossSettings(), seed=0, epoch=epoch, batch=place
        )
        prompt_embeds = batch.conditioning["prompt_embeds"].to(dtype)
        prediction = unet(drawn.noisy, drawn.timesteps, encoder_hidden_states=prompt_embeds).sample
        F.mse_loss(prediction, drawn.target).backward()
        if spec.clip:
            nn.utils.clip_grad_norm_(parameters.values(), spec.clip)
        optimizer.step()
        optimizer.zero_grad()
        if schedule is not None:
            schedule.step()
        trajectory.append({name: parameter.detach().clone() for name, parameter in parameters.items()})
    return trajectory


def parameters_of(run: Run) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in run.adapters.named_parameters()}


def assert_close(run: Run, expected: dict[str, torch.Tensor], tolerance: float, *, flips: float = 0.0) -> None:
    """`flips`: share of values whose 8-bit state may lie a quantisation step off (a last-bit difference decides)."""
    found = parameters_of(run)
    assert found.keys() == expected.keys()
    errors = torch.cat([(found[name] - expected[name]).abs().flatten() for name in expected])
    assert float((errors > tolerance).double().mean()) <= flips
    assert float(errors.max()) <= (1e-4 if flips else tolerance)
    assert any(bool(value.any()) for name, value in expected.items() if name.endswith(".up"))


def train(pack: Pack, steps: int) -> None:
    """Whole epochs, then a part of one."""
    epochs, rest = divmod(steps, STEPS_PER_EPOCH)
    for _ in range(epochs):
        pack.train_epoch()
    if not rest:
        return
    done = 0

    def stop(pack: Pack) -> None:
        nonlocal done
        done += 1
        if done == rest:
            for run in list(pack.runs):
                pack.leave(run)

    pack.train_epoch(stop)


@pytest.mark.parametrize("width", [1, 2, 5])
def test_packed_equals_alone_under_plain_peft_to_1e_10_in_fp64(
    tiny_sd15: Path, dataset: Dataset, tmp_path: Path, alone: Alone, width: int
) -> None:
    pack = new_pack(base_in(tiny_sd15, torch.float64), dataset)
    specs = SPECS[:width]
    runs = [join(pack, run_dir=tmp_path / str(i), epochs=HORIZON, **spec.keywords) for i, spec in enumerate(specs)]
    train(pack, 10)
    for run, spec in zip(runs, specs, strict=True):
        assert run.step == 10
        assert_close(run, alone(torch.float64, spec, 10), 1e-10)


@pytest.mark.parametrize(
    "specs", [[SPECS[0]], [EIGHT_BIT, SPECS[1]], [SPECS[0], EIGHT_BIT, *SPECS[2:]]], ids=lambda specs: str(len(specs))
)
def test_packed_equals_alone_under_plain_peft_to_1e_5_in_fp32_with_eight_bits(
    tiny_sd15: Path, dataset: Dataset, tmp_path: Path, alone: Alone, specs: list[Spec]
) -> None:
    pack = new_pack(base_in(tiny_sd15, torch.float32), dataset)
    runs = [join(pack, run_dir=tmp_path / str(i), epochs=HORIZON, **spec.keywords) for i, spec in enumerate(specs)]
    train(pack, 10)
    for run, spec in zip(runs, specs, strict=True):
        assert_close(run, alone(torch.float32, spec, 10), 1e-5, flips=1e-4 if spec is EIGHT_BIT else 0.0)


def test_runs_that_join_and_leave_on_the_way_end_where_they_would_have_ended_alone(
    tiny_sd15: Path, dataset: Dataset, tmp_path: Path, alone: Alone
) -> None:
    pack = new_pack(base_in(tiny_sd15, torch.float64), dataset)
    stays, leaves, joins = SPECS[0], SPECS[1], SPECS[3]
    first = join(pack, run_dir=tmp_path / "stays", epochs=HORIZON, **stays.keywords)
    second = join(pack, run_dir=tmp_path / "leaves", epochs=HORIZON, **leaves.keywords)
    pack.train_epoch()
    third = join(pack, run_dir=tmp_path / "joins", epochs=HORIZON, **joins.keywords)

    def leave_in_the_middle(pack: Pack) -> None:
        if second.step == STEPS_PER_EPOCH + 2 and second in pack.runs:
            pack.leave(second)

    pack.train_epoch(leave_in_the_middle)
    pack.train_epoch()
    assert (first.epoch, second.step, third.epoch) == (3, 6, 2)
    for run, spec in ((first, stays), (second, leaves), (third, joins)):
        assert_close(run, alone(torch.float64, spec, run.step), 1e-10)


@pytest.mark.parametrize("name", ["sd15", "sdxl"])
def test_text_encoders_train_in_company_as_they_do_alone(
    name: str, request: pytest.FixtureRequest, dataset: Dataset, tmp_path: Path
) -> None:
    folder = request.getfixturevalue(f"tiny_{name}")
    settings = [{"rank": 4, "learning_rate": 1e-3}, {"rank": 3, "learning_rate": 3e-3, "text_encoder_lr": 1e-3}]

    def trained(where: str, chosen: list[dict[str, Any]]) -> list[dict[str, torch.Tensor]]:
        pack = new_pack(base_in(folder, torch.float64), dataset, train_text_encoder=True, flip=True)
        runs = [join(pack, run_dir=tmp_path / f"{where}{i}", epochs=2, **own) for i, own in enumerate(chosen)]
        pack.train_epoch()
        return [parameters_of(run) for run in runs]

    together = trained("together", settings)
    for number, own in enumerate(settings):
        (alone,) = trained(f"alone{number}-", [own])
        trained_up = [value for key, value in alone.items() if key.startswith("text_encoder") and key.endswith(".up")]
        assert any(bool(value.any()) for value in trained_up)
        for key, value in alone.items():
            torch.testing.assert_close(together[number][key], value, atol=1e-10, rtol=0)


LOSSES: list[dict[str, Any]] = [
    {"debiased_estimation_loss": True},
    {"noise_offset": 0.1, "noise_offset_random_strength": True},
    {"noise_offset": 0.1},
    {"ip_noise_gamma": 0.1, "min_snr_gamma": 5.0, "debiased_estimation_loss": True},
]


def test_each_run_of_a_pack_has_its_own_noise_and_weights_and_goes_on_after_a_stop(
    tiny_sd15: Path, dataset: Dataset, tmp_path: Path
) -> None:
    base = base_in(tiny_sd15, torch.float64)

    def joined(folder: Path, losses: list[dict[str, Any]]) -> tuple[Pack, list[Run]]:
        pack = new_pack(base, dataset)
        runs = [
            join(pack, run_dir=folder / str(LOSSES.index(loss)), rank=4, learning_rate=1e-3, epochs=2, **loss)
            for loss in losses
        ]
        return pack, runs

    pack, whole = joined(tmp_path / "whole", LOSSES)
    pack.train_epoch()
    pack.train_epoch()
    pack, stopped = joined(tmp_path / "stopped", LOSSES)
    pack.train_epoch()
    for run in stopped:
        run.save()
    pack, resumed = joined(tmp_path / "stopped", LOSSES)
    pack.train_epoch()
    ends = [parameters_of(run) for run in whole]
    for run, end in zip(resumed, ends, strict=True):
        assert run.epoch == 2
        assert all(torch.equal(value, end[name]) for name, value in parameters_of(run).items())
    for number, loss in enumerate(LOSSES):
        pack, (alone,) = joined(tmp_path / f"alone{number}", [loss])
        pack.train_epoch()
        pack.train_epoch()
        for name, value in parameters_of(alone).items():
            torch.testing.assert_close(ends[number][name], value, atol=1e-10, rtol=0)
    up = next(name for name in ends[0] if name.endswith(".up"))
    assert all(not torch.equal(a[up], b[up]) for i, a in enumerate(ends) for b in ends[:i])


def test_a_nan_in_one_run_leaves_the_others_untouched_bit_for_bit(
    tiny_sd15: Path, dataset: Dataset, tmp_path: Path
) -> None:
    ends = []
    for poisoned in (False, True):
        pack = new_pack(base_in(tiny_sd15, torch.float32), dataset)
        folder = tmp_path / str(poisoned)
        runs = [join(pack, run_dir=folder / str(i), epochs=9, rank=4, learning_rate=1e-3) for i in range(3)]
        if poisoned:
            next(iter(runs[1].parameters)).data[0, 0] = float("nan")
        pack.train_epoch()
        ends.append([parameters_of(run) for run in runs])
        if poisoned:
            assert runs[1].failed == "the loss became NaN or infinite in epoch 1"
            assert [run.failed for run in (runs[0], runs[2])] == [None, None]
            assert [run.epoch for run in runs] == [1, 0, 1]
            pack.train_epoch()
            assert [run.epoch for run in runs] == [2, 0, 2]
    healthy, beside = ends
    for place in (0, 2):
        for name, value in healthy[place].items():
            assert torch.equal(value, beside[place][name])
    assert any(not torch.equal(value, beside[1][name]) for name, value in healthy[1].items())


def test_at_a_fixed_width_a_result_does_not_depend_on_the_neighbours(
    tiny_sd15: Path, dataset: Dataset, tmp_path: Path
) -> None:
    ends = []
    for neighbours in ([], [SPECS[1]], [SPECS[2], SPECS[3]]):
        pack = new_pack(base_in(tiny_sd15, torch.float32), dataset, width=3, max_rank=16)
        folder = tmp_path / str(len(neighbours))
        run = join(pack, run_dir=folder / "run", epochs=HORIZON, **SPECS[0].keywords)
        for index, spec in enumerate(neighbours):
            join(pack, run_dir=folder / str(index), epochs=HORIZON, **spec.keywords)
        pack.train_epoch()
        ends.append(parameters_of(run))
    for other in ends[1:]:
        assert all(torch.equal(value, other[name]) for name, value in ends[0].items())


def test_the_base_is_exactly_itself_outside_and_before_training(
    tiny_sd15: Path, dataset: Dataset, tmp_path: Path
) -> None:
    base = base_in(tiny_sd15, torch.float32)
    names = list(base.denoiser.state_dict())
    inputs = (torch.randn(2, 4, 16, 16), torch.tensor([10, 500]), torch.randn(2, 32, 32))
    with torch.no_grad():
        before = base.denoiser(*inputs).sample
    pack = new_pack(base, dataset)
    join(pack, run_dir=tmp_path / "0", rank=4, epochs=2, learning_rate=1e-2)
    pack.train_epoch()
    assert list(base.denoiser.state_dict()) == names
    with torch.no_grad():
        assert torch.equal(base.denoiser(*inputs).sample, before)


def test_dora_and_convolutions_train_alone_and_refuse_company(
    tiny_sd15: Path, dataset: Dataset, tmp_path: Path
) -> None:
    for index, kind in enumerate(({"dora": True}, {"conv_rank": 2})):
        pack = new_pack(base_in(tiny_sd15, torch.float32), dataset)
        run = join(pack, run_dir=tmp_path / f"{index}", rank=2, epochs=3, learning_rate=3e-3, **kind)
        before = parameters_of(run)
        with pytest.raises(Exception, match="cannot share a pack"):
            join(pack, run_dir=tmp_path / "other", rank=2)
        for _ in range(3):
            pack.train_epoch()
        assert run.failed is None
        changed = {name for name, value in parameters_of(run).items() if not torch.equal(value, before[name])}
        assert changed == set(before)
