"""A finished LoRA under other weights of its blocks, looked at as a trial's checkpoint."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from metrics.trajectory.readings import Reading, Readings
from search.record.events import Checkpointed, TrialSpec
from search.running.block_weights import BlockLooks
from tests.search.any_config import CONFIG
from trainer.lora.lora import LoraModule, LoraWeights

SITES = {
    "IN04": ("denoiser", "down_blocks.1.attentions.0.proj_in"),
    "M00": ("denoiser", "mid_block.attentions.0.proj_in"),
    "BASE": ("text_encoder_0", "encoder.layers.0.mlp.fc1"),
    None: ("denoiser", "time_embedding.linear_1"),
}


def lora_of(*blocks: str | None) -> LoraWeights:
    return LoraWeights({SITES[b]: LoraModule(torch.ones(2, 4), torch.ones(4, 2), 2.0) for b in blocks}, "sd15")


class LoudProbe:
    """Reads a likeness of 0.5 × the mean of `up` over all modules that there are, plus 0.5."""

    def __init__(self) -> None:
        self.base = SimpleNamespace(family=SimpleNamespace(name="sd15"))
        self.calibration = SimpleNamespace(
            labels=["one", "two"], encoder=None, identity_encoder=None, kept=slice(None),
            photos=SimpleNamespace(identity=np.zeros((0, 4))),
        )  # fmt: skip
        self.calibration.labels = SimpleNamespace(sets=("C", "C"), __len__=lambda: 2)
        self.seen: list[dict[str | None, float]] = []

    def read(self, lora: LoraWeights, *, epoch: int, effort: float, say: Callable[[str], None]) -> Any:
        assert (epoch, effort) == (1, 1.0)
        say("drawing")
        names = {site: block for block, site in SITES.items()}
        self.seen.append({names[site]: float(module.up.mean()) for site, module in lora.modules.items()})
        alike = 0.5 + 0.5 * float(np.mean([float(module.up.mean()) for module in lora.modules.values()]))
        channels = {"fidelity": Reading(alike, alike, alike), "prompt": Reading(-0.1, -0.1, -0.1)}
        return Readings(1, 1.0, channels, {}, 0.123), np.zeros((2, 8, 8, 3), np.uint8), {"sample": 1.0, "score": 2.0}


@pytest.fixture
def looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[BlockLooks, LoudProbe]]:
    monkeypatch.setattr("search.running.block_weights.subject_axes", lambda calibration, moved: None)
    monkeypatch.setattr("metrics.checkpoint.weighting.excesses", lambda calibration, channels: {})
    np.savez(tmp_path / "arrays.npz", shifted_images=np.zeros((2, 8, 8, 3), np.uint8))

    def make(*blocks: str | None) -> tuple[BlockLooks, LoudProbe]:
        probe: Any = LoudProbe()
        probe.calibration.labels = ["one", "two"]
        delivery: Any = SimpleNamespace(weights=lambda params: dict(params), lora="unread")
        return BlockLooks(delivery, probe, tmp_path, lora_of(*blocks)), probe

    return make


def spec(number: int, folder: Path, params: Mapping[str, float]) -> TrialSpec:
    return TrialSpec(number, folder / str(number), CONFIG, params=params)


def test_the_score_is_the_worth_beside_the_lora_as_it_is(looks, tmp_path: Path) -> None:
    """2 % of the likeness are free, each 10 % more cost a factor of e."""
    found, probe = looks("IN04", "M00")
    assert found.counts == (1,)
    half, _, seconds = found.look(spec(0, tmp_path, {"IN04": 1.0, "M00": 0.5}), 1, say=lambda what: None)
    assert probe.seen == [{"IN04": 1.0, "M00": 0.5}, {"IN04": 1.0, "M00": 1.0}], "then as it is, to compare with"
    lost = 0.125  # of the likeness: 0.875 instead of 1
    assert half.score == pytest.approx(np.exp(-0.1 - (lost - 0.02) / 0.1))
    assert seconds == {"sample": 1.0, "score": 2.0}
    whole, _, _ = found.look(spec(1, tmp_path, {"IN04": 1.0, "M00": 1.0}), 1, say=lambda what: None)
    assert whole.score == pytest.approx(np.exp(-0.1))
    assert len(probe.seen) == 3, "what it is compared with is read once"


def test_the_lora_as_it_is_is_compared_with_itself(looks, tmp_path: Path) -> None:
    found, probe = looks("IN04", "M00")
    said: list[str] = []
    found.look(spec(0, tmp_path, {"IN04": 1.0, "M00": 1.0}), 1, say=said.append)
    assert len(probe.seen) == len(said) == 1
    half, _, _ = found.look(spec(1, tmp_path, {"IN04": 0.0, "M00": 1.0}), 1, say=said.append)
    assert probe.seen[1:] == [{"M00": 1.0}]
    assert half.score == pytest.approx(np.exp(-0.1)), "as alike as before"


@pytest.mark.parametrize(
    ("blocks", "left"),
    [
        (("IN04", "M00", None), {None: 1.0}),  # what has no block stays as it is
        (("IN04", "M00"), {"IN04": 0.0}),  # a LoRA has some module, which changes nothing
        (("IN04", "M00", "BASE"), {"BASE": 1.0}),
    ],
)
def test_without_any_of_its_blocks_nothing_is_left_of_them(looks, blocks, left) -> None:
    found, probe = looks(*blocks)
    found.read({"IN04": 0.0, "M00": 0.0})
    assert probe.seen == [left]


def test_it_is_looked_at_once(looks, tmp_path: Path) -> None:
    found, _ = looks("IN04")
    this = spec(0, tmp_path, {"IN04": 1.0})
    assert not found.begin(this, 1)
    readings, _, _ = found.look(this, 1, say=lambda what: None)
    Checkpointed(0, 1, readings).save(this.folder)
    assert found.begin(this, 1)
