"""A stand-in for the module vllm, which has no build for the CPU: the parts of its offline API that the project uses.

Names, arguments and results follow vLLM 0.10 and later; unknown arguments are refused. The engine chooses greedily with
transformers, whatever the temperature.
"""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch


@dataclass
class SamplingParams:
    """vllm.SamplingParams: the fields in use, with vLLM's defaults."""

    temperature: float = 1.0
    seed: int | None = None
    stop_token_ids: list[int] | None = None
    ignore_eos: bool = False
    max_tokens: int | None = 16
    detokenize: bool = True


class LLM:
    """vllm.LLM."""

    made: "list[dict[str, Any]]" = []  # noqa: RUF012  arguments of every engine
    asked: "list[SamplingParams]" = []  # noqa: RUF012
    keeps_stop_token = True

    def __init__(
        self,
        model: str,
        *,
        tokenizer: str | None = None,
        trust_remote_code: bool = False,
        dtype: str = "auto",
        load_format: str = "auto",
        revision: str | None = None,
        tokenizer_revision: str | None = None,
        seed: int = 0,
        max_model_len: int | None = None,
        generation_config: str = "auto",
    ) -> None:
        from transformers import AutoModelForCausalLM

        LLM.made.append(
            {name: value for name, value in locals().items() if name not in ("self", "AutoModelForCausalLM")}
        )
        self.model = AutoModelForCausalLM.from_pretrained(model, dtype=dtype).eval()
        self.max_model_len = max_model_len

    def generate(
        self,
        prompts: list[dict[str, list[int]]],
        sampling_params: list[SamplingParams] | None = None,
        *,
        use_tqdm: bool = True,
    ) -> list[Any]:
        assert sampling_params is not None
        assert not use_tqdm
        LLM.asked += sampling_params
        pairs = zip(prompts, sampling_params, strict=True)
        return [self.one(prompt["prompt_token_ids"], params) for prompt, params in pairs]

    @torch.no_grad()
    def one(self, prompt: list[int], params: SamplingParams) -> Any:
        assert params.ignore_eos
        stops, ids, reason = params.stop_token_ids or [], list(prompt), "length"
        for _ in range(params.max_tokens or 0):
            ids.append(int(self.model(torch.tensor([ids])).logits[0, -1].argmax()))
            if ids[-1] in stops:
                reason = "stop"
                break
        made = ids[len(prompt) :]
        if reason == "stop" and not LLM.keeps_stop_token:
            made = made[:-1]
        return SimpleNamespace(outputs=[SimpleNamespace(token_ids=tuple(made), finish_reason=reason)])
