"""The tokenizer of the built-in models: byte-level, so that any text round-trips, with DeepSeek's special tokens.

Output: a PreTrainedTokenizerFast. Words of the built-in texts are single tokens. Things and numbers that an answer
copies leave the space before them to the word there, so that they are the same tokens at every place; numbers above 20
are split into digits. Other text falls back to merges of frequent English syllables and then to bytes. Built from word
lists alone: the same ids every time.
"""

import re
from typing import Any

from r2a_core.builtin.facts import DOMAINS, NAMES, OBJECTS, PLACES
from r2a_core.builtin.questions import ORDINALS, WORDS
from r2a_core.builtin.texts import LEADS, MIDDLES, TAILS
from r2a_core.config import Tags

PAD = "<｜▁pad▁｜>"

TAGS = Tags()

FRAME_WORDS = """
 has . , ? = + - * : ( ) { } the How many now Considering which is or speed price in on so
 Please reason step by and put your final answer within \\boxed but not overthinking Okay I think have finished thinking
 gets hence Wait that holds for Alternatively Thus count one Final sure done
"""

BEFORE_VALUES = "has gets or is so hence , : ?"

ENGLISH = """
 a an of to it be as was are with this from we can let so if then by he his her they you my me do does did what when
 where there their will would could should about into out up more most some any all each two three four first second
 next last
 time way number value point line side sum term case set find get use need make know see check same equal equals total
 double square root answer because since therefore However But So Let we're it's don't hmm right left okay actually
 maybe ing ed er est ly tion sion ment ness able ible ive ous al ic ity re un in en de con com pre pro per dis ex ation
 th he an in er on at st nd ou ea ar or es is it le ve te se ll ss ch sh ck qu ra ro ri la li lo ma mo me
 frac cdot sqrt times left right text begin end pi
"""

WORD = re.compile(r"\s*(\S+)")


def build_tokenizer() -> Any:
    """Builds the tokenizer, a transformers PreTrainedTokenizerFast."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = single_words()
    vocabulary, merges = byte_pairs(words, [spelled(word) for word in ENGLISH.split()])
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(  # type: ignore[assignment]
        [
            pre_tokenizers.Split(Regex(cut_pattern()), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    specials = [TAGS.bos, TAGS.eos, PAD]
    tokenizer.add_special_tokens([AddedToken(str(tag), normalized=False, special=True) for tag in specials])
    tokenizer.add_tokens(
        [AddedToken(tag, normalized=False, special=False) for tag in (TAGS.think_open, TAGS.think_close)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=TAGS.bos,
        eos_token=TAGS.eos,
        pad_token=PAD,
        clean_up_tokenization_spaces=False,
        model_max_length=32768,
    )


def cut_pattern() -> str:
    """Returns the regular expression whose successive matches are the pre-tokens of a text."""
    things = "|".join(sorted(copied_words(), key=lambda word: (-len(word), word)))
    spaced = rf"(?: (?=(?:{things})\b|\d))?"
    number = rf"(?:(?<!\d)(?:1\d|20)(?!\d)|\d)(?:=(?=(?:{things})\b))?"
    ends = "|".join(free_words(TAILS))
    return rf"\b(?:{things})\b|{number}| (?:{ends})\n|\n\n|\n| ?\\?[^\W\d_]+{spaced}| ?[^\s\w]{spaced}|\s|[\s\S]"


def copied_words() -> list[str]:
    """Lists words that occur after a space and after a brace or a line start: one token in every place."""
    return [*ORDINALS, *(thing for domain in DOMAINS for thing in domain.things)]


def free_words(*kinds: tuple[tuple[str, ...], ...]) -> list[str]:
    """Lists the free words of all lines."""
    return [word for lines in kinds for words in lines for word in words]


def single_words() -> list[str]:
    """Lists the pre-tokens of the built-in texts that are one token each, with and without surrounding spaces."""
    contexts = [word for domain in DOMAINS for word in (*domain.contexts, *domain.comparators)]
    spaced = [
        *FRAME_WORDS.split(),
        *NAMES,
        *OBJECTS,
        *PLACES,
        *contexts,
        *free_words(LEADS, MIDDLES, TAILS),
        *WORDS.values(),
    ]
    capital = [word for word in spaced if word[0].isupper() or not word[0].isalpha()]
    lower = [f" {word}" for word in spaced if word[0].isalpha() or word[0] in "\\("]
    before = [f"{'' if word[0].isupper() or not word[0].isalpha() else ' '}{word} " for word in BEFORE_VALUES.split()]
    before += [*(f" {word}\n" for word in free_words(TAILS)), "\n\n"]
    before += [*(f" {word} " for word in (*free_words(LEADS), *PLACES)), ". ", *(f"{rank}=" for rank in range(1, 10))]
    return list(dict.fromkeys([*copied_words(), *(str(count) for count in range(10, 21)), *capital, *lower, *before]))


def spelled(text: str) -> str:
    """Spells a text in the alphabet of byte-level tokenizers: one printable character per byte."""
    return "".join(alphabet()[byte] for byte in text.encode("utf-8"))


def alphabet() -> dict[int, str]:
    """Maps each byte to a printable character: itself where printable, else one from 256 on."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + index) for index, byte in enumerate(others)}


def byte_pairs(words: list[str], syllables: list[str]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Builds vocabulary (token -> id) and merges: bytes, whole words, syllables with and without a leading space.

    Whole words need no merges: a pre-token that is in the vocabulary is used directly.
    """
    tokens = dict.fromkeys(alphabet()[byte] for byte in range(256))
    tokens |= dict.fromkeys(spelled(word) for word in words)
    merges: dict[tuple[str, str], None] = {}
    wanted = dict.fromkeys([*syllables, *(spelled(" ") + syllable for syllable in syllables)])
    for target in sorted(wanted, key=lambda text: (len(text), text)):
        pieces = split(target, list(merges))
        while len(pieces) > 1:
            merges[pieces[0], pieces[1]] = None
            tokens[pieces[0] + pieces[1]] = None
            pieces = [pieces[0] + pieces[1], *pieces[2:]]
    return {token: number for number, token in enumerate(tokens)}, list(merges)


def split(word: str, merges: list[tuple[str, str]]) -> list[str]:
    """Splits a word into its pieces after all merges, in order."""
    pieces = list(word)
    for left, right in merges:
        index = 0
        while index < len(pieces) - 1:
            if (pieces[index], pieces[index + 1]) == (left, right):
                pieces[index : index + 2] = [left + right]
            index += 1
    return pieces
