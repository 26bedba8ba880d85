"""The dashboard command: real optuna-dashboard, on this machine only, with the study's artifacts behind it."""

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator

import optuna
import pytest
from optuna.artifacts import get_all_artifact_meta

from search.dashboard import _counting, _is_loopback, _only_for_this_machine, _open_storage, main, serve
from search.errors import StudyError
from search.record.record import StudyFolder
from search.verdict.artifacts import open_store, publish_verdict
from search.verdict.verdict import Verdict
from tests.messages import refusal
from tests.serving import serving


@pytest.fixture(scope="module")
def served(finished_study: StudyFolder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple]:
    folder = StudyFolder(tmp_path_factory.mktemp("dashboard") / "runs" / "toy")
    shutil.copytree(finished_study.path, folder.path)
    study = optuna.load_study(study_name="toy", storage=f"sqlite:///{folder.database}")
    publish_verdict(study, folder, Verdict.load(folder.verdict_file), open_store(folder))
    server = serve(folder)
    with serving(server):
        yield folder, study, server


def _get(server, path: str) -> bytes:
    with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}{path}", timeout=30) as answer:
        return answer.read()


def test_the_page_and_the_study_are_there(served):
    _, study, server = served
    assert b"<title>" in _get(server, "/dashboard/")
    summary = json.loads(_get(server, "/api/studies"))["study_summaries"][0]
    assert summary["study_name"] == "toy"
    detail = json.loads(_get(server, f"/api/studies/{summary['study_id']}"))
    assert len(detail["trials"]) == len(study.trials)
    assert detail["note"]["body"].startswith("# Ship epoch")


def test_the_contact_sheet_comes_out_as_it_went_in(served):
    folder, study, server = served
    sheet = next(m for m in get_all_artifact_meta(study) if m.filename == "best-0002-sheet.png")
    assert _get(server, f"/artifacts/1/{sheet.artifact_id}") == (folder.best_folder / "sheet.png").read_bytes()


def test_it_listens_on_this_machine_only(served):
    assert served[2].server_address[0] == "127.0.0.1"


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({}, True),
        ({"Host": "localhost:{port}"}, True),
        ({"Host": "[::1]:{port}"}, True),
        ({"Host": "127.0.0.1:9"}, True),  # through a tunnel from another machine
        ({"Host": "rebound.example:{port}"}, False),
        ({"Host": "127.0.0.1.rebound.example"}, False),
        ({"Host": "localhost@rebound.example"}, False),
        ({"Host": "[127.0.0.1"}, False),
        ({"Host": ""}, False),
        ({"Origin": "http://localhost:{port}"}, True),
        ({"Origin": "https://rebound.example"}, False),
        ({"Origin": "null"}, False),
    ],
)
def test_pages_of_other_hosts_cannot_reach_it(served, headers: dict[str, str], allowed: bool):
    _, study, server = served
    port = server.server_port
    request = urllib.request.Request(f"http://127.0.0.1:{port}/api/studies/{study._study_id}", method="DELETE")
    if allowed:
        request.method = "GET"
    for name, value in headers.items():
        request.add_header(name, value.format(port=port))
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            status = answer.status
    except urllib.error.HTTPError as error:
        status = error.code
    assert status == (200 if allowed else 403)
    assert json.loads(_get(server, "/api/studies"))["study_summaries"], "the study was deleted"


def test_one_slow_reader_does_not_hold_the_others(served):
    import socket

    server = served[2]
    with socket.create_connection(("127.0.0.1", server.server_port)) as idle:
        idle.sendall(b"GET /api/studies HTTP/1.1\r\n")  # never finishes its request
        assert b"study_summaries" in _get(server, "/api/studies")  # one server for all would wait until it gives up


def test_a_study_that_has_not_run_is_refused_in_one_line(tmp_path, capsys):
    (tmp_path / "new.yaml").write_text("study: new\n")
    assert main([str(tmp_path / "new.yaml"), "--runs", str(tmp_path / "runs")]) == 2
    error = capsys.readouterr().err.strip()
    assert "\n" not in error
    assert "python -m search.run" in error


def test_a_missing_study_file_is_refused_in_one_line(tmp_path, capsys):
    assert main([str(tmp_path / "absent.yaml")]) == 2
    error = capsys.readouterr().err.strip()
    assert "\n" not in error
    assert "absent.yaml" in error


def test_a_taken_port_is_a_failure_not_a_traceback(served, capsys):
    folder, _, server = served
    assert main([str(folder.path), "--port", str(server.server_port)]) == 1
    error = capsys.readouterr().err
    assert re.search(refusal("--port", server.server_port, "a port that is free") + ": the port is taken", error)
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    "url",
    [
        "nonsense",
        "foo://bar",
        "oracle://host/name",
        "sqlite:////nowhere/at/all.db",
        "postgresql://me:secret@127.0.0.1:port/name",
    ],
)
def test_a_storage_that_cannot_be_opened_is_refused_in_one_line(served, capsys, url: str):
    assert main([str(served[0].path), "--port", "0", "--storage", url]) == 2
    error = capsys.readouterr().err.strip()
    assert "\n" not in error
    assert "--storage" in error
    assert "secret" not in error


@pytest.mark.parametrize("kind", ["text", "short text", "another program's", "not there", "folder", "pipe"])
def test_what_is_no_storage_is_not_made_one(served, tmp_path, capsys, kind: str):
    file = tmp_path / "notes.txt"
    if kind == "another program's":
        with sqlite3.connect(file) as database:
            database.execute("CREATE TABLE bookmarks (url TEXT)")
        database.close()
    elif kind == "folder":
        file.mkdir()
    elif kind == "pipe":
        os.mkfifo(file)
    elif kind != "not there":
        file.write_text("buy bread\n" * (1 if kind == "short text" else 1000))
    before = file.read_bytes() if file.is_file() else None
    assert main([str(served[0].path), "--port", "0", "--storage", f"sqlite:///{file}"]) == 2
    error = capsys.readouterr().err.strip()
    assert "\n" not in error
    assert "notes.txt" in error
    assert [path.name for path in tmp_path.iterdir()] == ([] if kind == "not there" else ["notes.txt"])
    assert (file.read_bytes() if file.is_file() else None) == before


def test_a_study_database_that_is_text_is_left_as_it_is(served, tmp_path, capsys):
    database = tmp_path / "toy" / "study.db"
    shutil.copytree(served[0].path, database.parent)
    database.write_text("buy bread")
    assert main([str(database.parent), "--port", "0"]) == 1
    assert "study.db is damaged, or no database" in capsys.readouterr().err
    assert database.read_text() == "buy bread"


@pytest.mark.parametrize("module", ["search.dashboard", "search.export"])
def test_help_shows_an_example_and_loads_nothing_heavy(module):
    script = (
        f"import sys, runpy; sys.argv = ['x', '--help']\n"
        f"try: runpy.run_module('{module}', run_name='__main__')\n"
        "except SystemExit as done: code = done.code\n"
        "heavy = {'torch', 'optuna', 'pandas', 'scipy', 'matplotlib', 'PIL'} & set(sys.modules)\n"
        "assert code == 0 and not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"example:\n  python -m {module} studies/demo.yaml" in done.stdout


@pytest.mark.parametrize(
    ("host", "ours"),
    [
        ("127.0.0.1", True), ("127.0.0.1:8080", True), ("localhost:8080", True), ("LOCALHOST", True),
        ("[::1]:8080", True), ("127.0.0.2", False), ("example.org", False), ("127.0.0.1.example.org", False),
        ("", False), ("[::1", False),
        ("user@127.0.0.1", True), ("127.0.0.1@example.org", False),
    ],
)  # fmt: skip
def test_names_of_this_machine(host: str, ours: bool) -> None:
    assert _is_loopback(host) is ours


@pytest.mark.parametrize(
    ("environment", "passed"),
    [
        ({"HTTP_HOST": "localhost:8080"}, True),
        ({"HTTP_HOST": "localhost:8080", "HTTP_ORIGIN": "http://localhost:8080"}, True),
        ({"HTTP_HOST": "localhost:8080", "HTTP_ORIGIN": "http://example.org"}, False),
        ({"HTTP_HOST": "example.org", "HTTP_ORIGIN": "http://localhost:8080"}, False),
        ({"HTTP_HOST": "localhost", "HTTP_ORIGIN": "null"}, False),
        ({}, False),
    ],
)
def test_only_requests_under_names_of_this_machine_are_passed_on(environment, passed: bool) -> None:
    said: list[tuple[str, list[tuple[str, str]]]] = []
    seen: list[object] = []

    def application(environ, start_response):
        seen.append(environ)
        return [b"the page"]

    body = _only_for_this_machine(application)(environment, lambda status, headers: said.append((status, headers)))
    if passed:
        assert (body, seen, said) == ([b"the page"], [environment], [])
    else:
        assert seen == []
        assert said == [("403 Forbidden", [("Content-Type", "text/plain; charset=utf-8")])]
        assert b"http://127.0.0.1" in b"".join(body)


@pytest.mark.parametrize(
    ("path", "method", "counted"),
    [
        ("/api/studies/1/preference", "POST", True),
        ("/api/studies/1/preference", "GET", False),
        ("/api/studies/1/trials", "POST", False),
        ("/api/studies/1/preference/2", "PUT", True),
    ],
)
def test_votes_are_counted_after_they_are_given(tmp_path, monkeypatch, path: str, method: str, counted: bool) -> None:
    done: list[object] = []

    def application(environ, start_response):
        done.append("answered")
        return [b"ok"]

    def count(folder, url):
        done.append((folder, url))
        raise OSError("a copy that cannot be written to")

    monkeypatch.setattr("search.dashboard._count", count)
    folder = StudyFolder(tmp_path)
    counting = _counting(application, folder, "sqlite://")
    assert counting({"PATH_INFO": path, "REQUEST_METHOD": method}, None) == [b"ok"]
    assert done == ["answered", *([(folder, "sqlite://")] if counted else [])]


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("sqlite:////nowhere/study.db", "there is no such file"),
        ("postgresql+nodriver://me:secret@host/db", "got "),
        ("not a url", "expected a storage that holds studies"),
    ],
)
def test_a_password_is_never_told(url: str, told: str) -> None:
    with pytest.raises(StudyError) as caught:
        _open_storage(url)
    assert told in str(caught.value)
    assert "secret" not in str(caught.value)
    assert ("://***@" in str(caught.value)) == ("secret" in url)


def test_a_database_without_studies_gets_no_tables(tmp_path) -> None:
    file = tmp_path / "other.db"
    with sqlite3.connect(file) as opened:
        opened.execute("CREATE TABLE photos (name)")
    with pytest.raises(StudyError, match="there are none in it"):
        _open_storage(f"sqlite:///{file}")
    with sqlite3.connect(file) as opened:
        assert opened.execute("SELECT name FROM sqlite_master").fetchall() == [("photos",)]
