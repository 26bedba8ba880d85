"""Block weights of a finished LoRA, through the command: what is tried, judged, written, and a second start."""

import io
import json
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from search.record.judgement import Judgement
from search.record.record import StudyFolder
from search.verdict.delivery_verdict import finish_delivery
from search.verdict.verdict import Verdict
from tests.search.study_processes import STUDIES, finish, start
from trainer.base_model.load import load_base
from trainer.delivery.blocks import block_of, lbw, weighted
from trainer.lora.kohya_file import load_lora, read_metadata, save_lora
from trainer.lora.lora import AdapterSettings, LoraModule, LoraWeights, create_adapters

DEMO = STUDIES / "demo"


def study_file(home: Path) -> Path:
    score = {
        "encoder": str(DEMO / "clip"),
        "probe": {
            "seeds": 1,
            "steps": 2,
            "trained": 1,
            "heldout": 0,
            "contexts": ["{trigger} {class} on grass", "{trigger} {class}, large, snow"],
        },
        "shifted": {"composites": 4, "levels": 1, "contexts": ["snow, plain floor", "sea, plain floor"]},
    }
    said = {
        "study": "blocks",
        "base": str(DEMO / "base"),
        "data": str(DEMO / "photos"),
        "train": {"resolution": 64},
        "delivery": {"lora": "dog.safetensors", "step": 0.5},
        "score": score,
        "budget": {"trials": 7},
        "workers": {"threads": 1},
    }
    path = home / "delivery.yaml"
    path.write_text(yaml.safe_dump(said))
    return path


def random_lora() -> LoraWeights:
    base = load_base(str(DEMO / "base"))
    fresh = create_adapters(base, AdapterSettings(rank=4, alpha=2.0)).weights()
    torch.manual_seed(0)
    modules = {s: LoraModule(m.down, torch.randn_like(m.up) / 8, m.alpha) for s, m in fresh.modules.items()}
    return LoraWeights(modules, fresh.family)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    home = tmp_path_factory.mktemp("delivery")
    save_lora(home / "dog.safetensors", random_lora(), {"ss_network_dim": "4"})
    finish(start(study_file(home), home / "runs"))
    return StudyFolder(home / "runs" / "blocks")


@pytest.mark.slow
def test_it_ends_with_a_file_a_judgement_and_a_report(folder: StudyFolder) -> None:
    records = list(folder.records())
    assert len(records) == 7
    assert {record.state for record in records} == {"complete"}
    assert records[0].params == {"IN04": 1.0, "M00": 1.0, "OUT00": 1.0, "OUT01": 1.0}
    assert records[2].params == {"IN04": 1.0, "M00": 0.0, "OUT00": 1.0, "OUT01": 1.0}
    verdict, judgement = Verdict.load(folder.verdict_file), Judgement.load(folder.path)
    assert judgement is not None
    assert verdict.trial == judgement.trial
    assert (folder.path / verdict.files["LoRA"]).is_file()
    assert "Turn down" in verdict.said.headline or "Nothing to win" in verdict.said.headline
    assert folder.report.is_file()
    assert "epoch" not in " ".join(verdict.sentences)


@pytest.mark.slow
def test_a_second_start_says_that_it_is_finished(folder: StudyFolder) -> None:
    before = folder.verdict_file.read_bytes()
    study = folder.path.parent.parent / "delivery.yaml"
    assert "is finished" in finish(start(study, folder.path.parent))
    assert folder.verdict_file.read_bytes() == before


@pytest.mark.slow
def test_the_same_study_gives_the_same_numbers(folder: StudyFolder) -> None:
    home = folder.path.parent.parent
    finish(start(home / "delivery.yaml", home / "again"))
    again = StudyFolder(home / "again" / "blocks")
    assert [r.score for r in again.records()] == [r.score for r in folder.records()]
    assert Judgement.load(again.path) == Judgement.load(folder.path)


@pytest.mark.slow
def test_weights_that_win_are_merged_and_pass_the_gate(folder: StudyFolder) -> None:
    lora = load_lora(folder.path.parent.parent / "dog.safetensors")
    weights = {"IN04": 0.5, "M00": 0.0}
    chosen = next(record for record in folder.records() if record.params["M00"] == 0)
    found = Judgement(
        chosen.number, chosen.params, weights=weights, lbw=lbw(weights, lora), wins=("background",), images=8, prompts=2
    )
    verdict = finish_delivery(folder, found, base=str(DEMO / "base"), wall_seconds=3.0, keep=None)
    merged = load_lora(folder.best_folder / "blocks.safetensors", family=lora.family)
    expected = weighted(lora, weights)
    assert merged.modules.keys() == expected.modules.keys()
    for site, module in expected.modules.items():
        torch.testing.assert_close(merged.modules[site].up, module.up, rtol=1e-3, atol=1e-6)
    assert not any(block_of(site) == "M00" for site in merged.modules)
    assert (folder.best_folder / "prompt.txt").read_text() == f"<lora:dog:1:lbw={found.lbw}>\n"
    assert json.loads(read_metadata(folder.best_folder / "blocks.safetensors")["onset.delivery"])["blocks"] == found.lbw
    assert verdict.said.headline == "Turn down M00 to 0."
    assert "faults" not in " ".join(verdict.sentences)
    assert len(load_file(folder.best_folder / "blocks.safetensors")) == 3 * len(merged.modules)
    out = io.StringIO()
    from rich.console import Console

    from search.verdict.terminal import render

    Console(file=out, width=120).print(render(verdict, folder.path))
    assert "Turn down M00" in out.getvalue()
