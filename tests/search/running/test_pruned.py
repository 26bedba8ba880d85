"""What was pruned was rightly pruned: trained to its horizon, none of it beats the winner beyond the score's noise.

pytest -m slow tests/search/running/test_pruned.py
"""

from pathlib import Path

import pytest

from metrics.checkpoint.encoders import load_encoder
from metrics.onset.onset import find_onset
from metrics.trajectory.trajectory import Trajectory
from search.probe.probe import open_probe
from search.record.record import StudyFolder
from search.run import main
from search.study.study import Study, load_study
from search.verdict.verdict import Verdict
from trainer.base_model.load import load_base
from trainer.packing.builder import pack_settings, run_settings
from trainer.packing.pack import Pack

DEMO = Path(__file__).parents[3] / "studies" / "demo.yaml"
NINETY_PERCENT = 1.645


def scores_at_the_horizon(study: Study, folder: StudyFolder, scratch: Path) -> dict[int, float]:
    """Trial number to the score at the epoch it would have shipped, for every pruned trial, trained to its horizon."""
    base, encoder = load_base(study.base), load_encoder(study.encoder)
    probe = open_probe(study, base, folder.cache, encoder, None)
    found = {}
    for record in folder.records():
        if record.state != "pruned":
            continue
        config = record.config
        pack = Pack(base, probe.trained, pack_settings(config), cache=probe.cache)
        run = pack.join(run_settings(config), run_dir=scratch / f"{record.number:04d}")
        trajectory = Trajectory((probe.base_readings,))
        while not run.finished and run.failed is None:
            pack.train_epoch()
            if run.due:
                readings, _, _ = probe.read(run.lora_weights(), epoch=run.epoch, effort=run.effort)
                trajectory = trajectory.append(readings)
        best = find_onset(trajectory).best
        found[record.number] = next(r.score for r in trajectory.readings if r.epoch == best)
    return found


@pytest.mark.slow
def test_no_pruned_trial_of_the_demo_would_have_won(tmp_path: Path) -> None:
    study = load_study(DEMO)
    assert main([str(DEMO), "--runs", str(tmp_path)]) == 0
    folder = StudyFolder(tmp_path / study.name)
    verdict = Verdict.load(folder.verdict_file)
    found = scores_at_the_horizon(study, folder, tmp_path / "scratch")
    assert len(found) >= 1
    assert verdict.score is not None
    print(f"winner {verdict.score:.3f} ± {verdict.noise:.3f}; pruned, at their horizon: {found}")
    assert max(found.values()) <= verdict.score + NINETY_PERCENT * verdict.noise
