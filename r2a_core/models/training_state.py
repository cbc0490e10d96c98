"""The state of a fine-tuning, kept every so many steps, so that a training that was stopped goes on.

what is learnt, the optimizer's moments, losses so far <-> one safetensors file in the work store, the newest alone
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from safetensors.torch import load_file, save_file

from r2a_core.config import AdapterRecipe
from r2a_core.infra.shards import WorkStore, fingerprint
from r2a_core.models.low_rank import Tuned

SUFFIX = ".safetensors"  # of kept states


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
