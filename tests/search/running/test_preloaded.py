"""What workers import is imported once, in the process that they are forked from."""

import subprocess
import sys

import pytest

_LOADS_A_BASE = """
import sys
import search.running.preloaded
import torch
from trainer.base_model.load import load_base

before = set(sys.modules)
load_base(sys.argv[1], family="sd15", device=torch.device("cpu"), precision="fp32")
print(len(set(sys.modules) - before), torch.cuda.is_initialized())
"""


@pytest.mark.slow
def test_a_worker_finds_the_libraries_imported(tiny_sd15) -> None:
    command = [sys.executable, "-c", _LOADS_A_BASE, str(tiny_sd15)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    more, uses_gpu = done.stdout.split()
    assert int(more) < 100, "thousands without"
    assert uses_gpu == "False"
