"""A study of any number of trials, written as a search leaves it in the middle, and workers that train nothing."""

import itertools
import json
import os
import random
import time
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
import yaml
from PIL import Image

from metrics.onset.onset import find_onset
from search.record.events import Checkpointed, GoOn, Prepared, StopTrial, TrialSpec, save_readings
from search.record.record import StudyFolder, TrialRecord
from search.running.workers import Team
from search.study.study import Study, load_study
from search.tuning.ledger import BEGAN, PROCESSED, SHIPPED, SLOT, STARTUP, TRAINED, Ledger
from search.tuning.pruner import OWNER, describe
from search.verdict.best_files import write_pictures
from tests.search.finished_studies import Plan, planted

NAME, EPOCHS, STEP, SHAPES = "many", 40, 2, 48
_MOST_TRIALS = 100_000  # that a study file may ask for


def begun_study(home: Path, trials: int, running: int) -> tuple[Study, StudyFolder]:
    """A study with so many trials that have ended and so many that run, each of these at its first checkpoint."""
    study = load_study(_written(home, min(_MOST_TRIALS, trials + 1000 * running)))
    folder = StudyFolder(home / "runs" / NAME)
    folder.path.mkdir(parents=True)
    Ledger.of(study, folder)  # makes the tables
    luck, rows = random.Random(0), []
    for number in range(trials + running):
        slot = number % max(1, running)
        rows.append(_planted_trial(study, folder, number, luck, running=number >= trials, slot=slot))
    _insert(folder.database, rows)
    _draw_once(folder, trials)
    return study, folder


def _draw_once(folder: StudyFolder, trials: int) -> None:
    """Every trial that has ended has its pictures, as it does after a search: here all have the first one's."""
    first = write_pictures(folder, 0)
    later = time.time() + 3600  # they are younger than the records
    for path in first.values():
        os.utime(path, (later, later))
        for number in range(1, trials):
            os.link(path, folder.trial(number) / path.name)


class StandIns(Team):
    """Stands where `Team` does: each worker's next checkpoint is there as soon as it may be told."""

    def __init__(self, folder: StudyFolder, count: int) -> None:
        self.count, self._folder = count, folder
        self._specs: list[TrialSpec | None] = [None] * count
        self._inbox: list[tuple[int, Any]] = [(slot, Prepared(0.0)) for slot in range(count)]
        self.told, self._left = 0, -1

    def stop_after(self, events: int) -> None:
        """Raise `Enough` when so many checkpoints have been told."""
        self._left = events

    def start(self) -> None:
        """Nothing is started."""

    def close(self, grace_seconds: float = 3.0) -> None:
        """Nothing to end."""

    def send(self, slot: int, message: Any) -> None:
        if isinstance(message, TrialSpec):
            self._specs[slot] = message
            first = Checkpointed.file(message.folder, 0)
            if not first.is_file():
                _write_base(first)
            self._next(slot, message, message.processed)
        elif isinstance(message, GoOn):
            spec = self._specs[slot]
            if spec is not None and spec.number == message.number:
                self._next(slot, spec, message.epoch)
        elif isinstance(message, StopTrial):
            self._specs[slot] = None

    def receive(self, timeout: float) -> list[tuple[int, Any]]:
        if self._left == 0:
            raise Enough
        got, self._inbox = self._inbox, []
        events = sum(isinstance(message, Checkpointed) for _, message in got)
        self.told, self._left = self.told + events, max(0, self._left - events)
        return got

    def _next(self, slot: int, spec: TrialSpec, epoch: int) -> None:
        if epoch < spec.config.epochs:
            self._inbox.append((slot, _event(spec.number, epoch + STEP)))


class Enough(Exception):
    """So many events as were asked for have been taken in."""


def _written(home: Path, budget: int) -> Path:
    (home / "photos" / "1_sks toy").mkdir(parents=True)
    for index in range(6):
        Image.new("RGB", (64, 64), (40 * index, 90, 120)).save(home / "photos" / "1_sks toy" / f"{index}.png")
    for name, file, text in (
        ("base", "model_index.json", '{"_class_name": "StableDiffusionPipeline"}'),
        ("clip", "open_clip_config.json", "{}"),
    ):
        (home / name).mkdir()
        (home / name / file).write_text(text)
    values = {
        "study": NAME,
        "base": "base",
        "data": "photos",
        "train": {"resolution": 64, "epochs": EPOCHS, "save_every_n_epochs": STEP},
        "search": {
            "lr_scheduler": {"values": ["constant", "cosine"]},
            "learning_rate_scale": {"min": 0.5, "max": 8, "log": True},
            "rank": {"values": [2, 4, 8, 16]},
            "alpha_ratio": {"values": [0.25, 0.5, 1.0]},
        },
        "score": {"encoder": "clip", "holdout": 2},
        "budget": {"trials": budget},
    }
    path = home / "study.yaml"
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    return path


_SHAPES: dict[int, Any] = {}


def _shape(number: int) -> Any:
    """The trajectory of a trial: one of a few dozen, each with its onset."""
    key = number % SHAPES
    if key not in _SHAPES:
        turn = None if key % 3 else 16 + key % 20
        course = planted(Plan({}, quality=0.3 + 0.5 * (key * 7 % SHAPES) / SHAPES, turn=turn), EPOCHS, key)
        _SHAPES[key] = (course, find_onset(course))
    return _SHAPES[key]


def _event(number: int, epoch: int) -> Checkpointed:
    course, _ = _shape(number)
    readings = next(reading for reading in course.readings if reading.epoch == epoch)
    return Checkpointed(number, epoch, readings, {"train": 1.0}, {"rss_gib": 1.0})


def _write_base(path: Path) -> None:
    save_readings(path, _shape(0)[0].readings[0])


def _planted_trial(
    study: Study, folder: StudyFolder, number: int, luck: random.Random, *, running: bool, slot: int
) -> tuple[dict[str, Any], ...]:
    """One trial's folder; returns what Optuna holds of it."""
    trial = optuna.trial.FixedTrial(
        {
            "lr_scheduler": luck.choice(["constant", "cosine"]),
            "learning_rate_scale": 0.5 * 16 ** luck.random(),
            "rank": luck.choice([2, 4, 8, 16]),
            "alpha_ratio": luck.choice([0.25, 0.5, 1.0]),
        }
    )
    fields = study.space.suggest(trial, lambda parameter: None)
    config, (course, onset) = study.config(fields), _shape(number)
    pruned = not running and number % 2 == 1
    trained = 0 if running else 12 if pruned else EPOCHS
    scores = {r.epoch: r.score for r in course.readings if 0 < r.epoch <= trained}
    state = "running" if running else "pruned" if pruned else "complete"
    shipped = None if running else min(onset.best, trained)
    record = TrialRecord(
        number=number,
        state=state,
        config=config,
        params=fields,
        epochs=config.epochs,
        epochs_trained=trained,
        epoch_shipped=shipped,
        stopped="" if running else "pruned" if pruned else "horizon",
        onset=None if running else onset,
        score=None if shipped is None else scores[shipped],
        value=None if running else scores[trained] if pruned else scores[onset.best],
        versions={"onset": "0.1.0"},
        seeds={"train": 0, "probe": 0},
        timings={"train": 20.0, "sample": 3.0, "score": 1.0},
        slot=slot,
        began=0,
    )
    home = folder.trial(number)
    home.mkdir(parents=True)
    plain = {name: getattr(record, name) for name in record.__dataclass_fields__}
    plain |= {"config": config.model_dump(mode="json"), "onset": None if record.onset is None else asdict(onset)}
    (home / "record.json").write_text(json.dumps({"version": 1, **plain}, default=lambda value: value.tolist()))
    if not running:
        _write_course(home, number, trained)
    attributes: dict[str, Any] = {OWNER: NAME, SLOT: slot, BEGAN: 0, STARTUP: number < 10, **describe(config)}
    if not running:
        attributes |= {PROCESSED: trained - STEP, TRAINED: trained, SHIPPED: shipped}
    row = {"number": number, "state": {"complete": "COMPLETE", "pruned": "PRUNED", "running": "RUNNING"}[state]}
    return row, dict(trial.params), trial.distributions, attributes, scores, {"value": record.value}


_COURSES: dict[tuple[int, int], dict[str, bytes]] = {}


def _write_course(home: Path, number: int, trained: int) -> None:
    key = (number % SHAPES, trained)
    if key not in _COURSES:
        course, _ = _shape(number)
        type(course)(tuple(r for r in course.readings if r.epoch <= trained), course.unit).save(home)
        _COURSES[key] = {name: (home / name).read_bytes() for name in ("trajectory.csv", "items.npz")}
    for name, content in _COURSES[key].items():
        (home / name).write_bytes(content)


def _insert(database: Path, rows: list[tuple[dict[str, Any], ...]]) -> None:
    """All at once: one by one it would take minutes."""
    from optuna.distributions import distribution_to_json
    from optuna.storages._rdb import models

    engine = sqlalchemy.create_engine(f"sqlite:///{database}")
    tables: dict[Any, list[dict[str, Any]]] = {
        kind: []
        for kind in (
            models.TrialModel,
            models.TrialParamModel,
            models.TrialUserAttributeModel,
            models.TrialIntermediateValueModel,
            models.TrialValueModel,
        )
    }
    trials, params, attributes, values, ends = tables.values()
    now = datetime.now()
    for place, (row, chosen, spaces, about, scores, end) in enumerate(rows):
        one = place + 1
        trials.append({"trial_id": one, "study_id": 1, **row, "datetime_start": now, "datetime_complete": now})
        for name, value in chosen.items():
            stored = spaces[name].to_internal_repr(value)
            space = distribution_to_json(spaces[name])
            params.append({"trial_id": one, "param_name": name, "param_value": stored, "distribution_json": space})
        attributes += [{"trial_id": one, "key": key, "value_json": json.dumps(value)} for key, value in about.items()]
        values += [
            {"trial_id": one, "step": step, "intermediate_value": score, "intermediate_value_type": "FINITE"}
            for step, score in scores.items()
        ]
        if end["value"] is not None:
            ends.append({"trial_id": one, "objective": 0, "value": end["value"], "value_type": "FINITE"})
    with engine.begin() as connection:
        for kind, filled in tables.items():
            for part in itertools.batched(filled, 20000) if hasattr(itertools, "batched") else [filled]:
                connection.execute(sqlalchemy.insert(kind.__table__), list(part))
    engine.dispose()
