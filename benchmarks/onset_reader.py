"""What is read of a run's checkpoints: what detectors see, what is true, what its images show."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.onset_loras import Checkpoint
from benchmarks.onset_plan import CHOOSING, HELD_OUT, PackPlan, detector_grid
from benchmarks.onset_quality import find_judges, judged_images, true_quality
from benchmarks.onset_truth import SEEN, true_onset

if TYPE_CHECKING:
    from benchmarks.onset_world import Losses, World
    from metrics.checkpoint.calibration import Calibration
    from trainer.families.family import Base
    from trainer.lora.lora import LoraWeights

CLIP = Path(__file__).resolve().parent.parent / "studies" / "demo" / "clip"
LOOKED_AT = 5  # checkpoints of each run whose images are drawn, the last among them
REPLICATES = 40  # of the truth, for its own interval
TRUTHS = ("true_set", "true_new")
AROUND = 0.35  # octaves on both sides of a true onset that are read at every checkpoint
SAME = 0.01  # ln units: a run whose held-out losses differ by less, trained again, is the one that was kept


def detectors_see(plan: PackPlan) -> tuple[str, ...]:
    """Names of the losses that are read for detectors."""
    return (*SEEN, "context", *(("elsewhere",) if plan.concept in CHOOSING else ()))


class Reader:
    """Reads a run's checkpoints: what detectors see, what is true, and what its images show."""

    def __init__(self, plan: PackPlan, world: World, base: Base) -> None:
        from benchmarks.onset_world import draw

        self.plan, self.world, self.base = plan, world, base
        self.drawn = draw(base, None, world.labels.prompts, world.labels.seeds)
        self.calibration = calibrate_pack(plan, world, base, self.drawn)
        self.judges = find_judges(base.device)

    @cached_property
    def losses(self) -> Losses:
        from benchmarks.onset_world import Losses

        return Losses(self.base, self.world, self.plan.seed)

    @cached_property
    def at_base(self) -> dict[str, np.ndarray]:
        return self.losses(None, (*detectors_see(self.plan), *TRUTHS))

    def __call__(self, run: dict[int, Checkpoint]) -> tuple[dict[str, np.ndarray], dict[int, dict[str, float]]]:
        last = max(run)
        seen = [epoch for epoch in detector_grid(last) if epoch in run]
        found: dict[str, Any] = {"epochs": np.array([0, *seen])}
        found["effort"] = np.array([0.0, *(run[epoch].effort for epoch in seen)])
        ratios = {key: {0: np.zeros(len(self.at_base[key]))} for key in TRUTHS}
        to_see = detectors_see(self.plan)
        detectors: dict[str, list[np.ndarray]] = {key: [np.zeros(self.at_base[key].shape)] for key in to_see}
        coarse = {*seen[::-3], *seen[:2]}
        for epoch in seen:
            names = (*to_see, *TRUTHS) if epoch in coarse else to_see
            for key, losses in self._ratios(run[epoch].lora, names).items():
                if key in TRUTHS:
                    ratios[key][epoch] = losses.mean(axis=(1, 2))
                else:
                    detectors[key].append(losses)
        for key in TRUTHS:
            for _ in range(2):  # the finer reading may move the turn
                for epoch in self._around(ratios[key], run):
                    ratios[key][epoch] = self._ratios(run[epoch].lora, (key,))[key].mean(axis=(1, 2))
            found |= _truth(key, ratios[key])
        found |= _over_draws(detectors)
        places = np.linspace(2, len(seen) - 1, LOOKED_AT)
        looked, images = self.look(run, list(dict.fromkeys(seen[round(place)] for place in places)))
        return found | looked, images

    def read_more(
        self, run: dict[int, Checkpoint], kept: dict[str, np.ndarray], names: tuple[str, ...]
    ) -> dict[str, np.ndarray] | None:
        """What `names` read at the checkpoints of a kept run that was trained again; None when it is not the same run.

        Args:
            kept: its arrays, `epochs` and `heldout` among them.
        """
        epochs, off = kept["epochs"].tolist(), []
        if not set(epochs[1:]) <= run.keys():
            return None
        for row in np.linspace(1, len(epochs) - 1, 5).round().astype(int):
            again = self._ratios(run[epochs[row]].lora, ("heldout",))["heldout"].mean()
            off.append(abs(again - kept["heldout"][row].astype(np.float64).mean()))
        if np.median(off) > SAME:  # far past its onset a run differs by the order of its sums
            return None
        found = {name: [np.zeros(self.at_base[name].shape)] for name in names}
        for epoch in epochs[1:]:
            for name, losses in self._ratios(run[epoch].lora, names).items():
                found[name].append(losses)
        return _over_draws(found)

    def look(
        self, run: dict[int, Checkpoint], epochs: list[int]
    ) -> tuple[dict[str, np.ndarray], dict[int, dict[str, float]]]:
        """Draws the probe at some epochs: `looked_…` [epochs, items], what was read and judged item by item, kept to
        try other scores by; and each epoch's channels, score and true quality, the base's as epoch 0."""
        images = {0: self._look(0, 0.0, self.drawn)[1]}
        each: dict[str, list[np.ndarray]] = {}
        for epoch in epochs:
            items, images[epoch] = self._look(epoch, run[epoch].effort, self._draw(run[epoch].lora))
            for name, values in items.items():
                each.setdefault(name, []).append(values)
        arrays = {f"looked_{name}": np.stack(values).astype(np.float16) for name, values in each.items()}
        return arrays | {"looked_epochs": np.array(epochs)}, images

    def _ratios(self, lora: LoraWeights, names: tuple[str, ...]) -> dict[str, np.ndarray]:
        from metrics.channels.losses import log_ratios

        return {name: log_ratios(losses, self.at_base[name]) for name, losses in self.losses(lora, names).items()}

    def _around(self, ratios: dict[int, np.ndarray], run: dict[int, Checkpoint]) -> list[int]:
        """Checkpoints not read yet around the turn as it shows so far."""
        epochs = np.array(sorted(ratios))
        truth = true_onset(
            epochs, np.array([ratios[epoch].mean() for epoch in epochs.tolist()]), np.zeros((len(epochs), 1))
        )
        if truth.epoch is None:
            return []
        return [e for e in sorted(run) if e not in ratios and abs(np.log2(e / truth.epoch)) <= AROUND]

    def _draw(self, lora: LoraWeights) -> np.ndarray:
        from benchmarks.onset_world import draw

        return draw(self.base, lora, self.world.labels.prompts, self.world.labels.seeds)

    def _look(self, epoch: int, effort: float, images: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, float]]:
        """What is kept of each image; channels (value, low, high), the score, and the true quality the judges see."""
        from metrics.checkpoint.score import read_checkpoint

        readings = read_checkpoint(self.calibration, epoch=epoch, effort=effort, images=images)
        found = {"score": readings.score}
        for channel, reading in readings.channels.items():
            found |= {channel: reading.value, f"{channel}_low": reading.low, f"{channel}_high": reading.high}
        items = {name: readings.items[name] for name in ("fidelity", "fidelity_novel", "prompt", "diversity")}
        judged = judged_images(self.judges, images, self.world.labels, self.plan.concept)
        return items | judged, found | true_quality(judged, self.world.labels)


def _over_draws(read: dict[str, list[np.ndarray]]) -> dict[str, np.ndarray]:
    """[T, photos or composites, levels] each, small enough to be kept."""
    return {name: np.stack(values).mean(axis=3).astype(np.float16) for name, values in read.items()}


def _truth(key: str, ratios: dict[int, np.ndarray]) -> dict[str, np.ndarray]:
    """Mean over fresh renders at every epoch read, and replicates of the error of that mean."""
    from benchmarks.onset_world import GROUPS

    epochs = sorted(ratios)
    each = np.stack([ratios[epoch] for epoch in epochs])  # [T, renders]
    off = each.copy()
    for group in range(GROUPS[key]):  # the levels are the same in every replicate, so only luck within one counts
        own = slice(group, None, GROUPS[key])
        off[:, own] -= each[:, own].mean(axis=1, keepdims=True)
    weights = np.random.default_rng(0).normal(size=(each.shape[1], REPLICATES)) / each.shape[1]
    replicates = (off @ weights).astype(np.float32)
    return {f"{key}_epochs": np.array(epochs), key: each.mean(axis=1), f"{key}_replicates": replicates}


def calibrate_pack(plan: PackPlan, world: World, base: Base, drawn: np.ndarray) -> Calibration:
    from metrics.checkpoint.encoders import load_encoder
    from metrics.checkpoint.score import calibrate

    trained = [True] * plan.num_photos + [False] * HELD_OUT
    encoder = load_encoder(str(CLIP), device=base.device.type)
    return calibrate(
        list(world.photos),
        trained,
        drawn,
        world.labels,
        encoder,
        base_losses=None,
        shifted_photo=[*world.owners["shifted_train"], *(plan.num_photos + world.owners["shifted"])],
        shifted_images=np.concatenate([world.images["shifted_train"], world.images["shifted"]]),
        spoiled_images=world.spoiled,
    )
