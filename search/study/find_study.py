"""Where a study's folder is: from its study file, or the folder itself, without reading more than the name."""

from pathlib import Path

from search.errors import StudyError, problem
from search.record.record import StudyFolder
from search.study.checks import is_folder
from search.study.flow_file import refuse_flow
from trainer.config.sources import why_no_file_name
from trainer.config.yaml_file import read_yaml
from trainer.errors import ConfigError


def locate(target: str | Path, runs: str | Path = "runs") -> StudyFolder:
    """The folder that a study left behind.

    Args:
        target: a study file, or a folder such as `runs/demo`.
        runs: where studies leave their folders.

    Raises:
        StudyError: the file is wrong or a flow, or nothing has run yet; one line.
    """
    path = Path(target)
    if is_folder(Path(), str(target)):
        found = path
    else:
        refuse_flow(path)
        try:
            name = read_yaml(path).get("study")
        except ConfigError as error:
            raise StudyError([str(error)]) from None
        if not isinstance(name, str):
            raise StudyError([problem(path, "study", name, "a name for the folder under runs/")])
        if why := why_no_file_name(name):
            raise StudyError([problem(path, "study", name, why)])
        found = Path(runs) / name
    if not (found / "trials").is_dir() and not (found / "study.db").is_file():
        raise StudyError(
            [problem(path, "runs", str(found), "a study that has run", f"start it with: python -m search.run {target}")]
        )
    return StudyFolder(found)
