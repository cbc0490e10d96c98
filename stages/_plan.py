"""What dvc.yaml says of the study, its templates filled in from params.yaml, as DVC itself reads it.

values of dvc.yaml and params.yaml -> `Declared` of one stage and item: its params, code and inputs; `outputs`: every
file and folder that some stage writes, and which.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from r2a_core.infra.errors import R2AError

TEMPLATE = re.compile(r"\$\{([\w.]+)(?:\[(\d+)\])?\}")  # ${item.model}, ${run.datasets[0]}
CODE = ("r2a_core", "stages")  # folders of the checkout; other dependencies are inputs

Values = Mapping[str, Any]  # of params.yaml


@dataclass(frozen=True)
class Declared:
    """The dependencies of one stage and item."""

    params: tuple[str, ...]  # keys of params.yaml, as models.tiny_qwen2
    code: tuple[str, ...]  # files and folders of the checkout
    inputs: tuple[str, ...]  # files and folders of the study


def declared(stage: Values, names: Mapping[str, str], params: Values) -> Declared:
    """Returns what a stage of dvc.yaml depends on for the model, dataset and setting of `names`.

    Those of a reader are `model` and `texts`: its entry in run.readers.
    """
    scope = {**params, "item": {**names, "reader": names}}
    places = [filled(place, scope) for place in stage["deps"]]
    code = tuple(place for place in places if place.startswith(CODE))
    keys = tuple(filled(key, scope) for key in stage["params"])
    return Declared(keys, code, tuple(place for place in places if place not in code))


def outputs(stages: Mapping[str, Values], params: Values) -> dict[str, str]:
    """Returns the paths of all files and folders, metrics too, that the stages of dvc.yaml write with these params.

    Each with its stage as dvc.lock names it. Raises R2AError when two stages would write the same one.
    """
    found: dict[str, str] = {}
    for name, stage in stages.items():
        for suffix, names in items(stage.get("matrix", {}), params).items():
            for entry in (*stage["outs"], *stage.get("metrics", ())):
                for template in [entry] if isinstance(entry, str) else entry:
                    path = filled(template, {**params, "item": names})
                    if path in found:
                        hint = "give that model or dataset another name in params.yaml"
                        raise R2AError(f"two stages would write {path}", hint)
                    found[path] = f"{name}@{suffix}" if suffix else name
    return found


def items(matrix: Mapping[str, str | Sequence[Any]], params: Values) -> dict[str, dict[str, Any]]:
    """Returns the names of every item of a stage, by the item's name in DVC; one without names where it has no matrix.

    DVC names a mapping, such as a reader, by its number in the list: another one takes the name when the list changes.
    """
    lists = [value_at(values, params) if isinstance(values, str) else values for values in matrix.values()]
    found = {}
    for chosen in product(*map(enumerate, lists)):
        names = dict(zip(matrix, chosen, strict=True))
        parts = [value if isinstance(value, str) else f"{key}{number}" for key, (number, value) in names.items()]
        found["-".join(parts)] = {key: value for key, (_, value) in names.items()}
    return found


def filled(text: str, scope: Values) -> str:
    """Puts values in place of the templates of `text`."""
    return TEMPLATE.sub(lambda found: str(value_at(found[0], scope)), text)


def value_at(template: str, scope: Values) -> Any:
    """Returns the value that a template names. Raises R2AError when there is none."""
    found = TEMPLATE.fullmatch(template)
    assert found is not None, template
    try:
        value = at_key(found[1], scope)
        return value[int(found[2])] if found[2] else value
    except (KeyError, IndexError, TypeError):
        raise R2AError(f"dvc.yaml: params.yaml has nothing for {template}", "give it a value in params.yaml") from None


def at_key(key: str, values: Values) -> Any:
    """Returns the value at a key of params.yaml, as run.models. Raises KeyError or TypeError when there is none."""
    for name in key.split("."):
        values = values[name]
    return values
