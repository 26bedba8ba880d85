"""Study folders as a search leaves them, made in a second: real Optuna database, real PNGs, real trajectories.

What is planted: one clear winner (trial 2), a tie, a pruned trial and a failed one.
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from metrics.onset.onset import find_onset
from metrics.trajectory.readings import Reading, Readings
from metrics.trajectory.trajectory import Trajectory
from search.record.json_files import write_json
from search.record.record import StudyFolder, TrialRecord, write_samples
from search.verdict.verdict import finish
from trainer.config.config import parse_train_config

PROMPTS = (
    ("a photo of sks toy, beach", "A"),
    ("a photo of sks toy, forest", "B"),
    ("a photo of sks toy in deep snow, seen from far away, at the left edge", "C"),
    ("a pencil drawing of sks toy", "C"),
)
SEEDS = (11, 12)


@dataclass(frozen=True)
class Plan:
    """One planted trial.

    Attributes:
        quality: its best score. turn: epoch of both onsets, None for none.
        likeness: fidelity of what is learned; 0: images never show the subject, whatever the losses say.
        learned_at: epoch by which half of it is learned.
        real_contexts: ln ratio at which real photos of held-out contexts end, falling all the way; None: none are
            held out.
    """

    config: Mapping[str, Any]
    state: str = "complete"
    quality: float = 0.5
    turn: float | None = None
    stopped: str = "horizon"
    trained: int | None = None
    error: str | None = None
    likeness: float = 1.0
    learned_at: float = 2.0
    real_contexts: float | None = None


PLANS = (
    Plan({"optimizer": "AdamW", "lr_scheduler": "constant", "learning_rate_scale": 4.0, "rank": 8}, quality=0.55),
    Plan(
        {"optimizer": "Lion", "lr_scheduler": "cosine", "learning_rate_scale": 1.5, "rank": 16, "alpha_ratio": 0.5},
        quality=0.4,
        state="pruned",
        stopped="pruned",
        trained=10,
    ),
    Plan(
        {"optimizer": "AdamW", "lr_scheduler": "cosine_with_restarts", "num_cycles": 2, "learning_rate_scale": 6.0,
         "rank": 8, "alpha_ratio": 0.5},
        quality=0.82,
        turn=18,
        stopped="onset",
        trained=32,
    ),
    Plan({"optimizer": "Prodigy", "lr_scheduler": "cosine", "d_coef": 2.0, "rank": 4}, quality=0.7, turn=24),
    Plan(
        {"optimizer": "Adafactor", "relative_step": True, "lr_scheduler": "adafactor", "rank": 16},
        state="failed",
        stopped="failed",
        trained=4,
        error="Traceback (most recent call last):\n  …\nFloatingPointError: the loss is NaN at epoch 4",
    ),
    Plan({"optimizer": "AdamW", "lr_scheduler": "cosine", "learning_rate_scale": 2.0, "rank": 16}, quality=0.6),
    Plan({"optimizer": "Lion", "lr_scheduler": "constant", "learning_rate_scale": 3.0, "rank": 4}, quality=0.5),
    Plan({"optimizer": "AdamW", "lr_scheduler": "cosine", "learning_rate_scale": 8.0, "rank": 4}, quality=0.3, turn=8),
)  # fmt: skip


def make_finished(root: Path, base: Path, data: Path) -> None:
    """The study `toy` of `PLANS` with its verdict, and a LoRA of what ships."""
    aside = root.with_name(f"{root.name}.aside")
    folder = make_study(aside, base, data)
    shipped = TrialRecord.load(folder.trial(2)).epoch_shipped or 0
    make_lora(folder.checkpoint(2, shipped) / "lora.safetensors", base)
    finish(folder)  # so that copies of it need no picture drawn anew
    shutil.copytree(aside, root)  # a copy, whose database nobody has opened


def make_lora(path: Path, base: Path, *, rank: int = 8, alpha: float = 4.0) -> None:
    """A LoRA for `base` in kohya's format as the trainer writes it, with weights that do something."""
    import torch

    from tests.trainer.packs import create_adapters
    from trainer.base_model.load import load_base
    from trainer.lora.kohya_file import save_lora

    weights = create_adapters(load_base(base), rank=rank, alpha=alpha, seed=0).weights()
    generator = torch.Generator().manual_seed(0)
    modules = {
        site: replace(module, up=torch.randn(module.up.shape, generator=generator) * 0.1)
        for site, module in weights.modules.items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    save_lora(path, replace(weights, modules=modules), {"ss_network_dim": str(rank), "ss_v2": "False"})


def make_study(
    root: Path, base: Path, data: Path, plans: tuple[Plan, ...] = PLANS, *, learn: bool = True, name: str = "toy"
) -> StudyFolder:
    """A finished study under `root/runs/<name>`, with `root/<name>.yaml` beside it."""
    folder = StudyFolder(root / "runs" / name)
    root.mkdir(parents=True, exist_ok=True)
    (root / f"{name}.yaml").write_text(f"study: {name}\nbase: {base}\ndata: {data}\n")
    photos = sorted(p.name for p in data.rglob("*.png"))
    write_json(
        folder.cache / "probe" / "probe.json",
        {
            "prompts": [p for p, _ in PROMPTS],
            "sets": [s for _, s in PROMPTS],
            "seeds": list(SEEDS),
            "size": [64, 64],
            "heldout": photos[:2],
            "trained": photos[2:],
        },
    )
    for number, plan in enumerate(plans):
        make_trial(folder, number, plan, base, data, learn=learn)
    tell_optuna(folder, name)
    return folder


def make_trial(folder: StudyFolder, number: int, plan: Plan, base: Path, data: Path, *, learn: bool = True) -> None:
    """One trial's folder: record, trajectory, samples."""
    given = {"base": str(base), "data": str(data), "resolution": 64, "batch_size": 4, "epochs": 40,
             "save_every_n_epochs": 2}  # fmt: skip
    config = parse_train_config({**given, **plan.config})
    trained = plan.trained or 40
    record = TrialRecord(
        number=number,
        state=plan.state,
        config=config,
        params=dict(plan.config),
        epochs=config.epochs,
        epochs_trained=trained,
        stopped=plan.stopped,
        versions={"onset": "0.1.0"},
        seeds={"train": 0, "probe": 1},
        timings={"train": 6.0 + number, "sample": 3.0, "score": 1.0},
        error=plan.error,
    )
    if plan.state != "failed":
        trajectory = planted(plan, trained, number, learn=learn)
        trajectory.save(folder.trial(number))
        onset = find_onset(trajectory)
        scores = dict(zip(trajectory.epochs.tolist(), trajectory.scores.tolist(), strict=True))
        record = replace(record, onset=onset, epoch_shipped=onset.best, score=scores[onset.best])
        record = replace(record, value=scores[trained] if plan.state == "pruned" else record.score)
        for epoch in (0, *range(2, trained + 1, 2)):
            images = np.stack([picture(row, seed, epoch) for row in range(len(PROMPTS)) for seed in SEEDS])
            write_samples(folder.samples_file(number, epoch), images, len(SEEDS))
    record.save(folder.trial(number))


def planted(plan: Plan, trained: int, seed: int, *, learn: bool = True) -> Trajectory:
    """Losses that fall and, from `plan.turn` on, rise; fidelity that is learned by epoch 8; a score that follows."""
    generator = np.random.default_rng([seed, 5])
    spread = generator.normal(0, 0.02, size=8)
    readings = []
    for epoch in (0, *range(2, trained + 1, 2)):
        learned = (epoch / (epoch + plan.learned_at)) if learn else 0.0
        rise = 0.0 if plan.turn is None else 0.5 * max(0.0, epoch / plan.turn - 0.7) ** 1.5
        loss = -0.4 * learned + rise * 0.4 + spread * (epoch > 0) + generator.normal(0, 0.004, size=8)
        loss = loss if epoch else np.zeros(8)
        fidelity = plan.likeness * learned + generator.normal(0, 0.03, size=8) * (epoch > 0)
        items = {"shifted_loss": loss, "heldout_loss": loss * 0.9, "fidelity": fidelity}
        if plan.real_contexts is not None:
            items["context_loss"] = (plan.real_contexts + spread) * epoch / trained
        score = plan.quality * learned * (1 - min(0.5, rise)) + generator.normal(0, 0.003) if epoch else 0.0
        channels = {name: _reading(values) for name, values in items.items()}
        readings.append(Readings(epoch, epoch * 1e-4, channels, items, float(np.clip(score, 0, 1))))
    return Trajectory(tuple(readings))


def picture(row: int, seed: int, epoch: int) -> np.ndarray:
    """A disc that turns red as it is learned, on a ground of the prompt's own colour; uint8 [64, 64, 3]."""
    y, x = np.mgrid[:64, :64] / 64.0
    image = np.empty((64, 64, 3))
    image[:] = [(200, 180, 120), (60, 120, 60), (230, 235, 240), (250, 250, 245)][row]
    image *= 0.7 + 0.3 * y[..., None]
    disc = (x - 0.35 - 0.02 * (seed % 5)) ** 2 + (y - 0.55) ** 2 < 0.06
    share = min(1.0, epoch / 16)
    image[disc] = (1 - share) * image[disc] + share * np.array([210, 40, 60])
    return image.clip(0, 255).astype(np.uint8)


def tell_optuna(folder: StudyFolder, name: str) -> None:
    """The same trials in a real Optuna study in `study.db`."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = f"sqlite:///{folder.database}"
    study = optuna.create_study(storage=storage, study_name=name, direction="maximize")
    spaces: dict[str, Any] = {
        "optimizer": optuna.distributions.CategoricalDistribution(["AdamW", "Lion", "Prodigy", "Adafactor"]),
        "lr_scheduler": optuna.distributions.CategoricalDistribution(
            ["constant", "cosine", "cosine_with_restarts", "adafactor"]
        ),
        "learning_rate_scale": optuna.distributions.FloatDistribution(1, 16, log=True),
        "rank": optuna.distributions.CategoricalDistribution([2, 4, 8, 16]),
    }
    states = {"complete": "COMPLETE", "pruned": "PRUNED", "failed": "FAIL"}
    for record in folder.records():
        params = {k: v for k, v in record.params.items() if k in spaces}
        curve = folder.trajectory(record.number) if record.state != "failed" else Trajectory()
        study.add_trial(
            optuna.trial.create_trial(
                state=optuna.trial.TrialState[states[record.state]],
                params=params,
                distributions={k: spaces[k] for k in params},
                value=record.value if record.state == "complete" else None,
                intermediate_values={int(r.epoch): r.score for r in curve.readings if r.epoch},
            )
        )


def _reading(values: np.ndarray) -> Reading:
    half = 1.645 * float(values.std(ddof=1)) / np.sqrt(values.size)
    return Reading(float(values.mean()), float(values.mean()) - half, float(values.mean()) + half)
