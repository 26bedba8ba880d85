"""One thread for all of the trainer's tests: the models are tiny, and results are compared bit for bit."""

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)
