"""Runs in a pack end where they would have ended alone, under plain peft with the same optimizer."""

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.trainer.packing.plain_peft import (
    EIGHT_BIT,
    HORIZON,
    SPECS,
    STEPS_PER_EPOCH,
    Spec,
    alone_under_peft,
    assert_close,
    base_in,
    new_pack,
    parameters_of,
    train,
)
from tests.trainer.packs import join
from trainer.data.dataset import Dataset, scan_dataset
from trainer.errors import ModelError
from trainer.packing.pack import Pack
from trainer.packing.training_run import Run


@pytest.fixture(scope="module")
def dataset(tiny_photos: Path) -> Dataset:
    return scan_dataset(tiny_photos)


Alone = Callable[[torch.dtype, Spec, int], dict[str, torch.Tensor]]


@pytest.fixture(scope="module")
def alone(tiny_sd15: Path, dataset: Dataset) -> Alone:
    """(dtype, spec, steps) → the parameters after `steps` steps alone; every step is trained once."""
    runs: dict[tuple[torch.dtype, int], Iterator[dict[str, torch.Tensor]]] = {}
    ends: dict[tuple[torch.dtype, int], list[dict[str, torch.Tensor]]] = {}

    def after(dtype: torch.dtype, spec: Spec, steps: int) -> dict[str, torch.Tensor]:
        key = (dtype, id(spec))
        if key not in runs:
            runs[key], ends[key] = alone_under_peft(tiny_sd15, dtype, dataset, spec), []
        ends[key] += islice(runs[key], max(0, steps - len(ends[key])))
        return ends[key][steps - 1]

    return after


# with eight bits one run is packed by itself each day
@pytest.mark.parametrize("width", [pytest.param(1, marks=pytest.mark.slow), 5])
def test_packed_equals_alone_under_plain_peft_to_1e_10_in_fp64(
    tiny_sd15: Path, dataset: Dataset, tmp_path: Path, alone: Alone, width: int
) -> None:
    pack = new_pack(base_in(tiny_sd15, torch.float64), dataset)
    specs = SPECS[:width]
    runs = [join(pack, run_dir=tmp_path / str(i), epochs=HORIZON, **spec.keywords) for i, spec in enumerate(specs)]
    train(pack, 6)
    for run, spec in zip(runs, specs, strict=True):
        assert run.step == 6
        assert_close(run, alone(torch.float64, spec, 6), 1e-10)


@pytest.mark.parametrize(
    "specs",
    [[EIGHT_BIT], pytest.param([SPECS[0], EIGHT_BIT, *SPECS[2:]], marks=pytest.mark.slow)],
    ids=lambda specs: str(len(specs)),
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
    assert (first.epoch, second.step, third.epoch) == (2, 6, 1)
    for run, spec in ((first, stays), (second, leaves), (third, joins)):
        assert_close(run, alone(torch.float64, spec, run.step), 1e-10)


@pytest.mark.parametrize("name", ["sd15", pytest.param("sdxl", marks=pytest.mark.slow)])
def test_text_encoders_train_in_company_as_they_do_alone(
    name: str, request: pytest.FixtureRequest, dataset: Dataset, tmp_path: Path
) -> None:
    folder = request.getfixturevalue(f"tiny_{name}")
    settings = [{"rank": 4, "learning_rate": 1e-3}, {"rank": 3, "learning_rate": 3e-3, "text_encoder_lr": 1e-3}]
    base = base_in(folder, torch.float64)

    def trained(where: str, chosen: list[dict[str, Any]]) -> list[dict[str, torch.Tensor]]:
        pack = new_pack(base, dataset, train_text_encoder=True, flip=True, batch_size=8)
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


FEW_LAYERS = {"rank": 4, "learning_rate": 1e-3, "targets": "attention"}
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
        pack = new_pack(base, dataset, batch_size=8)
        runs = [join(pack, run_dir=folder / str(LOSSES.index(loss)), epochs=2, **FEW_LAYERS, **loss) for loss in losses]
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
    for number in (1, 3):  # what changes the noise, and what weighs the loss
        pack, (alone,) = joined(tmp_path / f"alone{number}", [LOSSES[number]])
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
        pack = new_pack(base_in(tiny_sd15, torch.float32), dataset, batch_size=8)
        folder = tmp_path / str(poisoned)
        runs = [join(pack, run_dir=folder / str(i), epochs=9, **FEW_LAYERS) for i in range(3)]
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


@pytest.mark.parametrize("dtype", [torch.float32, pytest.param(torch.bfloat16, marks=pytest.mark.slow)])
def test_at_a_fixed_width_a_result_does_not_depend_on_the_neighbours(
    tiny_sd15: Path, dataset: Dataset, tmp_path: Path, dtype: torch.dtype
) -> None:
    """Nor on whether all have one scale (which bf16 cannot hold), nor on who rests or leaves meanwhile."""
    own = {"rank": 3, "alpha": 1.0, "optimizer": "AdamW", "learning_rate": 1e-3}
    other = {**own, "rank": 6, "alpha": 2.0}
    ends = []
    for neighbours in ([], [other, {**own, "learning_rate": 3e-3}], [SPECS[1].keywords, SPECS[3].keywords]):
        pack = new_pack(base_in(tiny_sd15, dtype), dataset, width=3, max_rank=16, batch_size=8)
        folder = tmp_path / str(len(ends))
        others = [join(pack, run_dir=folder / str(seat), epochs=HORIZON, seat=seat, **keywords)
                  for seat, keywords in zip((0, 2), neighbours, strict=False)]  # fmt: skip
        run = join(pack, run_dir=folder / "run", epochs=HORIZON, seat=1, **own)
        pack.train_epoch(lambda pack, other=others[:1]: [pack.leave(one) for one in other if one in pack.runs])
        pack.train_epoch(runs=[run])
        assert [one.epoch for one in others] == [0, 1][: len(others)]
        ends.append(parameters_of(run))
    for other in ends[1:]:
        assert all(torch.equal(value, other[name]) for name, value in ends[0].items())


def test_a_seat_is_kept_for_whoever_has_it(tiny_sd15: Path, dataset: Dataset, tmp_path: Path) -> None:
    pack = new_pack(base_in(tiny_sd15, torch.float32), dataset, width=3, max_rank=4, batch_size=8)
    middle = join(pack, run_dir=tmp_path / "0", seat=1, **FEW_LAYERS)
    with pytest.raises(ModelError, match="seat 1 of the pack is not free"):
        join(pack, run_dir=tmp_path / "1", seat=1, **FEW_LAYERS)
    join(pack, run_dir=tmp_path / "1", **FEW_LAYERS)
    assert pack.free_seats == [2]
    last = join(pack, run_dir=tmp_path / "2", **FEW_LAYERS)
    for seat in (None, 0):
        with pytest.raises(ModelError, match="the pack is full: its width is 3"):
            join(pack, run_dir=tmp_path / "3", seat=seat, **FEW_LAYERS)
    pack.leave(last)
    pack.leave(middle)
    assert pack.free_seats == [1, 2]


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


def test_activations_are_computed_again_where_a_pack_asks_for_it_and_in_no_other_pack(
    tiny_sd15: Path, dataset: Dataset, tmp_path: Path
) -> None:
    base = base_in(tiny_sd15, torch.float32)
    passes = 0

    def count(*_: object) -> None:
        nonlocal passes
        passes += 1

    base.denoiser.get_submodule("up_blocks.0.resnets.0").register_forward_pre_hook(count)
    for asked, per_step in ((True, 2), (False, 1)):
        pack, passes = new_pack(base, dataset, gradient_checkpointing=asked), 0
        run = join(pack, run_dir=tmp_path / str(asked), **FEW_LAYERS)
        pack.train_epoch()
        assert passes == per_step * run.step > 0


def test_dora_and_convolutions_train_alone_and_refuse_company(
    tiny_sd15: Path, dataset: Dataset, tmp_path: Path
) -> None:
    for index, kind in enumerate(({"dora": True}, {"conv_rank": 2})):
        pack = new_pack(base_in(tiny_sd15, torch.float32), dataset, batch_size=16)
        run = join(pack, run_dir=tmp_path / f"{index}", rank=2, epochs=3, learning_rate=3e-3, **kind)
        before = parameters_of(run)
        with pytest.raises(ModelError, match="cannot share a pack"):
            join(pack, run_dir=tmp_path / "other", rank=2)
        for _ in range(3):
            pack.train_epoch()
        assert run.failed is None
        changed = {name for name, value in parameters_of(run).items() if not torch.equal(value, before[name])}
        assert changed == set(before)
