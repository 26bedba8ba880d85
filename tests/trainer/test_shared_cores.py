"""Torch's threads wait for each other only briefly, so that other programs on the same cores get on."""

import os
import subprocess
import sys

import pytest

_READ = "import {}, os; print(os.environ.get('GOMP_SPINCOUNT'), os.environ.get('OMP_WAIT_POLICY'))"


def told(package: str, **chosen: str) -> str:
    """What a process that has imported this package finds, where a user has chosen that."""
    kept = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    done = subprocess.run(
        [sys.executable, "-c", _READ.format(package)], env=kept | chosen, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.mark.parametrize("package", ["trainer", "metrics"])
@pytest.mark.parametrize(
    ("chosen", "found"),
    [
        ({}, "10000 None"),
        ({"GOMP_SPINCOUNT": "7"}, "7 None"),
        ({"OMP_WAIT_POLICY": "active"}, "None active"),
    ],
)
def test_threads_wait_briefly_unless_the_user_says_how_long(package: str, chosen: dict[str, str], found: str) -> None:
    assert told(package, **chosen) == found


@pytest.mark.parametrize("package", ["trainer", "metrics"])
def test_it_is_set_before_torch_is_loaded(package: str) -> None:
    code = f"import sys, {package}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
