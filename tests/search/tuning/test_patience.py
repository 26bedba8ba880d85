"""A write whose answer was lost is looked for before it is made again."""

import pytest
from sqlalchemy.exc import OperationalError

from search.tuning.patience import Patience


def test_after_a_pause_the_other_question_is_asked() -> None:
    said, asked = list[str](), list[str]()

    def write() -> str:
        asked.append("write")
        raise OperationalError("INSERT", {}, Exception("gone"), connection_invalidated=True)

    def look() -> str:
        asked.append("look")
        return "it was written"

    assert Patience(said.append).call(write, again=look) == "it was written"
    assert asked == ["write", "look"]
    assert len(said) == 2
    with pytest.raises(OperationalError):
        Patience(None).call(write)
