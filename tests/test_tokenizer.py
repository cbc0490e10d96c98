"""Token texts, sentences and reflection phrases, on cases that can be read."""

import pytest
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from r2a_core.tokenizer import reflection_ranges, sentence_ranges, token_pieces


@pytest.fixture(scope="module")
def spaced_tokenizer() -> PreTrainedTokenizerFast:
    """Words carry their leading space as SentencePiece's mark, which decoding drops at the start."""
    words = ["▁so", "▁it", "▁is", "."]
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="."))
    tokenizer.decoder = decoders.Metaspace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


@pytest.mark.parametrize("text", ["plain", "née 中文 🙂 ∑", "a\ufffdb", "🙂🙂", "", "tab\t\n"])
def test_pieces_join_to_the_text_and_keep_characters_whole(byte_text, text):
    ids = byte_text.hf.encode(text, add_special_tokens=False)
    pieces = token_pieces(byte_text.hf, ids)
    assert len(pieces) == len(text.encode())
    assert "".join(pieces) == text


def test_a_split_character_belongs_to_its_last_token(byte_text):
    assert token_pieces(byte_text.hf, byte_text.hf.encode("né!")) == ["n", "", "é", "!"]


def test_a_character_cut_off_at_the_end_shows_as_such(byte_text):
    pieces = token_pieces(byte_text.hf, byte_text.hf.encode("a🙂")[:-1])
    assert pieces[:3] == ["a", "", ""]
    assert set(pieces[3]) == {"\ufffd"}


def test_leading_spaces_survive(spaced_tokenizer):
    assert token_pieces(spaced_tokenizer, [0, 1, 2, 3]) == ["so", " it", " is", "."]


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        (["A", " b", ".", " C", " d", "."], [(0, 3), (3, 6)]),
        (["A", ".", "5", " b", "."], [(0, 5)]),
        (["\n", "A", ".\n\n", "B", "\n", "C"], [(0, 3), (3, 5), (5, 6)]),
        (["A", ".", "\n", "\n", "B"], [(0, 4), (4, 5)]),
        (["Is", " it", "?!", ' "', "No", '."', " x"], [(0, 3), (3, 6), (6, 7)]),
        (["", "A", "", ". ", "", "B"], [(0, 4), (4, 6)]),
        ([" ", "\n"], []),
        ([], []),
        (["A", ".", " "], [(0, 3)]),
    ],
)
def test_sentences(pieces, expected):
    offset = 2
    padded = ["x", "y", *pieces, "z"]
    found = sentence_ranges(padded, range(offset, offset + len(pieces)))
    assert [(each.start - offset, each.stop - offset) for each in found] == expected


def test_reflection_is_looked_for_in_the_given_tokens_only():
    pieces = ["Wait", " so", " Wait", ",", " double", "-check", " awaiting", " wait"]
    found = reflection_ranges(pieces, range(1, 7), ("wait", "double-check"))
    assert found == [range(2, 3), range(4, 6)]
