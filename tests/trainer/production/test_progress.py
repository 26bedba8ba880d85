"""What a person sees while a run trains."""

import io
import resource
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from trainer.production.progress import Watch, clock, memory_gib

PACK: Any = SimpleNamespace(steps_per_epoch=4, base=SimpleNamespace(device=torch.device("cpu")))


@pytest.mark.parametrize("terminal", [True, False])
def test_a_bar_is_drawn_on_a_terminal_alone_and_a_line_for_each_epoch_everywhere(terminal: bool) -> None:
    out = io.StringIO()
    run: Any = SimpleNamespace(step=0, epoch=0, mean_loss=0.25, last_loss=0.125, learning_rate=1e-4)
    with Watch(Console(file=out, force_terminal=terminal, color_system=None, width=200), run, PACK, epochs=3) as watch:
        for step in range(1, 5):
            run.step = step
            watch.step(PACK)
        run.epoch = 1
        watch.epoch()
    said = out.getvalue()
    assert ("4/12" in said) == terminal
    assert ("0.2500" in said) == terminal
    assert "epoch 1/3  loss 0.1250  lr 0.0001" in said


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.9, "0:00"), (59.9, "0:59"), (60, "1:00"), (3599, "59:59"), (3725, "1:02:05")]
)
def test_durations_read_like_a_clock(seconds: float, said: str) -> None:
    assert clock(seconds) == said


def test_the_rate_is_of_the_last_hundred_steps_and_tells_how_long_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("trainer.production.progress.time.perf_counter", lambda: now[0])
    out = io.StringIO()
    run: Any = SimpleNamespace(step=0, epoch=0, mean_loss=0.25, last_loss=0.125, learning_rate=1e-4)
    pack: Any = SimpleNamespace(steps_per_epoch=150, base=SimpleNamespace(device=torch.device("cpu")))
    with Watch(Console(file=out, width=200), run, pack, epochs=3) as watch:
        assert watch.rate == 0.0
        for step in range(1, 151):  # fifty slow steps, then a hundred of half a second
            now[0] += 10.0 if step <= 50 else 0.5
            run.step = step
            watch.step(pack)
        assert watch.rate == pytest.approx(2.0)
        run.epoch = 1
        watch.epoch()
        assert watch.seconds == pytest.approx(550)
        said = out.getvalue().split("  ")
        assert said[:5] == [
            "epoch 1/3",
            "loss 0.1250",
            "lr 0.0001",
            "0.273 it/s",
            "left 2:30",
        ]  # 300 steps at two a second
        now[0] += 1000  # samples
        watch.go_on()
        assert watch.rate == 0.0
        now[0] += 4
        watch.step(pack)
        assert watch.rate == pytest.approx(0.25)


def test_memory_is_what_the_process_had_at_its_peak() -> None:
    held = np.ones(2**25)  # a quarter of a GiB
    base: Any = SimpleNamespace(device=torch.device("cpu"))
    assert held.nbytes / 2**30 < memory_gib(base) < 64
    assert memory_gib(base) == pytest.approx(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, rel=0.01)
