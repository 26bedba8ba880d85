"""What a person sees while a run trains."""

import io
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from rich.console import Console

from trainer.production.progress import Watch, clock

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
