"""The demo study, cut short."""

from pathlib import Path
from typing import Any

import yaml

from tests.search.study_processes import STUDIES


def cut_short(score: dict[str, Any], *, contexts: int, steps: int, composites: int) -> None:
    """Of the demo's score: one image for each of a few prompts, few levels and moved subjects, a short critic."""
    score |= {"encoder": str(STUDIES / score["encoder"]), "holdout": 4}
    score["probe"] |= {"seeds": 1, "steps": steps, "trained": 1, "heldout": 1}
    score["probe"]["contexts"] = score["probe"]["contexts"][:contexts]
    score["critic"] |= {"steps": 8, "levels": 2}
    score["losses"] |= {"levels": 2, "draws": 1}
    score["shifted"] |= {"composites": composites, "levels": 2}


def short_demo(folder: Path, **changes: Any) -> Path:
    """The demo study with three trials of four epochs and a small probe, on the GPU."""
    values: dict[str, Any] = yaml.safe_load((STUDIES / "demo.yaml").read_text())
    for key in ("base", "data"):
        values[key] = str(STUDIES / values[key])
    values["train"] |= {"epochs": 4, "save_every_n_epochs": 1}
    values["search"]["epochs"]["values"] = [3, 4]
    del values["sampler"]  # what it starts with has other epochs
    cut_short(values["score"], contexts=2, steps=3, composites=8)
    values["budget"] = {"trials": 3, "startup_trials": 2}
    values["workers"] = {"count": 2, "threads": 1, "device": "cuda"}
    values |= {"stop": {"onset": False, "prune": False}, "keep": {}, **changes}
    path = folder / "demo.yaml"
    path.write_text(yaml.safe_dump(values))
    return path
