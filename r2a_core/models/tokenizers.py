"""A prepared model folder -> its tokenizer, with the tags of params.yaml resolved to single tokens.

data/models/<name>/, as r2a_core.models.pointer describes it -> LoadedTokenizer. No weights are read.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from r2a_core.config import Tags
from r2a_core.infra.errors import R2AError
from r2a_core.infra.memory import no_collection
from r2a_core.models.checks import transformers_errors
from r2a_core.models.pointer import ModelPointer, check_files, from_pretrained_args, read_pointer
from r2a_core.tokenizer import LoadedTokenizer, TagIds


def load_tokenizer(folder: Path) -> LoadedTokenizer:
    """Load the tokenizer of a prepared model, its tags resolved to single tokens. Errors as in `load_model`."""
    return tokenizer_of(read_pointer(folder), folder)


@no_collection()
def tokenizer_of(pointer: ModelPointer, folder: Path) -> LoadedTokenizer:
    """Load the tokenizer that a pointer names. Errors as in `load_model`, about `folder`."""
    check_files(pointer, folder)
    place = from_pretrained_args(pointer, folder, weights=False)
    with transformers_errors(f"the tokenizer of {folder.name}", pointer):
        hf = read_tokenizer(place)
        ends = generation_ends(place)
    try:
        ids = resolve_tags(hf, pointer.tags)
    except R2AError as error:
        raise R2AError(f"{folder}: {error.message}", error.hint) from None
    tags = (ids.bos, ids.eos, ids.think_open, ids.think_close)  # they mean what params.yaml says
    known = set(hf.get_vocab().values())
    others = tuple(token for token in ends if token in known and token not in tags)
    return LoadedTokenizer(hf, pointer.tags, replace(ids, other_ends=others))


def read_tokenizer(place: dict[str, Any]) -> Any:
    """Read the tokenizer that the published tokenizer.json describes; place: see `from_pretrained_args`.

    AutoTokenizer puts the rules of its own class for the architecture in place of the file's (Qwen2's, for one). It is
    used only for models without that file.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast
    from transformers.utils.hub import cached_file

    where_from = {name: value for name, value in place.items() if name != "pretrained_model_name_or_path"}
    name = place["pretrained_model_name_or_path"]
    described = cached_file(name, "tokenizer.json", _raise_exceptions_for_missing_entries=False, **where_from)
    if described is not None:
        return PreTrainedTokenizerFast.from_pretrained(**place)
    return AutoTokenizer.from_pretrained(**place, trust_remote_code=False)


def generation_ends(place: dict[str, Any]) -> list[int]:
    """Reads which tokens end a text from a model's generation_config.json; none where it has no such file."""
    from transformers.utils.hub import cached_file

    where_from = {name: value for name, value in place.items() if name != "pretrained_model_name_or_path"}
    name = place["pretrained_model_name_or_path"]
    absent = {f"_raise_exceptions_for_{what}": False for what in ("missing_entries", "connection_errors")}  # no error
    described = cached_file(name, "generation_config.json", **absent, **where_from)
    found = None if described is None else json.loads(Path(described).read_text(encoding="utf-8")).get("eos_token_id")
    return [] if found is None else found if isinstance(found, list) else [found]


def resolve_tags(tokenizer: Any, tags: Tags) -> TagIds:
    """Returns the token ids of the tags. Raises R2AError naming the tag that is not one token of its own."""

    def single(name: str, tag: str) -> int:
        ids = tokenizer.encode(tag, add_special_tokens=False)
        if len(ids) != 1 or tokenizer.decode(ids, clean_up_tokenization_spaces=False) != tag:
            found = f"is {len(ids)} tokens, not one" if len(ids) != 1 else "is unknown to the tokenizer"
            raise R2AError(f"the tag {name} = {tag!r} {found}", f"correct tags.{name} of this model")
        return ids[0]

    eos, think_open, think_close = (single(name, getattr(tags, name)) for name in ("eos", "think_open", "think_close"))
    if len({eos, think_open, think_close}) < 3:
        raise R2AError("two of the tags eos, think_open and think_close are the same", "correct the tags of this model")
    bos = None if tags.bos is None else single("bos", tags.bos)
    pad = eos if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    for name, token in (("the tag bos", bos), ("the tokenizer's padding token", pad)):
        if token in (think_open, think_close):
            raise R2AError(f"{name} is the same as a tag of the reasoning", "correct the tags of this model")
    return TagIds(bos, eos, think_open, think_close, pad)
