"""A flow: a file that names studies, which run one after the other and hand their results on (`from:`)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search.errors import StudyError, problem, unknown_problem
from search.study.study_file import read_study_file
from trainer.config.sources import why_no_file_name
from trainer.config.yaml_file import read_yaml
from trainer.errors import ConfigError, Plain

FLOW = "flow"


@dataclass(frozen=True)
class Step:
    """One study of a flow: its file and its name."""

    file: Path
    study: str


@dataclass(frozen=True)
class Flow:
    """Attributes:
    path: the flow file.
    steps: the studies, in the order in which they run.
    """

    path: Path
    steps: tuple[Step, ...]


def read_flow(path: str | Path) -> Flow | None:
    """The flow that a file names; None where it is none: a study file, a folder, or nothing that can be read.

    Raises:
        StudyError: a flow that cannot run as it is written: one line for each mistake.
    """
    path = Path(path)
    try:
        values = read_yaml(path)
    except ConfigError:  # who reads it as a study tells
        return None
    if FLOW not in values:
        return None
    problems = [unknown_problem(path, key, [FLOW]) for key in values if key != FLOW]
    named = values[FLOW]
    if not isinstance(named, list) or not named:
        raise StudyError([*problems, problem(path, FLOW, named, "a list of study files")])
    steps: list[Step] = []
    for i, name in enumerate(named):
        step, wrong = _step(path, f"{FLOW}[{i}]", name, steps)
        problems += wrong
        steps += [] if step is None else [step]
    if problems:
        raise StudyError(problems)
    return Flow(path, tuple(steps))


def refuse_flow(path: str | Path) -> None:
    """Raises StudyError where a command that looks at one study is given a flow."""
    flow = read_flow(path)
    if flow is not None:
        names = ", ".join(str(step.file) for step in flow.steps)
        raise StudyError([problem(path, FLOW, Plain("a flow"), f"one of its studies: {names}")])


def final_of(path: str | Path) -> str | Path:
    """Of a flow, the file of the study that trains what ships (its section is `final`); any other file as it is.

    Raises:
        StudyError: none of its studies does.
    """
    flow = read_flow(path)
    if flow is None:
        return path
    found = [step.file for step in flow.steps if "final" in read_study_file(step.file).values]
    if not found:
        refuse_flow(path)
    return found[-1]


def _step(path: Path, key: str, named: Any, before: Sequence[Step]) -> tuple[Step | None, list[str]]:
    if not isinstance(named, str) or not named.strip():
        return None, [problem(path, key, named, "a study file")]
    file = path.parent / named
    try:
        values = read_yaml(file)
    except ConfigError as error:
        return None, [problem(path, key, named, "a study file", str(error))]
    study = values.get("study")
    if FLOW in values:
        return None, [problem(path, key, named, "a study file", "it is a flow itself")]
    if not isinstance(study, str) or why_no_file_name(study) is not None:
        return None, [problem(file, "study", study, "a name for the folder under runs/")]
    if study in [step.study for step in before]:
        return None, [problem(file, "study", study, "another name: an earlier study of the flow has this one")]
    return Step(file, study), []
