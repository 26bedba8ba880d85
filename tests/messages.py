"""Parts of the one form in which a wrong input is told, for tests that pin parts and no sentences."""

import re


def refusal(key: str, got: object, expected: str = "", file: object = "") -> str:
    """A pattern of `file: key: expected …, got …`, for `pytest.raises(match=…)` and `re.search`.

    Args:
        got: a string as it stands in the message without quotes, any other value as Python writes it.
        expected: words that stand somewhere in what is expected.
        file: what the line has before the key; "" for anything.
    """
    before = f"{re.escape(str(file))}: " if file else r"(^|: )"
    given = re.escape(got) if isinstance(got, str) else re.escape(repr(got))
    return rf"{before}{re.escape(key)}: expected [^\n]*{re.escape(expected)}[^\n]*, got '?{given}"
