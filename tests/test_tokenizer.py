"""Token texts, sentences and reflection phrases, on cases that can be read."""

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from r2a_core.generation.rows import tagged_ids
from r2a_core.tokenizer import plain_ids, reflection_ranges, sentence_ranges, split_added_tokens, token_pieces


@pytest.fixture(scope="module")
def spaced_tokenizer() -> PreTrainedTokenizerFast:
    """Words carry their leading space as SentencePiece's mark, which decoding drops at the start."""
    words = ["▁so", "▁it", "▁is", "."]
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="."))
    tokenizer.decoder = decoders.Metaspace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def test_pieces_join_to_the_text_and_keep_characters_whole(byte_text):
    for text in ("plain", "née 中文 🙂 ∑", "a\ufffdb", "🙂🙂", "", "tab\t\n"):
        pieces = token_pieces(byte_text.hf, byte_text.hf.encode(text, add_special_tokens=False))
        assert len(pieces) == len(text.encode())
        assert "".join(pieces) == text
    # a split character belongs to its last token; one that is cut off at the end shows as such
    assert token_pieces(byte_text.hf, byte_text.hf.encode("né!")) == ["n", "", "é", "!"]
    pieces = token_pieces(byte_text.hf, byte_text.hf.encode("a🙂")[:-1])
    assert pieces[:3] == ["a", "", ""]
    assert set(pieces[3]) == {"\ufffd"}


def test_leading_spaces_survive(spaced_tokenizer):
    assert token_pieces(spaced_tokenizer, [0, 1, 2, 3]) == ["so", " it", " is", "."]


def test_added_tokens_are_cut_wherever_they_begin():
    names = {"<a>", "<a><a", "ab", "bb"}
    assert split_added_tokens(names, "x<a>abbb") == ["x<", "a>a", "b", "b", "b"]
    assert split_added_tokens(names, "") == [""]
    assert split_added_tokens(names, "<A> a b") == ["<A> a b"]


def test_thousands_of_added_tokens_take_no_minutes(byte_text):
    names = [f"<|reserved_{number}|>" for number in range(2000)]
    hf = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(byte_text.hf.backend_tokenizer.to_str()))
    hf.add_tokens(names)
    tokenizer = replace(byte_text, hf=hf)
    started = time.process_time()
    plain, ids = plain_ids(tokenizer, "".join(names)), tagged_ids(tokenizer, f"{''.join(names)}{'</think>' * 2000}")
    assert time.process_time() - started < 10  # s; it takes less than 1
    assert ids == [*map(hf.convert_tokens_to_ids, names), *[tokenizer.ids.think_close] * 2000]
    assert hf.decode(plain) == "".join(names)
    assert max(plain) < len(byte_text.hf)


SENTENCES = json.loads((Path(__file__).parent / "sentences.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(("pieces", "expected"), SENTENCES)
def test_sentences(pieces, expected):
    offset = 2
    padded = ["x", "y", *pieces, "z"]
    found = sentence_ranges(padded, range(offset, offset + len(pieces)))
    assert [[each.start - offset, each.stop - offset] for each in found] == expected


def test_reflection_is_looked_for_in_the_given_tokens_only():
    pieces = ["Wait", " so", " Wait", ",", " double", "-check", " awaiting", " wait"]
    found = reflection_ranges(pieces, range(1, 7), ("wait", "double-check"))
    assert found == [range(2, 3), range(4, 6)]
