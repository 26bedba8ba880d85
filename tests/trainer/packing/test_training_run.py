"""One run: what it tells of its losses, rates and epochs, how gradients are clipped and scaled, and what it refuses."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.trainer.packs import create_adapters, run_settings
from trainer.base_model.load import load_base
from trainer.data.cache import LatentCache
from trainer.data.dataset import scan_dataset
from trainer.errors import TrainerError
from trainer.families.family import Base
from trainer.packing.batches import Feed
from trainer.packing.settings import FeedSettings
from trainer.packing.training_run import Run

STEPS = 4  # of an epoch
NewRun = Callable[..., Run]


@pytest.fixture(scope="module")
def base(tiny_sd15: Path) -> Base:
    return load_base(tiny_sd15)


@pytest.fixture(scope="module")
def feed(base: Base, tiny_photos: Path) -> Feed:
    photos = scan_dataset(tiny_photos).subset([0])
    return Feed(base, photos, LatentCache(base), FeedSettings(resolution=(32, 32)))


@pytest.fixture
def new_run(base: Base, feed: Feed, tmp_path: Path) -> NewRun:
    def made(*, loss_scaling: bool = False, steps: int = STEPS, text: bool = False, **named: Any) -> Run:
        settings = run_settings(**{"rank": 1, "targets": "attention", "epochs": 2, **named})
        return Run(
            feed=feed,
            run_dir=tmp_path,
            adapters=create_adapters(base, rank=1, targets="attention", train_text_encoder=text),
            settings=settings,
            steps_per_epoch=steps,
            loss_scaling=loss_scaling,
            describe=lambda **told: {f"ss_{name}": str(value) for name, value in told.items()},
        )

    return made


def with_gradients(run: Run, value: float) -> None:
    for parameter in run.parameters:
        parameter.grad = torch.full_like(parameter, value)


def step(run: Run, *, loss: float = 1.0, gradient: float = 1e-3) -> None:
    run.note_loss(torch.tensor(loss))
    with_gradients(run, gradient)
    run.apply_step()


def weights(run: Run) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in run.parameters])


def norm_of_gradients(run: Run) -> float:
    return math.sqrt(sum(float(p.grad.square().sum()) for p in run.parameters if p.grad is not None))


def test_losses_rates_and_effort_are_told_step_by_step(new_run: NewRun) -> None:
    run = new_run(learning_rate=0.5, lr_scheduler="linear")
    assert math.isnan(run.mean_loss)
    assert run.learning_rate == 0.5
    losses, rates = [2.0, 1.0, 6.0, 3.0], [0.5 * (1 - number / 8) for number in range(8)]
    for number, loss in enumerate(losses, 1):
        step(run, loss=loss)
        assert (run.step, run.mean_loss) == (number, pytest.approx(sum(losses[:number]) / number))
        assert run.learning_rate == pytest.approx(rates[number - 1])
    run.finish_epoch()
    assert (run.epoch, run.last_loss, run.mean_loss, run.failed) == (1, 3.0, 3.0, None)
    assert run.effort == pytest.approx(sum(rates[:4]))
    for _ in range(4):
        step(run, loss=0.5)
    run.finish_epoch()
    assert (run.epoch, run.step, run.last_loss, run.finished) == (2, 8, 0.5, True)
    assert run.effort == pytest.approx(sum(rates))


def test_each_component_has_a_rate_of_its_own(new_run: NewRun) -> None:
    run = new_run(text=True, learning_rate=0.5, text_encoder_lr=0.125, optimizer="AdamW", weight_decay=0.0)
    names = [name for name, _ in run.adapters.named_parameters()]
    before = {name: p.detach().clone() for name, p in run.adapters.named_parameters()}
    step(run, gradient=1.0)
    for name, parameter in run.adapters.named_parameters():
        moved = float((before[name] - parameter.detach()).mean())  # Adam's first step is the rate
        assert moved == pytest.approx(0.5 if name.startswith("denoiser.") else 0.125, rel=1e-3)
    assert {name.split(".")[0] for name in names} == {"denoiser", "text_encoder_0"}
    assert len(new_run(learning_rate=0.5).optimizer.param_groups) == 1


@pytest.mark.parametrize(("most", "gradient"), [(0.25, 1.0), (0.25, 1e-6), (0.0, 1.0)])
@pytest.mark.parametrize("in_a_row", [False, True])
def test_gradients_are_clipped_to_the_norm_and_shorter_ones_stay(
    new_run: NewRun, most: float, gradient: float, in_a_row: bool
) -> None:
    run = new_run(max_grad_norm=most)
    with_gradients(run, gradient)
    whole = norm_of_gradients(run)
    row = torch.cat([p.grad.flatten() for p in run.parameters if p.grad is not None])
    run.apply_step(row if in_a_row else None)
    expected = min(whole, most) if most else whole
    found = float(torch.linalg.vector_norm(row)) if in_a_row else norm_of_gradients(run)
    assert found == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("every", "epochs", "due"),
    [(1, 3, [1, 2, 3]), (2, 5, [2, 4, 5]), (3, 6, [3, 6]), (9, 4, [4])],
)
def test_checkpoints_are_due_at_multiples_and_at_the_end(
    new_run: NewRun, every: int, epochs: int, due: list[int]
) -> None:
    run = new_run(save_every_n_epochs=every, epochs=epochs, steps=1)
    found = [0] if run.due else []
    while not run.finished:
        step(run)
        run.finish_epoch()
        found += [run.epoch] if run.due else []
    assert found == due


@pytest.mark.parametrize(("what", "loss"), [("loss", math.nan), ("loss", math.inf), ("weights", 1.0)])
def test_a_run_that_is_no_longer_finite_fails_and_is_not_saved(
    new_run: NewRun, tmp_path: Path, what: str, loss: float
) -> None:
    run = new_run(steps=1)
    step(run)
    run.finish_epoch()
    step(run, loss=loss)
    if what == "weights":
        run.parameters[0].data[0] = math.inf
    run.finish_epoch()
    assert run.failed == f"the {what} became NaN or infinite in epoch 2"
    assert run.epoch == 1
    with pytest.raises(TrainerError, match=f"not saved: the {what} became NaN"):
        run.save()
    assert list(tmp_path.iterdir()) == []


def test_in_fp16_losses_are_scaled_and_a_step_that_overflows_is_left_out(new_run: NewRun, tmp_path: Path) -> None:
    plain, scaled = new_run(learning_rate=1e-2), new_run(learning_rate=1e-2, loss_scaling=True)
    one = torch.tensor(1.0)
    assert float(plain.scale(one)) == 1.0
    scale = float(scaled.scale(one))
    assert scale > 1
    step(plain, gradient=1e-3)
    step(scaled, gradient=1e-3 * scale)
    assert torch.allclose(weights(scaled), weights(plain), rtol=1e-5, atol=1e-8)
    before = weights(scaled)
    step(scaled, gradient=math.inf)
    assert torch.equal(weights(scaled), before)
    assert float(scaled.scale(one)) == scale / 2
    for _ in range(2):
        step(scaled, gradient=1e-3 * scale / 2)
    scaled.finish_epoch()
    path = scaled.save()
    again = new_run(learning_rate=1e-2, loss_scaling=True)
    again.resume(path)
    assert float(again.scale(one)) == scale / 2
    assert torch.equal(weights(again), weights(scaled))


def test_a_run_goes_on_with_the_rates_of_its_own_course(new_run: NewRun) -> None:
    first = new_run(learning_rate=0.5, lr_scheduler="linear")
    for _ in range(STEPS):
        step(first)
    first.finish_epoch()
    path = first.save()
    again = new_run(learning_rate=0.25, lr_scheduler="linear", epochs=4)
    again.resume(path)
    assert (again.epoch, again.step, again.effort, again.last_loss) == (1, 4, first.effort, first.last_loss)
    assert again.learning_rate == pytest.approx(0.25 * (1 - 4 / 16))
    assert (path / "lora.safetensors").exists()


def test_a_state_of_epochs_of_another_length_is_refused(new_run: NewRun) -> None:
    run = new_run()
    for _ in range(STEPS):
        step(run)
    run.finish_epoch()
    path = run.save()
    with pytest.raises(TrainerError, match="4 steps in 1 epochs, but an epoch has 5 steps here"):
        new_run(steps=5).resume(path)


def test_the_file_tells_where_the_run_stood(new_run: NewRun) -> None:
    from trainer.lora.kohya_file import read_metadata

    run = new_run(save_every_n_epochs=2)
    for _ in range(STEPS):
        step(run)
    run.finish_epoch()
    told = read_metadata(run.save() / "lora.safetensors")
    assert (told["ss_epoch"], told["ss_steps"]) == ("1", "4")


def test_sums_of_an_epoch_begun_are_dropped(new_run: NewRun) -> None:
    run = new_run(learning_rate=0.5)
    step(run, loss=8.0)
    run.forget_epoch()
    assert math.isnan(run.mean_loss)
    step(run, loss=2.0)
    run.finish_epoch()
    assert (run.last_loss, run.effort) == (2.0, 0.5)


def test_a_state_of_other_adapters_or_another_optimizer_is_refused(new_run: NewRun, base: Base) -> None:
    run = new_run(optimizer="AdamW")
    for _ in range(STEPS):
        step(run)
    run.finish_epoch()
    saved = run.save()
    for other, line in (
        (new_run(text=True), "made with other LoRA settings"),
        (new_run(optimizer="Lion"), "made with AdamW, not Lion"),
    ):
        before = weights(other)
        with pytest.raises(TrainerError, match=line):
            other.resume(saved)
        assert (other.epoch, other.step) == (0, 0)
        assert torch.equal(weights(other), before)
    again = new_run(optimizer="AdamW")
    again.resume(saved)
    assert (again.epoch, again.step, again.effort, again.last_loss) == (1, STEPS, run.effort, run.last_loss)
    assert torch.equal(weights(again), weights(run))
