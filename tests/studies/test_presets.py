"""Every study file that comes along loads; a preset needs a base and photos, and nothing else."""

from pathlib import Path

import pytest

from metrics.channels.own_photo import LEAST_CAPTIONS
from search.study.flow_file import read_flow
from search.study.study import load_study
from search.study.study_file import read_study_file

STUDIES = Path(__file__).parents[2] / "studies"
PRESETS = sorted((STUDIES / "presets").glob("*.yaml"))
OWN = [f"base={STUDIES / 'demo/base'}", f"data={STUDIES / 'demo/photos'}", f"score.encoder={STUDIES / 'demo/clip'}"]


@pytest.mark.parametrize("file", PRESETS, ids=lambda file: file.stem)
def test_a_preset_draws_few_images_and_enough_captions_to_know_of_copies(file: Path) -> None:
    probe = load_study(file, OWN).score.probe
    assert min(probe.trained, probe.heldout) >= LEAST_CAPTIONS
    assert (probe.trained + probe.heldout + len(probe.contexts)) * probe.seeds == 20


@pytest.mark.parametrize("file", PRESETS, ids=lambda file: file.stem)
def test_a_preset_needs_a_base_and_photos(file: Path) -> None:
    study = load_study(file, OWN)
    assert study.name == file.stem.replace("_", "-")
    assert len(study.sampler.start_with) >= 3
    for fields in study.sampler.start_with:  # each says every field that is searched beside the others
        missing = [entry.field for entry in study.space.entries if entry.active(fields) and entry.field not in fields]
        assert missing == []
        study.config(fields)


def test_every_study_file_that_comes_along_loads(tmp_path: Path) -> None:
    files = [
        file for file in STUDIES.rglob("*.yaml") if "study" in read_study_file(file).values and file not in PRESETS
    ]
    flows = [flow for file in STUDIES.rglob("*.yaml") if (flow := read_flow(file)) is not None]
    assert len(files) >= 2
    assert flows
    before = [step.study for flow in flows for step in flow.steps]
    for file in files:
        load_study(file, runs=tmp_path, to_come=before)
