"""What dvc.yaml says of the study, its templates filled in from params.yaml, as DVC itself reads it.

values of dvc.yaml and params.yaml -> `Declared` of one stage and item: its params, code and inputs; `outputs`: every
file and folder that some stage writes.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
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
    """Returns what a stage of dvc.yaml depends on for the model, dataset and setting of `names`."""
    scope = {**params, "item": names}
    places = [filled(place, scope) for place in stage["deps"]]
    code = tuple(place for place in places if place.startswith(CODE))
    keys = tuple(filled(key, scope) for key in stage["params"])
    return Declared(keys, code, tuple(place for place in places if place not in code))


def outputs(stages: Mapping[str, Values], params: Values) -> set[str]:
    """Returns the paths of all files and folders, metrics too, that the stages of dvc.yaml write with these params.

    Raises R2AError when two stages would write the same one.
    """
    paths = Counter(
        filled(path, {**params, "item": names})
        for stage in stages.values()
        for names in items(stage.get("matrix", {}), params)
        for entry in (*stage["outs"], *stage.get("metrics", ()))
        for path in ([entry] if isinstance(entry, str) else entry)
    )
    path, count = paths.most_common(1)[0]
    if count > 1:
        raise R2AError(f"two stages would write {path}", "give that model or dataset another name in params.yaml")
    return set(paths)


def items(matrix: Mapping[str, str | Sequence[str]], params: Values) -> Iterator[dict[str, str]]:
    """Yields the names of every item of a stage; one without names where the stage has no matrix."""
    lists = [value_at(values, params) if isinstance(values, str) else values for values in matrix.values()]
    return (dict(zip(matrix, names, strict=True)) for names in product(*lists))


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
