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


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("/home/anna/x", {"anna"}),
        ("/Users/Bob/x and /home/anna/y", {"Bob", "anna"}),
        (r"c:\users\eva\x", {"eva"}),
        ("C:/Users/eva/x", {"eva"}),
        ("/home/al/x", set()),  # two letters stand in many words
        ("/home/Root/x", set()),
        ("/srv/anna/x", set()),
        ("", set()),
    ],
)
def test_names_are_those_of_home_folders(text: str, names: set[str]) -> None:
    assert home_names(text) == names


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("sk-abcdefghijklmnopqrstuv", [("key", "sk-abcdefghijklmnopqrstuv")]),
        ("ghp_abcdefghijklmnopqrstuv", [("key", "ghp_abcdefghijklmnopqrstuv")]),
        ("sk-short", []),
        (f"{'0a' * 20} (wandb)", [("key", "0a" * 20)]),
        ("0a" * 20, []),  # a commit
        ("a@b.org, a@b.org", [("mail address", "a@b.org")]),
        ("see /srv/a/b and /srv/a/c", [("path", "/srv/a/b"), ("path", "/srv/a/c")]),
        ("/srv/my photos/b c.png", [("path", "/srv/my photos/b c.png")]),
        ("/srv/anna/by anna", [("path", "/srv/anna/by anna")]),  # nothing is told twice
        ("by anna in /srv/anna/x", [("path", "/srv/anna/x"), ("name", "anna")]),
        ("/srv/" + "a" * 4096, [("path", "/srv/" + "a" * 4096)]),
    ],
)
def test_each_thing_is_told_once_as_it_stands_there(text: str, found: list[tuple[str, str]]) -> None:
    assert [(one.kind, one.text) for one in private_in(text, ["anna"])] == found
