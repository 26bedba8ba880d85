"""The process that workers are forked from ends with its coordinator, also while it imports."""

import subprocess
import sys
import threading

import psutil
import pytest

from search.running.with_parent import die_with_parent, ending_with_starter

_IMPORTS_FOR_LONG = """
import subprocess, sys
code = "import time; from search.running.with_parent import ending_with_starter\\nwith ending_with_starter():\\n"
code += "    print('began', flush=True)\\n    time.sleep(60)"
subprocess.run([sys.executable, "-c", code])
"""


def test_it_ends_while_it_imports_once_its_coordinator_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", _IMPORTS_FOR_LONG], stdout=subprocess.PIPE, text=True) as coordinator:
        assert coordinator.stdout is not None
        assert coordinator.stdout.readline() == "began\n"
        (server,) = psutil.Process(coordinator.pid).children()
        coordinator.kill()
        coordinator.wait()
        _, alive = psutil.wait_procs([server], timeout=10)
        assert not alive


def test_no_thread_is_left_when_it_forks() -> None:
    before = threading.active_count()
    with ending_with_starter():
        assert threading.active_count() == before + 1
    assert threading.active_count() == before
    with pytest.raises(ImportError), ending_with_starter():
        raise ImportError
    assert threading.active_count() == before


_WORKS_FOR_LONG = """
import multiprocessing, threading, time
from search.running.with_parent import die_with_parent

def work():
    threading.Thread(target=die_with_parent, daemon=True).start()
    print("began", flush=True)
    time.sleep(60)

if __name__ == "__main__":
    worker = multiprocessing.get_context("fork").Process(target=work)
    worker.start()
    worker.join()
"""


def test_a_worker_ends_with_its_coordinator_however_that_ended() -> None:
    with subprocess.Popen([sys.executable, "-c", _WORKS_FOR_LONG], stdout=subprocess.PIPE, text=True) as coordinator:
        assert coordinator.stdout is not None
        assert coordinator.stdout.readline() == "began\n"
        (worker,) = psutil.Process(coordinator.pid).children()
        _, alive = psutil.wait_procs([worker], timeout=0.5)
        assert alive, "as long as the coordinator lives"
        coordinator.kill()
        coordinator.wait()
        _, alive = psutil.wait_procs([worker], timeout=10)
        assert not alive


def test_a_process_that_nobody_forked_has_no_coordinator_to_end_with() -> None:
    die_with_parent()
