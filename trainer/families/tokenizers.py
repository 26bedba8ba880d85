"""Tokenizers of a base: loaded with the vocabulary that its text encoder was trained with, or not at all.

Without its files transformers makes a tokenizer of a few tokens, and every caption becomes the same one.
"""

from __future__ import annotations

import gzip
import importlib.util
import json
from pathlib import Path
from typing import Any

from trainer.errors import ModelError
from trainer.families.layout import title

_LEAST_SHARE = 0.9
"""Of an encoder's embeddings the share that has to have a token: T5's table, for one, is padded by a few rows."""


def check_vocabulary(source: str | Path, part: str, tokenizer: Any, encoder: Any) -> None:
    """Raises ModelError when a tokenizer's tokens are not those that its text encoder has embeddings for."""
    tokens, rows = len(tokenizer), encoder.config.vocab_size
    if not _LEAST_SHARE * rows <= tokens <= rows:
        raise ModelError(
            f"{title(source, part)} has a vocabulary of {tokens} tokens, its text encoder one of {rows}: "
            "it is another's, or cut short"
        )
    model = json.loads(tokenizer.backend_tokenizer.to_str())["model"] if tokenizer.is_fast else {}
    if model.get("type") != "BPE":
        return
    made = {"".join(pair if isinstance(pair, list) else pair.split(" ", 1)) for pair in model["merges"]}
    special = set(tokenizer.get_added_vocab())
    lacking = [
        token
        for token in model["vocab"]
        if len(token.removesuffix("</w>")) > 1 and token not in made and token not in special
    ]
    if lacking:
        raise ModelError(
            f"{title(source, part)} cannot make {len(lacking)} tokens of its vocabulary (such as {lacking[0]!r}): "
            "its merges are cut short"
        )


def own_tokenizer(folder: Path) -> Any:
    """The tokenizer in a folder of shipped configurations, or CLIP's own where it has none; `tokenizer_2` is SDXL's
    second, which pads by another token."""
    from transformers import CLIPTokenizer

    if folder.exists():
        return CLIPTokenizer.from_pretrained(str(folder))
    return clip_tokenizer(pad_token="!" if folder.name == "tokenizer_2" else "<|endoftext|>")


def clip_tokenizer(*, pad_token: str = "<|endoftext|>") -> Any:
    """CLIP's tokenizer from the BPE vocabulary that open_clip carries."""
    from transformers import CLIPTokenizer
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    package = importlib.util.find_spec("open_clip")
    if package is None or package.origin is None:
        raise ModelError("a single-file base needs the package open_clip_torch for CLIP's vocabulary")
    lines = gzip.decompress((Path(package.origin).parent / "bpe_simple_vocab_16e6.txt.gz").read_bytes()).decode()
    merges = [tuple(line.split()) for line in lines.split("\n")[1 : 49152 - 256 - 2 + 1]]
    alphabet = list(bytes_to_unicode().values())
    tokens = alphabet + [letter + "</w>" for letter in alphabet] + ["".join(pair) for pair in merges]
    vocab = {token: index for index, token in enumerate([*tokens, "<|startoftext|>", "<|endoftext|>"])}
    return CLIPTokenizer(vocab=vocab, merges=merges, pad_token=pad_token, model_max_length=77)
