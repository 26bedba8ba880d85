"""Environment variables are set for a while, and those of the user stay."""

import os

import pytest

from search.running.environment import variables


def testvariables_that_the_user_has_set_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONSET_A", "the user's")
    monkeypatch.delenv("ONSET_B", raising=False)
    with variables({"ONSET_A": "ours", "ONSET_B": "ours"}):
        assert (os.environ["ONSET_A"], os.environ["ONSET_B"]) == ("the user's", "ours")
    assert os.environ["ONSET_A"] == "the user's"
    assert "ONSET_B" not in os.environ
