"""Responses by vLLM's offline engine, which batches continuously on a GPU.

prompt token ids -> response token ids. Every response has a seed of its own, but vLLM draws its own random numbers and
its rounding depends on what it batches: texts differ from those of the transformers back end, and, on another machine,
from themselves.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from r2a_core.config import GenerateParams
from r2a_core.generation.decode import GenerationRequest
from r2a_core.generation.sampling import request_seed
from r2a_core.infra.errors import MissingPrerequisite, R2AError
from r2a_core.models.checks import transformers_errors
from r2a_core.models.load import choose_device
from r2a_core.models.pointer import from_pretrained_args, read_pointer
from r2a_core.models.tokenizers import load_tokenizer

PROMPT_TOKENS = 4096  # room for a prompt, beside the response


@dataclass(frozen=True)
class VllmBackend:
    """A model in a vLLM engine."""

    engine: Any  # vllm.LLM
    ends: tuple[int, ...]  # tokens that end a text, the tag eos first
    max_tokens: int  # prompt and response
    config: GenerateParams

    def respond(self, requests: Sequence[GenerationRequest]) -> list[tuple[int, ...]]:
        """Returns the token ids of one response per request, final EOS included.

        Raises R2AError for a prompt that leaves no room for a response.
        """
        for request in requests:
            if len(request.prompt_ids) >= self.max_tokens:
                raise R2AError(
                    f"the prompt of {request.item_id} has {len(request.prompt_ids)} tokens, the engine holds "
                    f"{self.max_tokens} of prompt and response",
                    "use the transformers back end, or take the question out",
                )
        prompts = [{"prompt_token_ids": list(request.prompt_ids)} for request in requests]
        outputs = self.engine.generate(prompts, [self.params(request) for request in requests], use_tqdm=False)
        return [self.response(output.outputs[0]) for output in outputs]

    def params(self, request: GenerationRequest) -> Any:
        """Returns vLLM's SamplingParams of one response.

        The tag eos ends it, and what the model's generation config names besides.
        """
        from vllm import SamplingParams  # type: ignore[import-not-found]

        return SamplingParams(
            temperature=self.config.temperature,
            max_tokens=min(self.config.max_new_tokens, self.max_tokens - len(request.prompt_ids)),
            seed=request_seed(self.config.seed, request.item_id, request.run),
            stop_token_ids=list(self.ends),
            ignore_eos=True,
            detokenize=False,
        )

    def response(self, completion: Any) -> tuple[int, ...]:
        """Returns the token ids of a completion, the EOS that ended it included."""
        ids = tuple(completion.token_ids)
        ended = completion.finish_reason == "stop"
        return ids if not ended or (ids and ids[-1] in self.ends) else (*ids, self.ends[0])


def load_engine(folder: Path, device: str, config: GenerateParams) -> VllmBackend:
    """Loads the engine of a prepared model, on the first GPU that CUDA_VISIBLE_DEVICES names.

    Raises MissingPrerequisite without vLLM, a GPU or the model's files.
    """
    os.environ.setdefault("VLLM_WORKER_MULTIPROC_METHOD", "spawn")  # a fork could not use CUDA after this process has
    try:
        from vllm import LLM  # type: ignore[import-not-found]
    except ImportError as error:
        raise MissingPrerequisite(
            f"vLLM cannot be used: {error}", "pip install '.[vllm]', or take the back end transformers"
        ) from None
    target = choose_device(device)
    if target.type != "cuda" or target.index:
        raise MissingPrerequisite(
            f"the back end vllm needs a GPU, and the first one it sees; the device is {target}",
            "choose a GPU by CUDA_VISIBLE_DEVICES, or take the back end transformers",
        )
    pointer = read_pointer(folder)
    if pointer.adapter is not None:
        raise R2AError(
            f"{folder.name} has an adapter, which the back end vllm does not merge", "take the back end transformers"
        )
    ids = load_tokenizer(folder).ids
    place = from_pretrained_args(pointer, folder, weights=True)
    limit = min(context_length(place, pointer, folder.name), PROMPT_TOKENS + config.max_new_tokens)
    engine = LLM(
        model=local_place(place),
        tokenizer=local_place(from_pretrained_args(pointer, folder, weights=False)),
        revision=place.get("revision"),
        tokenizer_revision=place.get("revision"),
        dtype=pointer.dtype,
        load_format="safetensors",
        max_model_len=limit,
        seed=config.seed,
        trust_remote_code=False,
        generation_config="vllm",
    )
    return VllmBackend(engine, ids.ends, limit, config)


def context_length(place: dict[str, Any], pointer: Any, name: str) -> int:
    """Returns the most tokens that the model's config allows."""
    from transformers import AutoConfig

    with transformers_errors(f"the config of {name}", pointer):
        return AutoConfig.from_pretrained(**place, trust_remote_code=False).get_text_config().max_position_embeddings


def local_place(place: dict[str, Any]) -> str:
    """Returns a folder of this machine where the files are here, else the id of the Hub."""
    name = place["pretrained_model_name_or_path"]
    if not place["local_files_only"] or Path(name).is_dir():
        return name
    from huggingface_hub import snapshot_download

    return snapshot_download(name, revision=place["revision"], local_files_only=True)
