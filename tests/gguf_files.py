"""Small models written as GGUF files, as llama.cpp writes them."""

from pathlib import Path
from typing import Any

import gguf
import torch
from transformers import LlamaConfig, LlamaForCausalLM

UNUSED = ("<spare_1>", "<spare_2>", "<spare_3>")
NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def tiny_llama(seed: int = 0) -> Any:
    """A random Llama with tied embeddings, of 2 layers and 4 heads (2 of keys), over bytes and six more tokens."""
    torch.manual_seed(seed)
    sizes: dict[str, Any] = {
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "max_position_embeddings": 2048,
    }
    heads: dict[str, Any] = {"num_attention_heads": 4, "num_key_value_heads": 2}
    config = LlamaConfig(vocab_size=257 + 2 + len(UNUSED), tie_word_embeddings=True, **sizes, **heads)
    config.initializer_range = 0.2
    return LlamaForCausalLM(config).eval()


def write_gguf(path: Path, model: Any, architecture: str = "llama", quantised: bool = False) -> None:
    """Writes a Llama with a byte-level tokenizer; `quantised`: matrices as Q8_0, else all as F32."""
    config = model.config
    writer = gguf.GGUFWriter(str(path), architecture)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_vocab_size(config.vocab_size)
    printable = [chr(code) for code in [*range(33, 127), *range(161, 173), *range(174, 256)]]
    alphabet = [*printable, *(chr(256 + number) for number in range(256 - len(printable)))]
    tokens = [*alphabet, "he", "<s>", "</s>", *UNUSED]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.NORMAL] * 257 + [gguf.TokenType.CONTROL] * (len(tokens) - 257))
    writer.add_token_merges(["h e"])
    writer.add_bos_token_id(257)
    writer.add_eos_token_id(258)
    for name, weight in model.named_parameters():
        place = name.removesuffix(".weight")
        if place.startswith("model.layers."):
            _, _, layer, place = place.split(".", 3)
            new = f"blk.{layer}.{NAMES[place]}.weight"
        else:
            new = f"{NAMES[place]}.weight"
        values = weight.detach().clone()
        if "_proj" in place and place[-6] in "qk":  # llama.cpp turns neighbouring dimensions, transformers halves
            heads = config.num_attention_heads if place.endswith("q_proj") else config.num_key_value_heads
            values = values.view(heads, 2, -1, values.shape[1]).transpose(1, 2).reshape(values.shape)
        array = values.numpy()
        if quantised and array.ndim == 2:
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(new, gguf.quants.quantize(array, kind), raw_dtype=kind)
        else:
            writer.add_tensor(new, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
