"""What the architecture of a model fixes: sizes of its heads, and how long a text its rotary positions allow.

a transformers config or model -> numbers in a head, heads of keys and values, bytes per token, most tokens of a text;
and the model made to refuse longer ones
"""

from typing import Any

from r2a_core.infra.errors import R2AError


def head_size(text: Any) -> int:
    """Numbers in one head's query, key or value, from the text part of a transformers config."""
    return getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads


def n_kv_heads(text: Any) -> int:
    """Heads of keys and values in a layer, from the text part of a transformers config: all heads without GQA."""
    return getattr(text, "num_key_value_heads", None) or text.num_attention_heads


def kv_bytes(model: Any) -> int:
    """Bytes of the keys and values of one token in one layer."""
    text = model.config.get_text_config()
    return 2 * n_kv_heads(text) * head_size(text) * model.dtype.itemsize


def rotary_limit(config: Any) -> int | None:
    """Returns the tokens beyond which rotary positions depend on the length of the text; None = never.

    That is so with the scalings `dynamic` and `longrope`: at some length they turn all keys of a text, those in a cache
    excepted, and with them the keys of other texts in the batch.
    """
    text = config.get_text_config()
    found = getattr(text, "rope_parameters", None) or {}
    limits = []
    for each in (found, *found.values()):  # of all layers, or by layer type
        kind = each.get("rope_type") if isinstance(each, dict) else None
        if kind == "longrope":
            limits.append(each["original_max_position_embeddings"])
        elif kind == "dynamic":
            limits.append(text.max_position_embeddings)
    return min(limits, default=None)


def bounded(model: Any) -> Any:
    """Returns the model, which now raises R2AError at a text beyond its `rotary_limit`."""
    limit = rotary_limit(model.config)

    def check(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        positions = kwargs["position_ids"] if "position_ids" in kwargs else args[1]
        last = int(positions.max())
        if limit is not None and last >= limit:
            raise beyond_limit(type(model).__name__, last + 1, limit)

    if limit is not None:
        for module in model.modules():
            if hasattr(module, "rope_type"):
                module.register_forward_pre_hook(check, with_kwargs=True)
    return model


def beyond_limit(name: str, n_tokens: int, limit: int) -> R2AError:
    """Returns the error of a text that is too long for rotary positions that do not depend on its length."""
    return R2AError(
        f"a text of {n_tokens} tokens: beyond {limit} the rotary scaling of {name} changes with the length of the text",
        "lower max_new_tokens or shorten the prompts, or give the model's config.json the scaling yarn, linear or none",
    )
