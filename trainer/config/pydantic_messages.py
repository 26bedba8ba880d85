"""What pydantic expects of a value, in the words of our own messages."""

from __future__ import annotations

import re
from typing import Any

from trainer.errors import nearest

_PYDANTIC = (
    ("^Field required$", "a value: it has no default"),
    ("greater than or equal to", "at least"),
    ("less than or equal to", "at most"),
    ("greater than", "more than"),
    (r"^a valid (boolean|bool).*", "true or false"),
    (r"^a valid integer.*", "a whole number"),
    (r"^a valid number.*", "a number"),
    (r"^a finite number", "a number that is not infinite"),
    (r"^a valid string", "text"),
    (r"^a valid (list|tuple)", "a list"),
    (r"^a valid dictionary.*", "a section of settings, one `key: value` a line"),
    (r"^\w+ should have (at (?:least|most) \d+) items? after validation.*", r"a list of \1"),
    (r"^String should have (at (?:least|most) \d+ characters?).*", r"text of \1"),
)
"""How pydantic calls what is expected, and how people do."""


def in_words(error: Any) -> str:
    """What one of pydantic's errors expects, in words; of names to choose from also the nearest to the one given.

    Args:
        error: an entry of `ValidationError.errors()`.
    """
    message = str(error["msg"]).removeprefix("Input should be ").removeprefix("Value error, ")
    for theirs, ours in _PYDANTIC:
        message = re.sub(theirs, ours, message)
    near = nearest(error["input"], re.findall(r"'([^']+)'", message)) if error["type"] == "literal_error" else ""
    return message[:1].lower() + message[1:] + near
