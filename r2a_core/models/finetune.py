"""Low-rank fine-tuning of a base model on texts with reasoning -> a LoRA adapter in PEFT format.

    out_dir/adapter_config.json, adapter_model.safetensors (bfloat16), loss.csv (step, tokens, rate, loss)

Every linear layer of the decoder learns W + scale * B A; of the embedding, the rows of the two tags of the reasoning
are learnt too, since tokens that a base model has never seen may share one row. All else stays as it is. The base is
held in bfloat16, what is learnt in float32. The same recipe gives the same bytes on the same machine, through any
number of interruptions: the state is kept every so many steps.

Each step merges the factors into the weights once, so that a layer costs one product forward and one backward, plus
thin ones; the loss is computed where a token is to be learnt, without keeping logits.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.functional import embedding, linear

from r2a_core.builtin.batches import Batch, batches_of
from r2a_core.builtin.tasks.encode import encode_text
from r2a_core.builtin.texts import TrainingText
from r2a_core.config import AdapterRecipe
from r2a_core.infra.errors import R2AError
from r2a_core.infra.files import write_text_whole
from r2a_core.infra.memory import give_back_memory
from r2a_core.infra.shards import WorkStore, fingerprint
from r2a_core.models.adapter import CONFIG, WEIGHTS, lora_config
from r2a_core.tokenizer import LoadedTokenizer

SORTED_AT_ONCE = 256  # texts; batches are of texts of like length

LOGITS_AT_ONCE = 256  # rows of the vocabulary's width

SUFFIX = ".safetensors"  # of kept states

PREFIX = "base_model.model."  # of names in an adapter's file


@dataclass(frozen=True)
class States:
    """Keeps the states of a training in a work store: the newest one."""

    store: WorkStore
    base: Mapping[str, str]  # what the training depends on beside its recipe
    recipe: AdapterRecipe

    def fingerprint(self, step: int) -> str:
        return fingerprint(**self.base, recipe=self.recipe.model_dump(mode="json"), step=step)

    def last(self) -> dict[str, torch.Tensor] | None:
        """Returns the newest state; None at the start. Raises R2AError when it is damaged."""
        for step in reversed(kept_steps(self.recipe)):
            if self.store.has(name := self.fingerprint(step), SUFFIX):
                return load_file(self.store.shard(name, SUFFIX, lambda path: None))
        return None

    def keep(self, step: int, state: dict[str, torch.Tensor]) -> None:
        """Keeps the state after `step` steps, and none before it."""
        self.store.shard(self.fingerprint(step), SUFFIX, lambda path: save_file(state, path))
        for earlier in kept_steps(self.recipe):
            if earlier < step:
                self.store.drop(self.fingerprint(earlier), SUFFIX)


def kept_steps(recipe: AdapterRecipe) -> list[int]:
    """Lists the steps after which the state is kept, the last among them."""
    return [*range(recipe.checkpoint_steps, recipe.steps, recipe.checkpoint_steps), recipe.steps]


@dataclass
class Progress:
    """Records a training so far, one value per step."""

    losses: list[float] = field(default_factory=list)  # nats, weighted mean over tokens, before the step
    tokens: list[int] = field(default_factory=list)  # in the batch, padding included


def fine_tune(
    recipe: AdapterRecipe,
    model: Any,
    tokenizer: LoadedTokenizer,
    texts: Iterator[TrainingText],
    states: States | None = None,
    progress: Callable[[int, int, float], None] | None = None,
    start: Path | None = None,
) -> tuple[dict[str, torch.Tensor], Progress]:
    """Trains on `texts` (endless, seeded); returns the adapter's tensors by their names in PEFT format, and the course.

    model: a transformers model, which is changed. progress(step, steps, loss) is called after every step. start: folder
    of an adapter to go on from. Sets torch's thread count to recipe.threads. Raises R2AError when the loss is not
    finite, or the adapter does not fit.
    """
    torch.set_num_threads(recipe.threads)
    model.set_attn_implementation("eager")  # texts are short, and the CPU's flash backward in bfloat16 is slow
    tuned = Tuned(model, recipe, tokenizer)
    if start is not None:
        tuned.take(start)
    optimizer = torch.optim.AdamW(tuned.learnt.values(), lr=recipe.learning_rate, betas=(0.9, 0.95), weight_decay=0.0)
    done = Progress()
    if states is not None and (state := states.last()) is not None:
        restore(state, tuned, optimizer, done)
    drawn = enumerate(batches(texts, tokenizer, recipe))
    for step, batch in islice(drawn, len(done.losses), recipe.steps):  # draws the batches of finished steps again
        done.losses.append(tuned.step(batch, optimizer, step))
        done.tokens.append(batch.ids.numel())
        give_back_memory()
        if progress is not None:
            progress(step + 1, recipe.steps, done.losses[-1])
        if states is not None and step + 1 in kept_steps(recipe):
            states.keep(step + 1, snapshot(tuned, optimizer, done))
    return tuned.tensors(), done


def save_adapter(
    recipe: AdapterRecipe, tokenizer: LoadedTokenizer, tensors: dict[str, torch.Tensor], done: Progress, out_dir: Path
) -> None:
    """Writes an adapter in PEFT format, and the loss by step."""
    from peft import LoraConfig, TaskType

    names = [name.removeprefix(PREFIX) for name in tensors]
    layers = sorted(name.removesuffix(".lora_A.weight") for name in names if name.endswith(".lora_A.weight"))
    table = next(name.split(".")[-3] for name in names if name.endswith("trainable_tokens_delta"))
    out_dir.mkdir(parents=True, exist_ok=True)
    config = LoraConfig(
        task_type=TaskType.CAUSAL_LM,
        r=recipe.rank,
        lora_alpha=recipe.alpha,  # type: ignore[arg-type]
        target_modules=sorted({layer.split(".")[-1] for layer in layers}),
        trainable_token_indices={table: [tokenizer.ids.think_open, tokenizer.ids.think_close]},
        inference_mode=True,
    )
    values = {key: sorted(value) if isinstance(value, set) else value for key, value in config.to_dict().items()}
    write_text_whole(out_dir / "adapter_config.json", json.dumps(values, indent=2, sort_keys=True) + "\n")
    save_file(tensors, out_dir / "adapter_model.safetensors", {"format": "pt"})
    rows = zip(done.tokens, done.losses, strict=True)
    lines = [
        f"{step},{tokens},{recipe.learning_rate * rate_share(step, recipe):.8g},{loss:.6f}"
        for step, (tokens, loss) in enumerate(rows)
    ]
    write_text_whole(out_dir / "loss.csv", "\n".join(["step,tokens,rate,loss", *lines]) + "\n")


def rate_share(step: int, recipe: AdapterRecipe) -> float:
    """Returns the share of the full learning rate at a step: rising, flat, then linearly to recipe.final_share."""
    flat = recipe.flat_share * recipe.steps
    past = max(0.0, (step - flat) / max(recipe.steps - flat, 1.0))
    return min(1.0, (step + 1) / recipe.ramp_steps, 1.0 - (1.0 - recipe.final_share) * past)


class MergedLinear(torch.autograd.Function):
    """x W' with W' = W + scale * B A merged beforehand; gradients go to x, A and B."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, layer: "LowRankLinear", a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x, a, b)
        ctx.layer = layer
        return linear(x, layer.merged, layer.bias)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        x, a, b = ctx.saved_tensors
        grad, scale = grads[0], ctx.layer.scale
        rows, grad_rows = x.flatten(0, -2), grad.flatten(0, -2)
        narrow = a.to(x.dtype)
        grad_b = (grad_rows.T @ (rows @ narrow.T)).to(b.dtype) * scale
        grad_a = ((grad_rows @ b.to(x.dtype)).T @ rows).to(a.dtype) * scale
        grad_x = grad @ ctx.layer.merged if ctx.needs_input_grad[0] else None
        return grad_x, None, grad_a, grad_b


class LowRankLinear(nn.Module):
    """A frozen linear layer with a low-rank change that is learnt."""

    merged: torch.Tensor

    def __init__(self, layer: nn.Linear, rank: int, scale: float, generator: torch.Generator) -> None:
        super().__init__()
        self.weight, self.bias, self.scale = layer.weight, layer.bias, scale
        bound = layer.in_features**-0.5
        a = torch.rand(rank, layer.in_features, generator=generator) * 2 * bound - bound
        self.a = nn.Parameter(a.to(layer.weight.device))
        self.b = nn.Parameter(torch.zeros(layer.out_features, rank, device=layer.weight.device))
        self.merge()

    @torch.no_grad()
    def merge(self) -> None:
        """Brings the weights up to date with the factors."""
        a, b = (factor.to(self.weight.dtype) for factor in (self.a, self.b))
        self.merged = torch.addmm(self.weight, b, a, alpha=self.scale)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return MergedLinear.apply(x, self, self.a, self.b)  # type: ignore[return-value]


class TokenLoss(torch.autograd.Function):
    """Weighted mean of the cross entropy, from the last hidden states; gradients go to them and the learnt rows.

    hidden (token, width); weights sum to 1. Gradients are computed at once, some rows of logits at a time.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        learnt: torch.Tensor,
        head: torch.Tensor,
        places: torch.Tensor,
        targets: torch.Tensor,
        weights: torch.Tensor,
    ) -> torch.Tensor:
        total = torch.zeros((), device=hidden.device)
        grad_hidden, grad_learnt = torch.empty_like(hidden), torch.zeros_like(learnt)
        for start in range(0, len(hidden), LOGITS_AT_ONCE):
            part = slice(start, start + LOGITS_AT_ONCE)
            logs = torch.log_softmax(linear(hidden[part], head).float(), dim=-1)
            chosen = targets[part, None]
            total -= (logs.gather(1, chosen)[:, 0] * weights[part]).sum()
            grad = logs.exp_().mul_(weights[part, None])
            grad.scatter_add_(1, chosen, -weights[part, None])
            grad = grad.to(hidden.dtype)
            grad_hidden[part] = grad @ head
            grad_learnt += (grad[:, places].T @ hidden[part]).to(learnt.dtype)
        ctx.save_for_backward(grad_hidden, grad_learnt)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        grad_hidden, grad_learnt = ctx.saved_tensors
        return grad_hidden * grads[0].to(grad_hidden.dtype), grad_learnt * grads[0], None, None, None, None


class Tuned:
    """A model whose linear layers and rows of the embedding learn."""

    def __init__(self, model: Any, recipe: AdapterRecipe, tokenizer: LoadedTokenizer) -> None:
        self.model, self.recipe = model.train().requires_grad_(False), recipe
        self.head, self.table = model.get_output_embeddings().weight, model.get_input_embeddings().weight
        self.table_name = next(name for name, weight in model.named_parameters() if weight is self.table)
        if self.head is not self.table:
            raise R2AError("the base model's embedding is not tied to its output", "fine-tune a model that ties them")
        self.places = torch.tensor([tokenizer.ids.think_open, tokenizer.ids.think_close], device=self.table.device)
        self.rows = nn.Parameter(self.table[self.places].float())
        generator = torch.Generator().manual_seed(recipe.seed)
        self.layers: dict[str, LowRankLinear] = {}
        for name, module in list(model.base_model.named_modules()):
            if isinstance(module, nn.Linear):
                layer = LowRankLinear(module, recipe.rank, recipe.alpha / recipe.rank, generator)
                model.base_model.set_submodule(name, layer)
                self.layers[f"{model.base_model_prefix}.{name}"] = layer

    @property
    def learnt(self) -> dict[str, nn.Parameter]:
        """Names what is learnt as an adapter's file does. PEFT's trainable_tokens_delta holds rows, not differences."""
        found = {}
        for name, layer in self.layers.items():
            found |= {f"{PREFIX}{name}.lora_A.weight": layer.a, f"{PREFIX}{name}.lora_B.weight": layer.b}
        return found | {self.rows_name: self.rows}

    @property
    def rows_name(self) -> str:
        return f"{PREFIX}{self.table_name.removesuffix('.weight')}.token_adapter.trainable_tokens_delta"

    def tensors(self) -> dict[str, torch.Tensor]:
        """Returns the adapter's tensors in bfloat16."""
        return {name: value.detach().to("cpu", torch.bfloat16).contiguous() for name, value in self.learnt.items()}

    @torch.no_grad()
    def take(self, folder: Path) -> None:
        """Starts from the adapter of a folder. Raises R2AError unless it has the factors of this recipe."""
        config, found = lora_config(folder / CONFIG), load_file(folder / WEIGHTS)
        shapes = {name: value.shape for name, value in found.items()}
        if config.lora_alpha != self.recipe.alpha or shapes != {name: p.shape for name, p in self.learnt.items()}:
            raise R2AError(
                f"the adapter {folder} has other factors than the recipe",
                "start from an adapter of the same base with the recipe's rank and alpha",
            )
        for name, parameter in self.learnt.items():
            parameter.copy_(found[name])
        self.merge()

    @torch.no_grad()
    def merge(self) -> None:
        """Brings all weights up to date with what is learnt."""
        for layer in self.layers.values():
            layer.merge()
        self.table[self.places] = self.rows.to(self.table.dtype)

    def loss(self, batch: Batch) -> torch.Tensor:
        """Returns the weighted mean of the cross entropy over the tokens to learn, nats."""
        device = self.table.device
        ids, counts = batch.ids.to(device), batch.weights.to(device)[:, 1:]
        given = ids[:, :-1]
        inputs = embedding(given, self.table)
        for row, place in enumerate(self.places):
            inputs = torch.where((given == place)[..., None], self.rows[row].to(inputs.dtype), inputs)
        hidden = self.model.base_model(inputs_embeds=inputs, use_cache=False).last_hidden_state
        chosen = counts > 0
        weights = counts[chosen] / counts.sum()
        return TokenLoss.apply(hidden[chosen], self.rows, self.head, self.places, ids[:, 1:][chosen], weights)  # type: ignore[return-value]

    def step(self, batch: Batch, optimizer: torch.optim.Optimizer, number: int) -> float:
        """Takes the optimizer step of this number; returns the loss before it. Raises R2AError unless finite."""
        for group in optimizer.param_groups:
            group["lr"] = self.recipe.learning_rate * rate_share(number, self.recipe)
        loss = self.loss(batch)
        if not math.isfinite(value := loss.item()):
            raise R2AError(f"training step {number}: the loss is {value}", "lower learning_rate of the recipe")
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.learnt.values(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        self.merge()
        return value


def snapshot(tuned: Tuned, optimizer: torch.optim.Optimizer, done: Progress) -> dict[str, torch.Tensor]:
    """Returns all that a training needs to go on."""
    state = {"losses": torch.tensor(done.losses, dtype=torch.float64), "tokens": torch.tensor(done.tokens)}
    for name, parameter in tuned.learnt.items():
        moments = optimizer.state[parameter]
        state |= {f"{key} {name}": moments[key].cpu().contiguous() for key in ("exp_avg", "exp_avg_sq", "step")}
        state[f"value {name}"] = parameter.detach().cpu().contiguous()
    return state


@torch.no_grad()
def restore(state: dict[str, torch.Tensor], tuned: Tuned, optimizer: torch.optim.Optimizer, done: Progress) -> None:
    """Puts a training where `snapshot` found it."""
    done.losses, done.tokens = state["losses"].tolist(), state["tokens"].tolist()
    for name, parameter in tuned.learnt.items():
        parameter.copy_(state[f"value {name}"])
        moments = {key: state[f"{key} {name}"] for key in ("exp_avg", "exp_avg_sq", "step")}
        optimizer.state[parameter] = {
            key: value.clone() if key == "step" else value.to(parameter.device) for key, value in moments.items()
        }
    tuned.merge()


def batches(texts: Iterator[TrainingText], tokenizer: LoadedTokenizer, recipe: AdapterRecipe) -> Iterator[Batch]:
    """Returns the batches of a training, the same for the same texts and recipe."""
    random = Random(recipe.seed)
    encoded = (encode_text(text, tokenizer, random) for text in texts)
    return batches_of(encoded, SORTED_AT_ONCE, recipe.batch_tokens, random, tokenizer.ids.pad)
