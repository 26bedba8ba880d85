"""Where a study's trials are kept: the address of a server, told wrong before anything is loaded."""

import subprocess
import sys
from pathlib import Path

import pytest

from search.errors import StudyError
from search.record.record import StudyFolder
from search.study.server import (
    VARIABLE,
    Kept,
    Server,
    check_same_place,
    check_server,
    known_server,
    without_password,
)
from search.study.study import load_study
from tests.search.conftest import StudyWriter

ADDRESS = "postgresql+psycopg://me:secret@127.0.0.1:1/studies"


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    made = StudyFolder(tmp_path / "runs" / "small")
    made.path.mkdir(parents=True)
    return made


def test_it_is_named_by_the_file_or_else_by_the_environment(write_study: StudyWriter, monkeypatch) -> None:
    assert load_study(write_study()).server is None
    monkeypatch.setenv(VARIABLE, "postgresql://elsewhere/all")
    assert load_study(write_study()).server == Server("postgresql+psycopg://elsewhere/all", VARIABLE)
    path = write_study(storage=ADDRESS)
    study = load_study(path)
    assert study.server == Server(ADDRESS, str(path), "storage")
    assert study.digest == load_study(write_study()).digest  # it may change


@pytest.mark.parametrize(
    "value",
    ["sqlite:///study.db", "postgresql+psycopg://", "postgres://host/name", "host/name", "mysql://host/x", 5, "",
     "postgresql+psycopg://host", "postgresql+psycopg://host/a b"],
)  # fmt: skip
def test_what_is_no_address_is_refused(write_study: StudyWriter, value: object) -> None:
    with pytest.raises(StudyError, match=r"study\.yaml: storage: expected the address of a PostgreSQL database"):
        load_study(write_study(storage=value))


def test_one_of_the_environment_is_told_by_its_name(write_study: StudyWriter, monkeypatch) -> None:
    monkeypatch.setenv(VARIABLE, "me:secret@host")
    with pytest.raises(StudyError, match=rf"^{VARIABLE}: expected the address of a PostgreSQL database"):
        load_study(write_study())


def test_passwords_are_shown_to_nobody(write_study: StudyWriter) -> None:
    assert without_password(ADDRESS) == "postgresql+psycopg://me@127.0.0.1:1/studies"
    assert without_password("postgresql://h/n?user=a&password=b&x=c") == "postgresql://h/n?user=a&password=***&x=c"
    with pytest.raises(StudyError) as refused:
        load_study(write_study(storage="postgresq://me:secret@host/n"))
    assert "secret" not in str(refused.value)


def test_a_server_that_does_not_answer_is_refused(write_study: StudyWriter) -> None:
    server = load_study(write_study(storage=ADDRESS)).server
    assert server is not None
    with pytest.raises(StudyError, match=r"study\.yaml: storage: expected a server that answers") as refused:
        check_server(server)
    assert len(str(refused.value).splitlines()) == 1
    assert "secret" not in str(refused.value)


def test_without_its_extra_it_says_what_to_install(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(StudyError, match=r"pip install 'psycopg\[binary\]'"):
        check_server(Server(ADDRESS, VARIABLE))


def test_the_command_ends_with_2_before_anything_is_loaded(write_study: StudyWriter, tmp_path: Path) -> None:
    path = write_study(storage=ADDRESS)
    code = f"import sys, search.run; code = search.run.main([{str(path)!r}]); print(code, *sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    said, *loaded = ended.stdout.split()
    assert said == "2"
    assert not {"torch", "optuna", "sqlalchemy"} & set(loaded)
    assert ended.stderr.startswith("error: ")
    assert not (tmp_path / "runs").exists()


def test_a_study_stays_where_it_began(folder: StudyFolder, monkeypatch) -> None:
    by_file, ambient = Server(ADDRESS, "study.yaml", "storage"), Server(ADDRESS, VARIABLE)
    assert check_same_place(ambient, folder) == ambient
    folder.database.touch()
    assert check_same_place(ambient, folder) is None  # meant for new studies
    with pytest.raises(StudyError, match=r"this study has begun in .*study\.db"):
        check_same_place(by_file, folder)
    folder.database.unlink()
    Kept("1", by_file.shown).save(folder)
    with pytest.raises(StudyError, match=r"me@127\.0\.0\.1:1/studies, where this study has begun.*ONSET_STORAGE"):
        check_same_place(None, folder)
    with pytest.raises(StudyError, match="where this study has begun"):
        known_server(folder)  # for those who only look
    monkeypatch.setenv(VARIABLE, ADDRESS)
    assert known_server(folder) == ambient
    folder.study_file.write_text("storage: postgresql://host/name\n")
    assert known_server(folder) == Server("postgresql+psycopg://host/name", str(folder.study_file), "storage")


@pytest.mark.parametrize(
    ("server", "start"),
    [
        (Server(ADDRESS, VARIABLE), f"{VARIABLE}: "),
        (Server(ADDRESS, "a/study.yaml", "storage"), "a/study.yaml: storage: "),
    ],
)
def test_a_server_that_is_refused_is_told_where_it_is_named(server: Server, start: str) -> None:
    told = str(server.refused("another one", "that is full"))
    shown = "postgresql+psycopg://me@127.0.0.1:1/studies"
    assert told == f"{start}expected another one, got {shown}: that is full"


def test_what_a_folder_says_of_its_server_is_read_as_it_was_kept(folder: StudyFolder) -> None:
    assert Kept.load(folder) is None
    Kept("a1", "postgresql://host/name").save(folder)
    assert Kept.load(folder) == Kept("a1", "postgresql://host/name")
    for damaged in ("", "[]", '{"study_id": "a1"}', "3"):
        Kept.file(folder).write_text(damaged)
        assert Kept.load(folder) is None
    assert known_server(folder) is None
