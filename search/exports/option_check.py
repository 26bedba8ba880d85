"""What we write for sd-scripts and the kohya_ss GUI, held against their own lists of options (the two JSON files here).

sd-scripts takes an unknown key in config.toml without a word, so nobody else would notice.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from search.errors import SearchError, problem

OPTIONS_FILE = Path(__file__).with_name("sdscripts_options.json")
GUI_OPTIONS_FILE = Path(__file__).with_name("kohya_gui_options.json")


def check_sdscripts(config: Mapping[str, Any], dataset: Mapping[str, Any]) -> None:
    """Raises SearchError when a key or value of the two files is not one that sd-scripts knows."""
    options = json.loads(OPTIONS_FILE.read_text(encoding="utf-8"))
    _check_all("config.toml", config, options["config"])
    for key, allowed in options["choices"].items():
        if key in config and config[key] not in allowed:
            raise SearchError(problem("config.toml", key, config[key], f"one of {', '.join(allowed)}"))
    _check_all("dataset.toml: general", dataset.get("general", {}), options["general"])
    for one in dataset["datasets"]:
        _check_all("dataset.toml: datasets", {k: v for k, v in one.items() if k != "subsets"}, options["dataset"])
        for subset in one["subsets"]:
            _check_all("dataset.toml: subsets", subset, options["subset"])


def _check_all(where: str, values: Mapping[str, Any], known: Mapping[str, str]) -> None:
    for key, value in values.items():
        if key not in known:
            raise SearchError(problem(where, key, value, "an option that sd-scripts has"))
        if not _fits(value, known[key]):
            article = "an" if known[key] == "int" else "a"
            raise SearchError(problem(where, key, value, f"{article} {known[key]}, as sd-scripts reads it"))


def _fits(value: Any, kind: str) -> bool:
    if kind == "resolution":
        return _fits(value, "int") or (
            isinstance(value, list) and len(value) == 2 and all(_fits(v, "int") for v in value)
        )
    if kind in ("int", "float"):
        return isinstance(value, int if kind == "int" else int | float) and not isinstance(value, bool)
    return isinstance(value, {"bool": bool, "str": str, "list": list}[kind])
