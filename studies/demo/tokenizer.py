"""CLIP tokenizer files in which every word of the demo world is one token, with spare words for triggers."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

from transformers import CLIPTokenizer

LENGTH = 32
START, END = "<|startoftext|>", "<|endoftext|>"
_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"


def byte_pairs(words: tuple[str, ...]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Vocabulary and merges for which each word is one token.

    Words are taken one after another; what a word still falls into under the merges so far is joined by new ones,
    put *after* them. An earlier word never sees the later merges: until it is one token, one of its own pairs,
    which rank before, is there to be joined first. So no order of merges has to be searched."""
    merges: list[tuple[str, str]] = []
    for word in words:
        pieces = _split(word, merges)
        while len(pieces) > 1:
            merges.append((pieces[0], pieces[1]))
            pieces = _split(word, merges)
    tokens = [*_LETTERS, *(letter + "</w>" for letter in _LETTERS), *dict.fromkeys(a + b for a, b in merges)]
    return {token: index for index, token in enumerate([*tokens, START, END])}, merges


def save_tokenizer(folder: Path, words: tuple[str, ...], *, for_open_clip: bool = False) -> None:
    """Writes the files that `CLIPTokenizer.from_pretrained(folder)` (or AutoTokenizer) reads."""
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary, merges = byte_pairs(words)
    pairs = [" ".join(pair) for pair in merges]
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *pairs]) + "\n")
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=LENGTH)
    tokenizer.save_pretrained(folder)
    if for_open_clip:  # AutoTokenizer asks config.json which tokenizer the folder holds
        (folder / "config.json").write_text(json.dumps({"model_type": "clip"}))


def encode(captions: list[str], vocabulary: dict[str, int]) -> list[list[int]]:
    """Ids padded to LENGTH as CLIPTokenizer gives them, for captions of known words only; many times faster."""
    start, end = vocabulary[START], vocabulary[END]
    rows = []
    for text in captions:
        ids = [start, *(vocabulary[word + "</w>"] for word in text.replace(",", " , ").split())][: LENGTH - 1]
        rows.append(ids + [end] * (LENGTH - len(ids)))
    return rows


def _split(word: str, merges: list[tuple[str, str]]) -> list[str]:
    pieces = [*word[:-1], word[-1] + "</w>"]
    ranks = {pair: rank for rank, pair in enumerate(merges)}
    while len(pieces) > 1:
        pairs = [(ranks.get(pair, len(merges)), index) for index, pair in enumerate(pairwise(pieces))]
        rank, index = min(pairs)
        if rank == len(merges):
            break
        pieces[index : index + 2] = ["".join(pieces[index : index + 2])]
    return pieces
