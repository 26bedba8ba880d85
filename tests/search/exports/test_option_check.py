"""No key or value reaches sd-scripts' two files that it does not know."""

import json
from copy import deepcopy
from typing import Any

import pytest

from search.errors import SearchError
from search.exports.option_check import OPTIONS_FILE, check_sdscripts

OPTIONS: dict[str, Any] = json.loads(OPTIONS_FILE.read_text(encoding="utf-8"))
CONFIG: dict[str, Any] = {"max_train_epochs": 3}
DATASET: dict[str, Any] = {
    "general": {"caption_extension": ".txt"},
    "datasets": [{"resolution": [512, 768], "subsets": [{"num_repeats": 2}]}],
}


def test_what_it_knows_passes() -> None:
    check_sdscripts(CONFIG, DATASET)


@pytest.mark.parametrize(
    ("where", "path"),
    [
        ("dataset.toml: general", ["general"]),
        ("dataset.toml: datasets", ["datasets", 0]),
        ("dataset.toml: subsets", ["datasets", 0, "subsets", 0]),
    ],
)
def test_an_unknown_key_is_named_with_its_section(where: str, path: list[Any]) -> None:
    dataset = deepcopy(DATASET)
    section: Any = dataset
    for step in path:
        section = section[step]
    section["none_such"] = 1
    with pytest.raises(SearchError, match=f"{where}: none_such: expected an option that sd-scripts has"):
        check_sdscripts(CONFIG, dataset)


def test_a_key_or_a_value_of_the_config_is_named() -> None:
    with pytest.raises(SearchError, match=r"config.toml: none_such"):
        check_sdscripts({"none_such": 1}, DATASET)
    with pytest.raises(SearchError, match=r"config.toml: max_train_epochs: expected an int"):
        check_sdscripts({"max_train_epochs": "3"}, DATASET)
    key, allowed = next((key, allowed) for key, allowed in OPTIONS["choices"].items())
    with pytest.raises(SearchError, match=f"config.toml: {key}: expected one of {allowed[0]}"):
        check_sdscripts({key: "none such"}, DATASET)
