"""Values as other trainers write them, read as they are meant."""

from typing import Any

import pytest

from trainer.config.meant_values import as_meant


@pytest.mark.parametrize(
    ("field", "written", "meant"),
    [
        ("resolution", "512,768", (512, 768)),
        ("resolution", "768", 768),
        ("resolution", "large", "large"),
        ("resolution", 512, 512),
        ("trigger", "512,768", "512,768"),
        ("class_word", "768", "768"),
    ],
)
def test_only_a_resolution_is_read_as_one(field: str, written: Any, meant: Any) -> None:
    found = as_meant(field, written, [])
    assert found == meant
    assert type(found) is type(meant)
