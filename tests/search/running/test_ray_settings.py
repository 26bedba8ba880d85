"""`workers.kind: ray`: what a study file may say of it, and what is refused before anything is loaded or written."""

import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from search.errors import StudyError
from search.running.placing import place_of
from search.study.study import load_study
from tests.messages import refusal
from tests.search.conftest import StudyWriter


@pytest.mark.parametrize(
    ("workers", "key"),
    [
        ({"ray": {"gpus": 1}}, "workers.ray.gpus"),
        ({"kind": "local", "ray": {"address": "auto"}}, "workers.ray.address"),
        ({"kind": "ray", "ray": {"gpus": 1.5}}, "workers.ray.gpus"),
        ({"kind": "ray", "ray": {"gpus": -1}}, "workers.ray.gpus"),
        ({"kind": "ray", "ray": {"cpus": 0}}, "workers.ray.cpus"),
        ({"kind": "ray", "ray": {"address": "ray://head:10001"}}, "workers.ray.address"),
        ({"kind": "ray", "ray": {"nodes": 2}}, "workers.ray.nodes"),
        ({"kind": "ray", "device": "cuda:1"}, "workers.device"),
        ({"kind": "slrum"}, "workers.kind"),
    ],
)
def test_what_does_not_go_together_is_refused(write_study: StudyWriter, workers: dict[str, Any], key: str) -> None:
    with pytest.raises(StudyError, match=rf"study\.yaml: {key}: "):
        load_study(write_study(workers=workers))


def test_the_same_study_may_go_on_with_workers_elsewhere(write_study: StudyWriter) -> None:
    local = load_study(write_study(workers={"count": 2}))
    ray = load_study(write_study(workers={"kind": "ray", "count": 3, "ray": {"gpus": 0.5, "cpus": 4}}))
    assert ray.digest == local.digest


def test_a_worker_takes_as_many_threads_as_it_has_cpus(write_study: StudyWriter) -> None:
    def threads(**workers: Any) -> int:
        return load_study(write_study(workers=workers)).workers.threads_of_each(16)

    assert threads(count=4) == 4
    assert threads(kind="ray", count=4) == 4
    assert threads(kind="ray", count=4, ray={"cpus": 8}) == 8
    assert threads(kind="ray", count=4, ray={"cpus": 0.5}) == 1
    assert threads(kind="ray", count=4, threads=2, ray={"cpus": 8}) == 2


def test_ray_that_is_not_installed_is_told_with_its_extra(write_study: StudyWriter, monkeypatch) -> None:
    study = load_study(write_study(workers={"kind": "ray"}))
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(StudyError, match=refusal("workers.kind", "ray") + r".*\.\[ray\]"), place_of(study):
        raise AssertionError


@pytest.mark.parametrize("who", ["nobody", "somebody else"])
def test_an_address_where_no_cluster_answers_is_told_before_anything_is_loaded(
    write_study: StudyWriter, tmp_path: Path, who: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        if who == "nobody":
            server.close()
        write_study(workers={"kind": "ray", "ray": {"address": address}})
        code = (
            "import sys; from search.run import main; from search.running import ray_cluster; "
            "ray_cluster._ANSWERS_SECONDS = 0.3; code = main(sys.argv[1:]); "
            "print([name for name in ('torch', 'ray') if name in sys.modules]); sys.exit(code)"
        )
        command = [sys.executable, "-c", code, "study.yaml"]
        ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 2, ended.stderr
    (line,) = ended.stderr.strip().splitlines()
    assert re.search(refusal("workers.ray.address", address, "answers", "study.yaml"), line.removeprefix("error: "))
    assert ended.stdout.strip() == "[]"
    assert not (tmp_path / "runs").exists()
