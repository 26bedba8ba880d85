"""Each word of the demo world is one token, whatever the order in which the words come."""

import random

from transformers import AutoTokenizer, CLIPTokenizer

from studies.demo.models import make_text_encoder
from studies.demo.scenes import SPARE_TRIGGERS, TRIGGERS, full_caption, render_scenes, vocabulary
from studies.demo.tokenizer import LENGTH, byte_pairs, encode, save_tokenizer


def test_each_word_is_one_token(tmp_path) -> None:
    save_tokenizer(tmp_path, vocabulary())
    tokenizer = CLIPTokenizer.from_pretrained(tmp_path)
    for word in vocabulary():
        assert len(tokenizer(word).input_ids) == 3, word
    assert {"ball", "checkered", "zor", "sks"} <= set(vocabulary())
    assert set(TRIGGERS + SPARE_TRIGGERS) <= set(vocabulary())


def test_words_that_share_their_beginnings_do_not_collide(tmp_path) -> None:
    words = ["star", "stars", "start", "tar", "art", "smart", "ta", "st", "sphere", "here", "her", "he"]
    for seed in range(5):
        random.Random(seed).shuffle(words)
        save_tokenizer(tmp_path / str(seed), tuple(words))
        tokenizer = CLIPTokenizer.from_pretrained(tmp_path / str(seed))
        assert [len(tokenizer(word).input_ids) for word in words] == [3] * len(words)


def test_the_fast_encoding_is_the_tokenizers_own(tmp_path) -> None:
    save_tokenizer(tmp_path, vocabulary(), for_open_clip=True)
    _, captions, attributes = render_scenes(40, 2)
    captions = captions + [full_caption(a) for a in attributes]
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    theirs = tokenizer(captions, padding="max_length", truncation=True, max_length=LENGTH).input_ids
    assert encode(captions, byte_pairs(vocabulary())[0]) == theirs
    assert max(row.index(tokenizer.eos_token_id) for row in theirs) < LENGTH - 1, "a caption is cut off"


def test_the_text_encoder_reads_up_to_the_tokenizers_end() -> None:
    ids, _ = byte_pairs(vocabulary())
    config = make_text_encoder().config
    assert (config.vocab_size, config.eos_token_id) == (len(ids), max(ids.values()))
