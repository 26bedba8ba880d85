"""A worker process that trains nothing but leaves and says all that a real one does, and ends as one does.

It works in milliseconds, so that a hundred killed studies can be afforded; what is trained is killed in the kinds
`trained` and `trained-packed`.
"""

import random
import signal
import threading
import time
from multiprocessing import parent_process
from multiprocessing.connection import Connection

from search.record.events import Prepared, Quit
from search.record.in_place import in_place
from search.record.json_files import write_json
from search.record.lock import OTHERS_SECONDS, locked, worker_lock
from search.record.probe_description import PROBE_FILE
from search.record.record import StudyFolder
from search.running.coordinator_line import HUNG_UP
from search.running.with_parent import die_with_parent
from search.study.study import Study
from tests.search.one_process import PROBE, Worker, places_of

SLOWEST_SECONDS = 0.4
"""That a step takes; how long each one does take is chance, so workers come in another order each time."""


def main(connection: Connection, slot: int, study: Study, folder: StudyFolder) -> None:
    """Stands where `search.running.worker.main` does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if parent_process() is not None:  # not under Ray
        threading.Thread(target=die_with_parent, daemon=True).start()
    with in_place(folder.path), locked(worker_lock(folder.path, slot), wait_seconds=OTHERS_SECONDS) as alone:
        assert alone
        try:
            _serve(connection, slot, study, folder)
        except HUNG_UP:
            return


def _serve(connection: Connection, slot: int, study: Study, folder: StudyFolder) -> None:
    if slot == 0 and not (folder.path / PROBE_FILE).is_file():
        write_json(folder.path / PROBE_FILE, PROBE)
    worker, pace = Worker(folder), random.Random()
    worker.inbox = [Prepared(0.0, places=places_of(study))]
    while True:
        worker.step()
        said, worker.inbox = worker.inbox, []
        for message in said:
            connection.send(message)
        while connection.poll(None if not said else 0):
            message = connection.recv()
            if isinstance(message, Quit):
                return
            worker.send(message)
            said = said or [message]
        time.sleep(pace.random() * SLOWEST_SECONDS)
