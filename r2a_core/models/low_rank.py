"""LoRA training: of a frozen base model, a low-rank change of every linear layer and two embedding rows are trained.

a transformers model, AdapterRecipe, Batch of tokens -> loss, gradients, the adapter's tensors by their names in PEFT

Every linear layer of the decoder learns W + scale * B A; of the embedding, the rows of the two tags of the reasoning
are learnt too, since tokens that a base model has never seen may share one row. All else stays as it is. What is learnt
is float32. The factors are merged into the weights once a step, so that a layer costs one product forward and one
backward, plus thin ones; the loss is computed where a token is to be learnt, without keeping logits.
"""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn.functional import embedding, linear

from r2a_core.builtin.batches import Batch
from r2a_core.config import AdapterRecipe
from r2a_core.infra.errors import R2AError
from r2a_core.models.adapter import CONFIG, WEIGHTS, lora_config
from r2a_core.tokenizer import LoadedTokenizer

LOGITS_AT_ONCE = 256  # rows of the vocabulary's width

PREFIX = "base_model.model."  # of names in an adapter's file


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
