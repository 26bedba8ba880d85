"""The probe of a style: photos that share no subject are not cut out, and images may vary."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from metrics.encoders import load_encoder
from search.probe import open_probe
from search.study import load_study
from studies.demo.photos import write_photos
from tests.metrics.sets import pictures
from tests.search.conftest import StudyWriter
from trainer.base import load_base

DEMO = Path(__file__).parents[2] / "studies" / "demo"


def unlike_photos(folder: Path) -> Path:
    shelf = folder / "1_sks thing"
    shelf.mkdir(parents=True)
    for name, picture in pictures().items():
        side = min(picture.shape[:2])
        Image.fromarray(np.ascontiguousarray(picture[:side, :side])).resize((64, 64)).save(shelf / f"{name}.png")
        (shelf / f"{name}.txt").write_text(f"sks thing, {name}")
    return folder


@pytest.mark.parametrize(
    ("photos", "masks", "style"), [("unlike", "auto", True), ("unlike", "saliency", False), ("alike", "auto", False)]
)
def test_a_style_is_not_cut_out_and_may_vary(write_study: StudyWriter, tmp_path, photos, masks, style):
    data = unlike_photos(tmp_path / "set") if photos == "unlike" else write_photos(tmp_path / "set", count=8).parent
    score = {
        "encoder": str(DEMO / "clip"), "holdout": 2, "shifted": {"masks": masks, "composites": 4},
        "probe": {"seeds": 2, "steps": 1, "trained": 1, "heldout": 1, "contexts": ["{trigger} {class}, snow"]},
        "losses": {"levels": 2, "draws": 1},
    }  # fmt: skip
    study = load_study(write_study(base=str(DEMO / "base"), data=str(data), score=score))
    base, encoder = load_base(DEMO / "base"), load_encoder(str(DEMO / "clip"))
    probe = open_probe(study, base, tmp_path / "cache", encoder, None)
    assert (probe.shifted is None) == style
    assert (probe.calibration.weights.get("consistency") == 0.0) == style
    assert any("teaches a style" in notice for notice in probe.notices) == style
