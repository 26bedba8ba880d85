"""LoRA files that OneTrainer, ai-toolkit and SimpleTuner saved with their own code, of weights that are known.

`saved_elsewhere.tar.xz` is written by `python -m benchmarks.parity.saved_files`: OneTrainer 23df3832, ai-toolkit
27a03a91 and SimpleTuner bc8e6ab7 gave the layers of a narrow SD 1.5 or SDXL our weights and saved them at two epochs.
"""

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from benchmarks.parity.exported_runs import EPOCH_STEPS, TRANSLATE, write_exports
from benchmarks.parity.known_weights import differing
from benchmarks.parity.saved_files import EPOCHS, epoch_of, left_out_by_diffusers, make_narrow_base
from search.record.finished_run import FinishedRun
from search.running.finished_run import check_run
from trainer.base_model.load import load_base
from trainer.delivery.edits import Edits, write_edited
from trainer.delivery.gate import look, read_file
from trainer.errors import ModelError
from trainer.lora.kohya_file import load_lora
from trainer.lora.lora import LoraWeights, Site
from trainer.lora.run_files import run_files, why_not_one_run

ARCHIVE = Path(__file__).with_name("saved_elsewhere.tar.xz")


def told_runs() -> dict[str, dict[str, Any]]:
    with tarfile.open(ARCHIVE) as archive:
        member = archive.extractfile("runs.json")
        assert member is not None
        return json.load(member)


RUNS = told_runs()
READ = [name for name, expect in RUNS.items() if not expect["refused"]]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    return folder


def shapes(lora: LoraWeights) -> dict[Site, tuple[int, ...]]:
    """Of the weights that the layers belong to."""
    return {site: (int(m.up.shape[0]), *m.down.shape[1:]) for site, m in lora.modules.items()}


def test_the_archive_has_every_trainer_and_format() -> None:
    assert {name.partition("/")[0] for name in RUNS} == {"onetrainer", "ai-toolkit", "simpletuner"}
    assert {expect["family"] for expect in RUNS.values()} == {"sd15", "sdxl"}
    assert len(READ) == 36
    assert len(RUNS) == 38
    assert {expect["commit"][:7] for expect in RUNS.values()} == {"23df383", "27a03a9", "bc8e6ab"}


@pytest.mark.parametrize("name", READ)
def test_every_file_is_placed_and_every_number_read(saved: Path, name: str) -> None:
    expect, files = RUNS[name], run_files(saved / name).files
    assert why_not_one_run(files) is None
    assert sorted(epoch_of(file) for file in files) == [*EPOCHS]
    assert all(file.step is not None for file in files), "the last one's metadata says it, too"
    for file in files:
        lora = load_lora(file.path)
        assert lora.family == expect["family"]
        assert differing(lora, epoch_of(file), shapes(lora), scale=expect["scale"]) == []
        some = next(iter(lora.modules.values()))
        assert (some.magnitude is not None, some.by_input) == ("dora" in name, "by-input" in name)


@pytest.mark.parametrize("name", READ)
def test_a_delivered_file_passes_and_draws_the_same(saved: Path, tmp_path: Path, name: str) -> None:
    path = run_files(saved / name).files[0].path
    write_edited(read_file(path), Edits(clean=True, repair=True), tmp_path / "it.safetensors", base=None)
    delivered = read_file(tmp_path / "it.safetensors")
    assert [finding.line for finding in look(delivered, None) if not finding.passes] == []
    one, other = load_lora(path), load_lora(tmp_path / "it.safetensors")
    assert one.modules.keys() == other.modules.keys()
    for site, module in one.modules.items():
        again = other.modules[site]
        assert (module.down @ module.down.mT).equal(again.down @ again.down.mT)
        assert (module.up * module.alpha).equal(again.up * again.alpha)


@pytest.mark.parametrize("name", ["onetrainer/sd15-kohya_lora-full", "onetrainer/sdxl-comfy_lora"])
def test_diffusers_loads_every_layer_of_what_is_delivered(saved: Path, tmp_path: Path, name: str) -> None:
    base = load_base(make_narrow_base(tmp_path / RUNS[name]["family"]))
    path = run_files(saved / name).files[0].path
    write_edited(read_file(path), Edits(clean=True, repair=True), tmp_path / "it.safetensors", base=base.source)
    assert left_out_by_diffusers(tmp_path / "it.safetensors", base) == []


@pytest.mark.parametrize(
    ("tool", "file"),
    [("onetrainer", "concepts.json"), ("ai-toolkit", "config.yaml"), ("simpletuner", "multidatabackend.json")],
)
def test_the_exports_that_a_trainer_is_asked_to_read_are_of_many_runs(tmp_path: Path, tool: str, file: str) -> None:
    assert tool in TRANSLATE
    count = write_exports(tool, tmp_path)
    assert count > 40
    assert len([*(tmp_path / "exports").rglob(file)]) == count
    expected = [json.loads(path.read_text()) for path in (tmp_path / "exports").rglob("expected.json")]
    assert len(expected) == count
    assert {len(one["rates"]) for one in expected if one["rates"]} == {12 * EPOCH_STEPS}
    assert {len(one["captions"]) for one in expected} == {15}
    assert all(Path(path).is_file() and "\n" not in text for path, text in expected[0]["captions"].items())


def test_simpletuners_last_file_which_lost_its_alpha_is_told(saved: Path, tmp_path: Path) -> None:
    files = run_files(saved / "simpletuner/sd15-last-without-alpha").files
    run = FinishedRun({epoch_of(file): str(file.path) for file in files})
    with pytest.raises(
        ModelError, match=r"weights\.safetensors: expected alpha 1 in denoiser\..*, got 2: .*SimpleTuner"
    ):
        check_run(run, load_base(make_narrow_base(tmp_path / "sd15")))
