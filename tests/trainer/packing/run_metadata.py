"""The metadata of a run of known settings."""

from dataclasses import fields
from pathlib import Path
from typing import Any

from tests.trainer.packs import pack_settings, run_settings
from trainer.data.buckets import assign_buckets
from trainer.data.dataset import scan_dataset
from trainer.families.family import Base
from trainer.packing.metadata import build_metadata
from trainer.packing.settings import FeedSettings, PackSettings

_SHARED = {field.name for field in fields(PackSettings)} - {"feed"}


def metadata(base: Base, photos: Path, **changes: Any) -> dict[str, str]:
    """That of a run of rank 4 at epoch 3, but for `changes` to its settings and to what the pack tells of it."""
    dataset = scan_dataset(photos)
    sizes = assign_buckets(dataset.photos, resolution=(64, 64))
    feed = {"resolution": (64, 64), "batch_size": 2, "seed": 7}
    names = {field.name for field in fields(FeedSettings)}
    feed |= {name: changes.pop(name) for name in list(changes) if name in names}
    told = {"output_name": "toy", "epoch": 3, "steps": 24, "steps_per_epoch": 8, "processes": 1, "batches": 8}
    told |= {name: changes.pop(name) for name in list(changes) if name in told}
    of_all = {name: changes.pop(name) for name in list(changes) if name in _SHARED}
    return build_metadata(
        base,
        dataset,
        sizes,
        pack_settings(**feed, **of_all),
        run_settings(**({"rank": 4, "alpha": 2.0} | changes)),
        **told,
        started_at=1_700_000_000.0,
    )
