"""What is passed on names no folder of its maker's disk, and leaves everything else as it is."""

import pytest

from search.verdict.private_paths import shareable, without_private_paths
from trainer.config.config import parse_train_config


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("data: /home/anna/cats/20_sks cat", "data: …/20_sks cat"),
        ('File "/home/anna/venv/lib/torch/nn.py", line 3', 'File "…/nn.py", line 3'),
        (r"base: C:\Users\Anna\models\sd15.safetensors", "base: …/sd15.safetensors"),
        ("see ~/photos/cat and file:///srv/anna/x.png", "see …/cat and …/x.png"),
        ("base: runwayml/stable-diffusion-v1-5, epoch 16/20", "base: runwayml/stable-diffusion-v1-5, epoch 16/20"),
        ("https://example.org/a/b.html stays", "https://example.org/a/b.html stays"),
        ("data: ../photos/dog", "data: ../photos/dog"),
    ],
)
def test_absolute_paths_are_shortened_to_their_last_part(text, expected):
    assert without_private_paths(text) == expected


def test_a_config_keeps_what_is_no_place_on_this_disk():
    config = parse_train_config({"base": "org/model", "data": "/home/anna/cats", "reg_data": "~/z", "rank": 8})
    expected = parse_train_config({"base": "org/model", "data": "…/cats", "reg_data": "…/z", "rank": 8})
    assert shareable(config) == expected
