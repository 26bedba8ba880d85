"""Captions of any script are drawn, in lines that fit, and never as boxes."""

import numpy as np

from trainer.inference.fonts import LACKING, drawable, font
from trainer.inference.picture_grid import Column, picture_grid

JAPANESE = "雪の中に立っている大きな赤いキノコ、青い空と白い雲、遠くの山"


def test_a_typeface_is_found_for_the_text() -> None:
    latin, japanese = font(16, text="a red mushroom"), font(16, text=JAPANESE)
    assert latin.getname()[0] == "DejaVu Sans"
    assert japanese.getname()[0] != "DejaVu Sans"
    box = japanese.getmask("\ue0f0").getbbox()  # a character of nobody's: the box that stands for it
    masks = {bytes(japanese.getmask(character)) for character in "雪中赤青空白雲山"}
    assert len(masks) == 8, "each is drawn as itself"
    assert box is None or bytes(japanese.getmask("\ue0f0")) not in masks


def test_what_no_typeface_has_is_a_dot_and_what_has_no_width_is_left_out() -> None:
    assert drawable("plain text") == "plain text"
    assert drawable(JAPANESE) == JAPANESE
    assert drawable("toy \ue0f0 on the left") == f"toy {LACKING} on the left"
    assert drawable("a\u200db") == "ab" or "\u200d" in drawable("a\u200db")


def test_a_caption_without_blanks_goes_on_in_the_next_line() -> None:
    images = [[np.full((64, 64, 3), 200, np.uint8)]]
    lines = []
    for caption in (JAPANESE[:8], JAPANESE):
        grid = np.asarray(picture_grid(images, [Column("段階 8")], [caption], cell=128).convert("L"))
        left = (grid[:, :300] < 100).any(axis=1)
        lines.append(int(left.sum()))
        assert not (grid[:, 312:316] < 100)[60:].any(), "no caption reaches the images"
    assert lines[1] > 1.8 * lines[0]
