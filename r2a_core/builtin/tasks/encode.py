"""Training texts -> token ids and their weights, with the tokenizer of any model that has tags.

The ids are those that generation builds: prompts by r2a_core.prompts, and tags put in by id.
"""

from collections.abc import Sequence
from itertools import accumulate
from random import Random

from r2a_core.builtin.batches import LONGEST_PADDING, EncodedText
from r2a_core.builtin.pieces import Piece, TrainingText
from r2a_core.tokenizer import LoadedTokenizer


def encode_text(text: TrainingText, tokenizer: LoadedTokenizer, rng: Random) -> EncodedText:
    """Encodes BOS + prompt + <think> + thinking + </think> + answer + EOS; what is given has weight 0.

    rng: draws the padding of padded texts, up to LONGEST_PADDING tokens before BOS and after each tag.
    """
    ids, encoded = tokenizer.ids, EncodedText([], [])
    pads = [rng.randint(0, LONGEST_PADDING) if text.padded and rng.random() < 0.7 else 0 for _ in range(3)]
    encoded.add([ids.pad] * pads[0] + ([] if ids.bos is None else [ids.bos]), 0.0)
    add_pieces(encoded, (Piece(text.prompt, 0.0),), tokenizer)
    encoded.add([ids.think_open] + [ids.pad] * pads[1], 0.0)
    add_pieces(encoded, text.thinking[:1], tokenizer)  # by itself, as prompts end there
    add_pieces(encoded, text.thinking[1:], tokenizer)
    encoded.add([ids.think_close], text.thinking[-1].weight)
    encoded.add([ids.pad] * pads[2], 0.0)
    add_pieces(encoded, text.answer, tokenizer)
    encoded.add([ids.eos], 1.0)
    return encoded


def add_pieces(encoded: EncodedText, pieces: Sequence[Piece], tokenizer: LoadedTokenizer) -> None:
    """Adds the tokens of the joined pieces; a token has the weight of the piece it ends in."""
    ends = list(accumulate(len(piece.text) for piece in pieces))
    tokens = tokenizer.hf(
        "".join(piece.text for piece in pieces), add_special_tokens=False, return_offsets_mapping=True
    )
    place = 0
    for token, (_, end) in zip(tokens["input_ids"], tokens["offset_mapping"], strict=True):
        while ends[place] < end:
            place += 1
        encoded.add([token], pieces[place].weight)
