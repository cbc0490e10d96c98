"""The records of params.yaml, section by section, and a check of the whole file.

Stages parse only their own sections (r2a_core.config.parse); `check_all_params` is for the doctor, which reads every one.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from r2a_core.config import parse
from r2a_core.data.prepare import dataset_params
from r2a_core.errors import R2AError
from r2a_core.models.prepare import model_params


@dataclass(frozen=True)
class RunParams:
    """What runs: keys of `models` and `datasets`."""

    models: tuple[str, ...]
    datasets: tuple[str, ...]
    settings: tuple[str, ...]


def check_all_params(path: Path) -> RunParams:
    """Parses every section of params.yaml. Raises R2AError at the first key that is unknown, missing or impossible."""
    import yaml

    try:
        params = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise R2AError(f"{path.name} is not valid YAML: {error}", "mind the indentation and the quotes") from None
    run = parse(RunParams, params.get("run"), "run")
    check_names(run.models, params["models"], "models")
    check_names(run.datasets, params["datasets"], "datasets")
    for name, values in params["models"].items():
        model_params(values, f"models.{name}")
    for name, values in params["datasets"].items():
        dataset_params(values, f"datasets.{name}")
    return run


def check_names(names: tuple[str, ...], entries: dict[str, Any], section: str) -> None:
    """Raises R2AError when a name of the run has no entry, holds a dot or is given twice."""
    for name in names:
        if name not in entries:
            raise R2AError(
                f"params.yaml: run.{section} names {name!r}, which {section} does not have",
                f"the {section} are {', '.join(entries)}",
            )
        if not name.replace("_", "").isalnum():
            raise R2AError(f"params.yaml: {section}.{name}: a name is letters, digits and _", "rename it")
        if names.count(name) > 1:
            raise R2AError(f"params.yaml: run.{section} names {name!r} twice", "name it once")
