"""The built-in tokenizer: any text comes back as it was, tags and words are single tokens, also after saving."""

import json
import random
from pathlib import Path

import pytest
from transformers import LlamaConfig, PreTrainedTokenizerFast, Qwen2Config

from r2a_core.builtin.texts import LEADS, MIDDLES, TAILS
from r2a_core.builtin.tokenizer import PAD, build_tokenizer, copied_words
from r2a_core.config import Tags

ODD = json.loads((Path(__file__).parent / "odd_texts.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def tokenizer(built_in_tokenizer):
    return built_in_tokenizer.hf


def encode(tokenizer, text):
    return tokenizer.encode(text, add_special_tokens=False)


def test_any_text_comes_back(tokenizer):
    rng = random.Random(0)
    ranges = [(0, 0x7F), (0x80, 0x24F), (0x2000, 0x2FFF), (0x10000, 0x1F9FF)]
    drawn = ["".join(chr(rng.randint(*rng.choice(ranges))) for _ in range(30)) for _ in range(200)]
    for text in (*ODD, *drawn):
        assert tokenizer.decode(encode(tokenizer, text), clean_up_tokenization_spaces=False) == text


def test_words_are_single_tokens_and_a_copied_one_the_same_everywhere(tokenizer):
    for word in [*copied_words(), "7", "10", "20"]:
        token = tokenizer.convert_tokens_to_ids(word)
        for place in (f"Final answer is {word}.\n", f"is \\boxed{{{word}}}.", f"land: {word} has 9", f"so 9={word}\n"):
            assert encode(tokenizer, place).count(token) == 1, (word, place)
    for words in (LEADS, MIDDLES, TAILS):
        assert {len(encode(tokenizer, f" {word}")) for line in words for word in line} == {1}
    text = "First park 3 more, clearly 12+3=15 points overall\nSecond"
    pieces = "|".join(tokenizer.decode([token]) for token in encode(tokenizer, text))
    assert pieces == "First| park |3| more|,| clearly |12|+|3|=|15| points| overall\n|Second"
    numbers = [tokenizer.decode([token]) for token in encode(tokenizer, "120-21-20")]
    assert numbers == [*"120-21-", "20"]  # digits of other numbers stand alone


@pytest.mark.parametrize("config", [Qwen2Config, LlamaConfig])
def test_a_saved_tokenizer_is_loaded_as_it_was(tokenizer, config, tmp_path):
    config(vocab_size=len(tokenizer)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    loaded = PreTrainedTokenizerFast.from_pretrained(tmp_path)  # AutoTokenizer takes Qwen2's own splitting for qwen2
    for text in (*ODD, "First surely land: duck has 9 so 9=duck\n"):
        ids = encode(tokenizer, text)
        assert encode(loaded, text) == ids
        assert loaded.decode(ids, clean_up_tokenization_spaces=False) == text
    tags = Tags()
    for tag in (tags.bos, tags.eos, tags.think_open, tags.think_close, PAD):
        assert len(encode(loaded, f"x{tag}y")) == 3
    assert (loaded.bos_token, loaded.eos_token, loaded.pad_token) == (tags.bos, tags.eos, PAD)
    assert set(loaded.all_special_tokens) == {tags.bos, tags.eos, PAD}
    assert build_tokenizer().get_vocab() == tokenizer.get_vocab()
    assert sorted(tokenizer.get_vocab().values()) == list(range(len(tokenizer)))
