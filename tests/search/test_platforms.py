"""What of Windows can be tried elsewhere: processes that are spawned, no fcntl, its rules for flushing files."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from search.record.record import StudyFolder
from tests.search.recovery.real_studies import STUDIES, real_values

_AS_ON_WINDOWS = """
import fcntl
import multiprocessing
import os
import stat
import sys

_open, _fsync, _flags = os.open, os.fsync, fcntl.fcntl


def open_no_folder(path, flags, *args, **kwargs):
    if isinstance(path, (str, bytes, os.PathLike)) and os.path.isdir(path):
        raise PermissionError(13, "Permission denied", str(path))
    return _open(path, flags, *args, **kwargs)


def flush_what_is_written(descriptor):
    number = descriptor if isinstance(descriptor, int) else descriptor.fileno()
    if not _flags(number, 3) & (os.O_WRONLY | os.O_RDWR):  # F_GETFL
        raise OSError(9, "Bad file descriptor")
    return _fsync(descriptor)


os.open, os.fsync = open_no_folder, flush_what_is_written
multiprocessing.get_all_start_methods = lambda: ["spawn"]
sys.modules["fcntl"] = None
"""


@pytest.mark.slow
def test_a_study_runs_and_goes_on_under_the_rules_of_windows(tmp_path: Path) -> None:
    import yaml

    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(_AS_ON_WINDOWS)
    values = real_values() | {"study": "mini"}
    values["train"]["epochs"] = 2
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": f"{tmp_path / 'site'}{os.pathsep}{STUDIES.parent}",
    }
    for trials in (1, 2):
        file = tmp_path / "mini.yaml"
        file.write_text(yaml.safe_dump(values | {"budget": {"trials": trials}}))
        done = subprocess.run(
            [sys.executable, "-m", "search.run", str(file), "--runs", str(tmp_path / "runs")],
            capture_output=True,
            text=True,
            env=environment,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"({trials}/{trials})" in done.stdout
    folder = StudyFolder(tmp_path / "runs" / "mini")
    assert [record.state for record in folder.records()] == ["complete", "complete"]
