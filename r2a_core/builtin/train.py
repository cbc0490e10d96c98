"""Training of a built-in reasoner on the CPU: recipe -> Hugging Face model folder.

    out_dir/config.json, model.safetensors, generation_config.json, tokenizer files

Copying from context is the bottleneck of so small a model. Four things make it form: heads of the first layers that
start out attending to the previous token, heads of the middle layers that start as induction heads, a warm-up on
repeated random sequences, and Muon on the matrices. The same recipe gives the same bytes on the same machine.

Muon is Keller Jordan's optimizer (https://github.com/KellerJordan/Muon): momentum whose update is orthogonalised by a
Newton-Schulz iteration with his coefficients. Unlike torch.optim.Muon, it stacks matrices of one shape and iterates in
float32, not one by one in bfloat16, which CPUs multiply slowly; and it has no weight decay.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from r2a_core.builtin.batches import Batch, BatchPlan, batches
from r2a_core.builtin.tokenizer import build_tokenizer
from r2a_core.config import TrainingRecipe
from r2a_core.infra.errors import R2AError

OUTPUT_SCALE = 0.14  # of the matrices that write to the residual stream at the start; small, for tokens to stay legible

QUIET = 0.3  # of the random weights beside those of an induction head


@dataclass(frozen=True)
class TrainingReport:
    """Records the outcome of training."""

    steps: int
    tokens: int  # seen, copy warm-up included
    loss: float  # mean of the last 50 steps, nats, weighted mean over tokens
    parameters: int


def train_reasoner(
    recipe: TrainingRecipe, out_dir: Path, progress: Callable[[int, int, float], None] | None = None
) -> TrainingReport:
    """Trains a reasoner and writes its folder. progress(step, steps, loss) is called after every step.

    Sets torch's thread count to recipe.threads. Raises R2AError when the loss is not finite.
    """
    torch.set_num_threads(recipe.threads)
    tokenizer = build_tokenizer()
    model = build_model(recipe, len(tokenizer), tokenizer)
    optimizers = build_optimizers(model, recipe)
    total = recipe.copy_steps + recipe.steps
    plan = BatchPlan(recipe.seed, recipe.copy_steps, recipe.copy_tokens, recipe.batch_tokens, recipe.mix)
    losses, tokens = [], 0
    model.train()
    for step, batch in zip(range(total), batches(plan, tokenizer), strict=False):
        rate = learning_rate(step, recipe)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["full_rate"] * rate
        losses.append(train_step(model, optimizers, batch, step))
        tokens += batch.ids.numel()
        if progress is not None:
            progress(step + 1, total, losses[-1])
    save(model, tokenizer, out_dir)
    last = losses[-50:]
    return TrainingReport(total, tokens, sum(last) / len(last), sum(p.numel() for p in model.parameters()))


def train_step(model: Any, optimizers: list[torch.optim.Optimizer], batch: Batch, step: int) -> float:
    """Takes one optimizer step; returns the loss before it (nats, weighted mean). Raises R2AError unless finite."""
    hidden = model.model(input_ids=batch.ids[:, :-1], use_cache=False).last_hidden_state  # (sample, token, width)
    chosen = batch.weights[:, 1:] > 0
    weights = batch.weights[:, 1:][chosen]
    losses = cross_entropy(model.lm_head(hidden[chosen]), batch.ids[:, 1:][chosen], reduction="none")
    loss = (losses * weights).sum() / weights.sum()
    if not math.isfinite(value := loss.item()):
        raise R2AError(f"training step {step}: the loss is {value}", "lower muon_rate and adam_rate of the recipe")
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return value


def learning_rate(step: int, recipe: TrainingRecipe) -> float:
    """Returns the share of the full learning rates at a step: rising, flat, then linearly to 0."""
    total, flat = recipe.copy_steps + recipe.steps, recipe.copy_steps + recipe.flat_share * recipe.steps
    return min(1.0, (step + 1) / recipe.ramp_steps, (total - step) / max(total - flat, 1.0))


def build_model(recipe: TrainingRecipe, vocabulary: int, tokenizer: Any) -> Any:
    """Builds a random model with previous-token heads in its first two layers. Raises R2AError for odd sizes."""
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

    if recipe.width % (2 * recipe.n_heads) or recipe.n_heads % recipe.n_kv_heads:
        raise R2AError(
            f"{recipe.n_heads} heads in {recipe.n_kv_heads} groups do not fit a width of {recipe.width}",
            "take n_heads a multiple of n_kv_heads, and width an even multiple of n_heads",
        )
    if recipe.n_layers < 4:
        raise R2AError(f"a reasoner of {recipe.n_layers} layers has no room for its starting heads", "take at least 4")
    make_config, make_model = {
        "qwen2": (Qwen2Config, Qwen2ForCausalLM),
        "llama": (LlamaConfig, LlamaForCausalLM),
    }[recipe.architecture]
    torch.manual_seed(recipe.seed)
    config = make_config(
        vocab_size=vocabulary,
        hidden_size=recipe.width,
        intermediate_size=recipe.mlp_width,
        num_hidden_layers=recipe.n_layers,
        num_attention_heads=recipe.n_heads,
        num_key_value_heads=recipe.n_kv_heads,
        max_position_embeddings=32768,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    config._attn_implementation = "sdpa"
    model = make_model(config)
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    with torch.no_grad():
        initialise(model, recipe)
    return model


def initialise(model: Any, recipe: TrainingRecipe) -> None:
    """Sets scaled random matrices, previous-token heads in layers 0 and 1, induction heads in the middle layers.

    Qwen2 gets the former through its biases. Llama has none: one embedding dimension starts at a constant, and the
    pattern is written into its column of the projections.
    """
    generator = torch.Generator().manual_seed(recipe.seed)
    embedding = model.model.embed_tokens.weight
    embedding.copy_(torch.randn(embedding.shape, generator=generator) * 0.1)
    for name, matrix in model.model.layers.named_parameters():
        if matrix.ndim == 2:
            scale = matrix.shape[1] ** -0.5 * (OUTPUT_SCALE if "o_proj" in name or "down_proj" in name else 1.0)
            matrix.copy_(torch.randn(matrix.shape, generator=generator) * scale)
    if recipe.architecture == "llama" and recipe.previous_token:
        embedding[:, 0] = 0.8
    layers = model.model.layers
    for number in (0, 1):
        if recipe.previous_token:
            write_previous_token(layers[number].self_attn, recipe)
        if recipe.induction:
            write_induction(layers[number].self_attn, layers[recipe.n_layers // 2 - 1 + number].self_attn, recipe)


def write_previous_token(attention: Any, recipe: TrainingRecipe) -> None:
    """Makes the heads of KV group 0 attend to the previous token.

    With rotary frequencies f, a key of ones and a query turned back by f in each pair of dimensions agree best at
    distance 1.
    """
    half = recipe.width // recipe.n_heads // 2
    theta = 10000.0
    frequency = theta ** (-torch.arange(half) / half)
    key = torch.cat([torch.ones(half), torch.zeros(half)]) * recipe.previous_token
    query = torch.cat([torch.cos(frequency), -torch.sin(frequency)]) * recipe.previous_token
    group = recipe.n_heads // recipe.n_kv_heads
    if recipe.architecture == "qwen2":
        attention.q_proj.bias[: group * 2 * half] = query.repeat(group)
        attention.k_proj.bias[: 2 * half] = key
    else:
        attention.q_proj.weight[: group * 2 * half, 0] = query.repeat(group)
        attention.k_proj.weight[: 2 * half, 0] = key


def write_induction(previous: Any, attention: Any, recipe: TrainingRecipe) -> None:
    """Makes the heads of KV group 0 attend where the previous token equals the current one, and copy what they see.

    Keys read what the previous-token heads of an earlier layer write, queries the same of the current token. Only the
    dimensions that rotary positions turn slowly are used, so that the match counts at any distance.
    """
    size = recipe.width // recipe.n_heads
    group = recipe.n_heads // recipe.n_kv_heads
    slow = [dimension for dimension in range(size) if dimension % (size // 2) >= size // 4]
    read = previous.v_proj.weight[: len(slow)]
    written = previous.o_proj.weight.unflatten(1, (recipe.n_heads, size))[:, :group].sum(1)[:, : len(slow)].T
    attention.k_proj.weight[:size] *= QUIET
    attention.k_proj.weight[slow] = recipe.induction * written / written.norm(dim=1, keepdim=True)
    for head in range(group):
        rows = slice(head * size, (head + 1) * size)
        attention.q_proj.weight[rows] *= QUIET
        attention.q_proj.weight[[head * size + dimension for dimension in slow]] = (
            recipe.induction * read / read.norm(dim=1, keepdim=True)
        )
        attention.o_proj.weight[:, rows] = 0.5 * attention.v_proj.weight[:size].T


def build_optimizers(model: Any, recipe: TrainingRecipe) -> list[torch.optim.Optimizer]:
    """Builds Muon for the matrices of the layers and AdamW for the rest. full_rate: learning rate before scheduling."""
    matrices = [p for p in model.model.layers.parameters() if p.ndim == 2]
    inside = {id(p) for p in matrices}
    others = [p for p in model.parameters() if id(p) not in inside]
    muon = Muon([{"params": matrices, "full_rate": recipe.muon_rate}], lr=recipe.muon_rate)
    adam = torch.optim.AdamW(
        [{"params": others, "full_rate": recipe.adam_rate}],
        lr=recipe.adam_rate,
        betas=(0.9, 0.98),
        weight_decay=0.0,
    )
    return [muon, adam]


def save(model: Any, tokenizer: Any, out_dir: Path) -> None:
    """Writes model and tokenizer in Hugging Face format."""
    out_dir.mkdir(parents=True, exist_ok=True)
    model.eval()
    model.save_pretrained(str(out_dir), safe_serialization=True)
    tokenizer.save_pretrained(str(out_dir))


COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # Keller Jordan's: a quintic iteration with a steep slope at 0

ITERATIONS = 5


def orthogonalise(stack: torch.Tensor) -> torch.Tensor:
    """Brings the singular values of matrices (matrix, row, column) near 1 (between about 0.7 and 1.2)."""
    a, b, c = COEFFICIENTS
    tall = stack.shape[-2] > stack.shape[-1]
    x = stack.mT if tall else stack
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised, scaled by sqrt(max(1, rows / columns)). Parameters must be matrices."""

    def __init__(self, params: Iterable[Any], lr: float, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Updates every parameter that has a gradient."""
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[torch.Tensor]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape.setdefault(parameter.shape, []).append(parameter)
            for shape, parameters in by_shape.items():
                updates = orthogonalise(torch.stack([self.momentum_of(each, group) for each in parameters]))
                scale = max(1.0, shape[0] / shape[1]) ** 0.5
                for parameter, update in zip(parameters, updates, strict=True):
                    parameter.add_(update, alpha=-group["lr"] * scale)

    def momentum_of(self, parameter: torch.Tensor, group: dict[str, Any]) -> torch.Tensor:
        """Returns the running gradient, one step ahead."""
        state, gradient = self.state[parameter], parameter.grad
        assert gradient is not None
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(parameter)
        state["momentum"].lerp_(gradient, 1 - group["momentum"])
        return gradient.lerp(state["momentum"], group["momentum"])
