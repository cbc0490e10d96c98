"""Which stages `make repro` runs side by side on a CPU: those of different datasets, which do not read one another.

dvc.yaml, params.yaml -> `phases`: one after the other, each of tasks that may run at the same time, each of stages of
DVC that one `dvc repro --single-item` runs in this order (without that, DVC locks whatever they need). What no phase
names is left to a last `dvc repro` of everything.
"""

import os
from collections.abc import Iterable, Mapping
from typing import Any

from r2a_core.infra.environment import chosen, cores_from
from stages._plan import items

MOST = 4  # lanes, where R2A_LANES does not say: each holds a model, and DVC writes for one at a time
PAIRS = ("select_pairs", "generate_pairs", "pairs", "capture_pairs", "patch")  # need prepared models and pairs alone
SLOWEST = "figures_attention"  # takes longer than all other figures together

Phase = list[list[str]]


def lanes(params: Mapping[str, Any], cores: int) -> int:
    """Returns how many tasks run at a time: R2A_LANES, else one on a GPU and with models that are not built in."""
    given = cores_from("R2A_LANES", cores)
    if given is not None:
        return given
    run = params["run"]
    names = [*run["models"], *(reader["model"] for reader in run["readers"])]
    small = all(is_small(params["models"][name]) for name in names)
    return min(MOST, cores) if small and chosen(os.environ.get("R2A_DEVICE", "auto")) == "cpu" else 1


def is_small(model: Mapping[str, Any]) -> bool:
    """Tells whether a model is built in, so that several fit into memory: trained here, or part of a package."""
    return model["kind"] == "train" or model.get("package") is not None


def phases(stages: Mapping[str, Any], params: Mapping[str, Any]) -> list[Phase]:
    """Returns the phases of a study: `heads` needs all datasets, and what follows it in dvc.yaml needs heads."""
    names = list(stages)
    prepare = [name for name in names if name.startswith("prepare_")]
    of_dataset = [name for name in names if "dataset" in stages[name].get("matrix", {}) and name not in prepare]
    heads = names.index("heads")
    before = [name for name in of_dataset if names.index(name) < heads]
    after = [name for name in of_dataset if names.index(name) > heads]

    def task(chosen: Iterable[str], dataset: str | None = None) -> list[str]:
        return [
            f"{name}@{suffix}" if suffix else name
            for name in chosen
            for suffix, item in items(stages[name].get("matrix", {}), params).items()
            if dataset in (None, item.get("dataset"))
        ]

    datasets = params["run"]["datasets"]
    figures = [name for name in names if name.startswith("figures_")]
    return [
        [task(prepare)],
        [task(PAIRS), *(task(before, dataset) for dataset in datasets)],
        [task(["heads"])],
        [task(after, dataset) for dataset in datasets],
        [[SLOWEST], ["instruments", *(name for name in figures if name != SLOWEST)]],
    ]
