"""optuna-dashboard for a study, on this machine only, with the sheets and plots of every trial.

    python -m search.dashboard studies/demo.yaml

Anyone who can open the page can delete the study from the dashboard, so it listens on 127.0.0.1 alone.
"""

if __name__ == "__main__":  # before anything slow is imported
    from trainer.interrupts import end_at_once

    end_at_once()

import argparse
import contextlib
import re
import threading
from collections.abc import Iterable, Sequence
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from search.command import add_study, study_command
from search.errors import SearchError, StudyError
from search.record.record import StudyFolder
from search.study.find_study import locate
from search.study.server import Server, check_server, known_server
from search.tuning.database import check_database, storage_url
from trainer.arguments import Arguments, port
from trainer.command import INTERRUPTED, Command, end, reason
from trainer.errors import mistake

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

HOST = "127.0.0.1"
LOOPBACK = (HOST, "localhost", "::1")
_COUNTING = threading.Lock()


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    command = study_command("search.dashboard")
    return command.run(lambda: _main(arguments, command))


def _main(arguments: Sequence[str] | None, command: Command) -> int:
    options = command_line().parse_args(arguments)
    folder = locate(options.study, options.runs)
    command.folder = folder.path
    server = serve(folder, options.port, storage=options.storage)
    print(f"http://{HOST}:{server.server_port}/dashboard  (Ctrl-C ends it)", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        return INTERRUPTED
    finally:
        server.server_close()
    return 0


def serve(folder: StudyFolder, port: int = 0, *, storage: str | None = None) -> WSGIServer:
    """A threading server for the study's dashboard on 127.0.0.1, bound but not yet serving.

    Args:
        port: 0 takes any free one (`server.server_port` says which).
        storage: URL of the Optuna storage; None takes the study's `study.db`.

    Raises:
        SearchError: there is no database yet; the port is taken, or not allowed.
        StudyError: `storage` is no URL of a storage, or nothing answers there.
    """
    server = known_server(folder) if storage is None else None
    url = storage or (storage_url(folder.database) if server is None else server.url)
    application = _application(folder, server, url, named=storage is not None)
    application = _only_for_this_machine(_counting(application, folder, url))
    try:
        return make_server(HOST, port, application, server_class=_Threading, handler_class=_Quiet)
    except OSError as error:
        why = f"{reason(error)}; --port 0 takes any that is free"
        raise SearchError(mistake(None, "--port", port, "a port that is free", why)) from error


def _application(folder: StudyFolder, server: Server | None, url: str, *, named: bool) -> "WSGIApplication":
    """`url`: of the storage; `named`: by the user."""
    if not named and server is None and not folder.database.is_file():
        raise SearchError(f"{folder.database} does not exist: the study has not begun")
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from optuna_dashboard import wsgi

    from search.tuning.optuna_storage import open_storage
    from search.verdict.artifacts import open_store, stores_beside

    if server is not None:
        check_server(server)
        return wsgi(open_storage(url), artifact_store=stores_beside(folder))
    return wsgi(_open_storage(url) if named else open_storage(url), artifact_store=open_store(folder))


def _open_storage(url: str) -> Any:
    """The storage that a user named. One that holds no studies is refused: Optuna would add its tables to whatever
    database it is, or make one."""
    import sqlite3

    from sqlalchemy import create_engine, inspect
    from sqlalchemy.exc import SQLAlchemyError

    from search.tuning.optuna_storage import open_storage, sqlite_file

    shown = re.sub(r"://[^/]*@", "://***@", url)  # no password on a terminal
    expected = "a storage that holds studies, such as sqlite:////home/me/study.db or postgresql://user@host/name"
    try:
        file = sqlite_file(url)
        if file is not None:
            check_database(file)
        if file is not None and not file.exists():
            why = "there is no such file"
        else:
            engine = create_engine(url)
            with engine.connect() as connection:
                holds_studies = inspect(connection).has_table("studies")
            engine.dispose()
            if holds_studies:
                return open_storage(url)
            why = "there are none in it"
    except ImportError:
        driver = shown.split(":", 1)[0]
        expected, why = "a storage whose driver is installed", f"there is none for {driver} here"
    except (SQLAlchemyError, sqlite3.Error, ValueError) as error:
        why = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
    raise StudyError([mistake(None, "--storage", shown, expected, why)])


def _only_for_this_machine(application: "WSGIApplication") -> "WSGIApplication":
    """Answer 403 to requests under any other name than this machine's own. A page elsewhere can point a name of its own
    at 127.0.0.1 (DNS rebinding) and would reach the dashboard through its visitor's browser."""

    def guarded(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        origin = environ.get("HTTP_ORIGIN")
        hosts = [environ.get("HTTP_HOST", "")] + ([] if origin is None else [urlsplit(origin).netloc])
        if all(_is_loopback(host) for host in hosts):
            return application(environ, start_response)
        start_response("403 Forbidden", [("Content-Type", "text/plain; charset=utf-8")])
        return [f"This dashboard answers only under http://{HOST} on this machine.\n".encode()]

    return guarded


def _counting(application: "WSGIApplication", folder: StudyFolder, url: str) -> "WSGIApplication":
    """Keep votes on finalists in the study's folder as they are given, and have the report say so."""

    def counted(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        answer = application(environ, start_response)
        if "/preference" in environ.get("PATH_INFO", "") and environ["REQUEST_METHOD"] != "GET":
            with contextlib.suppress(OSError, SearchError):  # a copy that cannot be written to shows its pictures
                _count(folder, url)
        return answer

    return counted


def _count(folder: StudyFolder, url: str) -> None:
    from search.verdict.ballot import count_votes
    from search.verdict.report import write_report
    from search.verdict.verdict import known_verdict

    with _COUNTING:
        if count_votes(url, folder) and (verdict := known_verdict(folder)) is not None:
            write_report(folder, verdict, storage=url)


def _is_loopback(host: str) -> bool:
    try:
        return urlsplit(f"//{host}").hostname in LOOPBACK
    except ValueError:  # brackets that do not close
        return False


class _Threading(ThreadingMixIn, WSGIServer):
    """A page loads its images side by side; one slow request must not hold the others."""

    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


def command_line() -> Arguments:
    """What the command line may say."""
    parser = Arguments(
        prog="python -m search.dashboard",
        description="Open optuna-dashboard on 127.0.0.1 with this study's trials, contact sheets and onset plots.",
        epilog="example:\n  python -m search.dashboard studies/demo.yaml --port 8080",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_study(parser)
    parser.add_argument(
        "--port", type=port, default=8080, help="port to listen at (default: 8080); 0 takes any that is free"
    )
    parser.add_argument("--storage", metavar="URL", help="another Optuna storage than the study's own study.db")
    return parser


if __name__ == "__main__":
    end(main)
