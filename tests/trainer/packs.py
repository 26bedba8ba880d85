"""Packs, runs and adapters from flat names, as tests like to write them: `join(pack, run_dir=…, rank=4, epochs=3)`."""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from trainer.data.dataset import Dataset
from trainer.families.family import Base
from trainer.lora.lora import Adapters, AdapterSettings
from trainer.lora.lora import create_adapters as create
from trainer.optimization.optimizers import OptimizerSettings
from trainer.optimization.schedules import ScheduleSettings
from trainer.packing.pack import Pack
from trainer.packing.settings import FeedSettings, LossSettings, OutputSettings, PackSettings, RunSettings
from trainer.packing.training_run import Run


def pack_settings(**named: Any) -> PackSettings:
    """Names of PackSettings and FeedSettings."""
    feed, rest = _taken(FeedSettings, named)
    return PackSettings(FeedSettings(**feed), **rest)


def adapter_settings(*, rank: int = 16, alpha: float | None = None, **named: Any) -> AdapterSettings:
    """An alpha left out is the rank, that of convolutions theirs."""
    if named.get("conv_rank") is not None:
        named.setdefault("conv_alpha", float(named["conv_rank"]))
    return AdapterSettings(rank, float(alpha or rank), **named)


def run_settings(**named: Any) -> RunSettings:
    """Names of all that RunSettings holds."""
    adapter, named = _taken(AdapterSettings, named)
    optimizer, named = _taken(OptimizerSettings, named)
    schedule, named = _taken(ScheduleSettings, named)
    loss, named = _taken(LossSettings, named)
    return RunSettings(
        adapter_settings(**adapter),
        OptimizerSettings(**optimizer),
        ScheduleSettings(**schedule),
        LossSettings(**loss),
        OutputSettings(**named),
    )


def new_pack(base: Base, dataset: Dataset, **named: Any) -> Pack:
    """A pack; names are those of its settings and of its own arguments."""
    own = {name: named.pop(name) for name in ("cache", "cache_dir", "width", "max_rank", "crew") if name in named}
    return Pack(base, dataset, pack_settings(**named), **own)


def join(pack: Pack, *, run_dir: Path, start_from: Path | None = None, seat: int | None = None, **named: Any) -> Run:
    """A run that joins the pack."""
    return pack.join(run_settings(**named), run_dir=run_dir, start_from=start_from, seat=seat)


def create_adapters(base: Base, *, train_text_encoder: bool = False, seed: int = 0, **named: Any) -> Adapters:
    """Fresh adapters."""
    return create(base, adapter_settings(**named), train_text_encoder=train_text_encoder, seed=seed)


def _taken(kind: type, named: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """(what `kind` has a field for, the rest)"""
    names = {field.name for field in fields(kind)}
    return {k: v for k, v in named.items() if k in names}, {k: v for k, v in named.items() if k not in names}
