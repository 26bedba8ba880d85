"""The studies that are killed, by kind: small ones whose numbers the product promises to be the same each time.

What is promised hangs on no order of arrival, so several workers and TPE, pruning and onsets take part.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests import tiny
from tests.search.conftest import study_writer

_SEARCH = {
    "lr_scheduler": {"values": ["constant", "cosine"]},
    "epochs": {"values": [10, 14], "when": {"lr_scheduler": "cosine"}},
    "learning_rate_scale": {"min": 0.5, "max": 16, "log": True},
    "rank": {"values": [2, 4, 8, 12]},
}
_STANDING_IN: dict[str, Any] = {
    "train": {"resolution": 64, "save_every_n_epochs": 2, "epochs": 20},
    "search": _SEARCH,
    "budget": {"trials": 5, "startup_trials": 3},
}
_TRAINED: dict[str, Any] = {
    "train": {"resolution": 64, "epochs": 4, "steps_per_epoch": 2, "save_every_n_epochs": 1, "batch_size": 4},
    "search": {
        "lr_scheduler": {"values": ["constant", "cosine"]},
        "epochs": {"values": [3, 4], "when": {"lr_scheduler": "cosine"}},
        "rank": {"values": [4, 8]},
        "optimizer": {"values": ["AdamW", "Lion"]},
    },
    "score": {
        "probe": {"seeds": 1, "steps": 1, "trained": 1, "heldout": 1, "contexts": ["{trigger} {class}, snow"]},
        "losses": {"levels": 1, "draws": 1},
        "shifted": {"composites": 0},
    },
    "stop": {"onset": False, "prune": False},
    "budget": {"trials": 4, "startup_trials": 3},
}
_HERE = {"coordinator": 0.3, "worker": 0.5, "server": 0.05, "all": 0.15}


@dataclass(frozen=True)
class Kind:
    """One kind of study to be killed.

    Attributes:
        share: of all kills.
        victims: what is killed, and how often. server: the process that starts workers; all: coordinator and workers
            at the same moment, as when a machine loses power; node: of the Ray cluster.
        module: the command. It has workers that train nothing, unless it is `search.run` itself.
        sooner: by which the next kills of a study come sooner than the first, which is anywhere in it: else most
            studies would have ended by then.
    """

    name: str
    share: float
    workers: Mapping[str, Any]
    victims: Mapping[str, float] = field(default_factory=lambda: _HERE)
    values: Mapping[str, Any] = field(default_factory=lambda: _STANDING_IN)
    module: str = "tests.chaos.sitting"
    sooner: float = 3.0

    def write(self, home: Path, bases: Path, address: str | None = None) -> Path:
        """The study's file in `home`, which may be there; `bases`: see `make_bases`; `address`: of the Ray cluster."""
        file = home / "study.yaml"
        values, workers = dict(self.values), dict(self.workers)
        score = {"encoder": str(bases / "clip"), "holdout": 2, **values.pop("score", {})}
        if address is not None:
            workers["ray"] = {"address": address, "cpus": 0.5}
        changes = {"base": str(bases / "base"), "score": score, "workers": workers, **values}
        if file.is_file():  # the cluster may be another one now
            file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | changes, sort_keys=False))
            return file
        home.mkdir(parents=True, exist_ok=True)
        return study_writer(home)(**changes)


_ONE = {"threads": 1, "device": "cpu"}
KINDS = {
    kind.name: kind
    for kind in (
        Kind("local", 0.5, {"count": 3, **_ONE}),
        Kind("packed", 0.2, {"count": 1, "pack": 3, **_ONE}),
        Kind("trained", 0.08, {"count": 1, **_ONE}, values=_TRAINED, module="search.run", sooner=1.0),
        Kind("trained-packed", 0.07, {"count": 1, "pack": 3, **_ONE}, values=_TRAINED, module="search.run", sooner=1.0),
        Kind("ray", 0.15, {"kind": "ray", "count": 2}, {"coordinator": 0.3, "worker": 0.35, "node": 0.35}),
    )
}


def make_bases(folder: Path) -> Path:
    """A tiny base and encoder for all studies; returns the folder."""
    if not (folder / "clip").is_dir():
        tiny.make_sd15(folder / "base")
        tiny.make_clip(folder / "clip")
    return folder
