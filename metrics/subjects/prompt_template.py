"""Templates of prompts: words in braces, filled in by plain replacement. What else braces could ask for is refused."""

import re
from collections.abc import Mapping, Sequence

_PLACE = re.compile(r"\{([a-z_]+)\}")


def fill(template: str, words: Mapping[str, str]) -> str:
    """`a photo of {trigger} {class}` with its words in place, once over, without double spaces.

    Args:
        words: name to what stands for it; other braces stay as they are.

    >>> fill("a photo of {trigger} {class}", {"trigger": "", "class": "dog"})
    'a photo of dog'
    """
    filled = _PLACE.sub(lambda found: words.get(found[1], found[0]), template)
    return " ".join(filled.split())


def strange_braces(template: str, names: Sequence[str]) -> bool:
    """Whether anything but `names` stands in braces.

    >>> strange_braces("{trigger!r:>9}", ["trigger"])
    True
    """
    left = _PLACE.sub(lambda found: "" if found[1] in names else found[0], template)
    return bool(set(left) & set("{}"))
