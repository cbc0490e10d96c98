"""params.yaml and dvc.yaml, read as DVC reads them, and which params the one declares for a stage of the other.

DVC's own reader would take seconds a stage, for it reads dvc.lock too, and would fail while another dvc writes that.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from r2a_core.config import read_yaml
from r2a_core.infra.errors import R2AError

NAMED = re.compile(r"\$\{([\w.]+)\}")  # ${run.models}, ${item.model}


def declared_params(root: Path, stage: str) -> dict[str, Any]:
    """The params that dvc.yaml declares for a stage ("generate@tiny_qwen2-arithmetic-with_reasoning"), and no others.

    root: folder of dvc.yaml and params.yaml. Raises R2AError for a stage that dvc.yaml does not have or whose item is
    not in its matrix, and for params that params.yaml does not have.
    """
    params = read_yaml(root / "params.yaml")
    name, _, item = stage.partition("@")
    stages = read_yaml(root / "dvc.yaml").get("stages", {})
    if name not in stages:
        raise R2AError(f"dvc.yaml has no stage {name}", f"the stages are {', '.join(stages)}")
    known = params | {"item": matrix_item(stages[name].get("matrix", {}), item, params)}
    found: dict[str, Any] = {}
    for entry in stages[name].get("params", ()):
        key = NAMED.sub(lambda place: str(value_at(known, place[1])), entry)
        *sections, last = key.split(".")
        section = found
        for each in sections:
            section = section.setdefault(each, {})
        section[last] = value_at(params, key)
    return found


def matrix_item(matrix: Mapping[str, Any], item: str, params: Mapping[str, Any]) -> dict[str, str]:
    """The values of one item, "tiny_qwen2-arithmetic", by axis. Raises R2AError for a value that is not listed."""
    values = dict(zip(matrix, item.split("-"), strict=False))
    for axis, listed in matrix.items():
        named = NAMED.fullmatch(str(listed))
        found = value_at(params, named[1]) if named else listed
        choices = [str(each) for each in found] if isinstance(found, list) else []
        if values.get(axis) not in choices:
            place = f"{named[1]} in params.yaml" if named else "the matrix in dvc.yaml"
            raise R2AError(
                f"{place} does not name {values.get(axis)!r}",
                f"add it there, or choose from {', '.join(choices)}",
            )
    return values


def value_at(values: Any, place: str) -> Any:
    """The value at "datasets.arithmetic" of mappings in one another. Raises R2AError when there is none."""
    for key in place.split("."):
        if not isinstance(values, Mapping) or key not in values:
            raise R2AError(f"params.yaml has no {place}", "add it, or take what names it out of run")
        values = values[key]
    return values
