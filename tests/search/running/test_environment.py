"""Environment variables are set for a while, and those of the user stay; whether there may be a GPU."""

import ctypes
import os

import pytest
import torch

from search.running.environment import may_have_gpu, variables


def testvariables_that_the_user_has_set_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONSET_A", "the user's")
    monkeypatch.delenv("ONSET_B", raising=False)
    with variables({"ONSET_A": "ours", "ONSET_B": "ours"}):
        assert (os.environ["ONSET_A"], os.environ["ONSET_B"]) == ("the user's", "ours")
    assert os.environ["ONSET_A"] == "the user's"
    assert "ONSET_B" not in os.environ


@pytest.mark.parametrize(
    ("hip", "driver", "found"), [(None, False, False), (None, True, True), ("6.0", False, True), ("6.0", True, True)]
)
def test_there_may_be_a_gpu_where_a_driver_is_or_torch_is_one_for_amd(
    monkeypatch: pytest.MonkeyPatch, hip: str | None, driver: bool, found: bool
) -> None:
    def load(name: str) -> str:
        assert name == "libcuda.so.1"
        if not driver:
            raise OSError(f"{name}: cannot open shared object file")
        return "the driver"

    monkeypatch.setattr(torch.version, "hip", hip)
    monkeypatch.setattr(ctypes, "CDLL", load)
    assert may_have_gpu() == found
