"""What a text tells of its writer is found and taken out; what people need to know stays."""

import pytest

from trainer.delivery.private_text import home_names, private_in, without_private


@pytest.mark.parametrize(
    ("text", "kinds", "left"),
    [
        ("/home/anna/models/base.safetensors", {"path"}, "…/base.safetensors"),
        (r"C:\Users\Anna Smith\stable diffusion\base.ckpt", {"path"}, "…/base.ckpt"),
        (r"\\nas\anna\models\base.ckpt", {"path"}, "…/base.ckpt"),
        ("~/photos/20_sks dog", {"path"}, "…/20_sks dog"),
        ("by anna@example.org", {"mail address"}, "by …"),
        ("hf_abcdefghijklmnopqrstuv", {"key"}, "…"),
        ("made with https://github.com/kohya-ss/sd-scripts", set(), None),
        ("stable-diffusion-v1-5/stable-diffusion-v1-5", set(), None),
        ("networks.lora", set(), None),
        ("a photo of sks dog, 1/2 seen, 16:9", set(), None),
        ("(512, 512)", set(), None),
    ],
)
def test_private_things_are_named_and_taken_out(text: str, kinds: set[str], left: str | None) -> None:
    assert {one.kind for one in private_in(text)} == kinds
    assert without_private(text) == (text if left is None else left)


def test_a_name_that_a_home_folder_gives_away_is_found_elsewhere() -> None:
    names = home_names(r"C:\Users\anna\x and /home/ubuntu/y")
    assert names == {"anna"}
    assert [(one.kind, one.text) for one in private_in("trained by Anna, not Annabel", names)] == [("name", "Anna")]
    assert without_private("trained by Anna, not Annabel", names) == "trained by …, not Annabel"
