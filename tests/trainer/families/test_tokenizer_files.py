"""A tokenizer's files that say nothing of a vocabulary are told as what they are."""

import json
import shutil
from pathlib import Path

import pytest

from trainer.base_model.load import check_family, load_base
from trainer.errors import ModelError

DEMO_BASE = Path(__file__).parents[3] / "studies" / "demo" / "base"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return shutil.copytree(DEMO_BASE, tmp_path / "base")


@pytest.mark.parametrize("content", ["{}", '{"model": {}}', '{"model": 7}', '{"model": {"type": "BPE", "vocab": {}}}'])
def test_a_tokenizer_file_without_a_vocabulary_is_refused_before_weights_are_read(content, base) -> None:
    (base / "tokenizer" / "tokenizer.json").write_text(content)
    with pytest.raises(ModelError, match=r"tokenizer\.json: holds no vocabulary"):
        check_family(base)


def test_a_tokenizer_file_that_lacks_the_rest_is_told_as_a_tokenizer(base) -> None:
    whole = json.loads((base / "tokenizer" / "tokenizer.json").read_text())
    (base / "tokenizer" / "tokenizer.json").write_text(json.dumps({"model": whole["model"]}))
    with pytest.raises(ModelError) as caught:
        load_base(base)
    assert "tokenizer" in str(caught.value)
    assert "tensors" not in str(caught.value)
