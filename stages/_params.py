"""The records of params.yaml, section by section, and a check of the whole file.

Stages parse only their own sections (r2a_core.config.parse); `check_all_params` is for the doctor, which reads all.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from r2a_core.activations.jobs import CaptureParams
from r2a_core.attention.map_params import MapParams
from r2a_core.attention.scoring import HeadsParams
from r2a_core.attention.statistics import StatisticsConfig
from r2a_core.config import parse
from r2a_core.data.comparison import PAIR_KINDS
from r2a_core.data.prepare import dataset_params
from r2a_core.errors import R2AError
from r2a_core.figures.patching import PatchingFigureParams
from r2a_core.grading.evaluation import EvaluateParams
from r2a_core.models.prepare import model_params
from r2a_core.patching.params import AlignParams, PairCaptureParams, SweepParams
from r2a_core.patching.responding import PairGenerationParams
from r2a_core.patching.statistics import CrossingParams
from r2a_core.report.sources import ReportParams
from r2a_core.traces.shards import GenerateParams


@dataclass(frozen=True)
class RunParams:
    """What runs: keys of `models` and `datasets`."""

    models: tuple[str, ...]
    datasets: tuple[str, ...]
    settings: tuple[Literal["with_reasoning", "without_reasoning"], ...]
    pairs: str


@dataclass(frozen=True)
class PairsParams:
    """How the pairs of activation patching are answered and aligned."""

    generate: PairGenerationParams
    align: AlignParams


@dataclass(frozen=True)
class PatchParams:
    """What is captured, patched and drawn of the pairs."""

    capture: PairCaptureParams
    sweep: SweepParams
    crossing: CrossingParams
    figures: PatchingFigureParams


# One record a section, beside `models` and `datasets`, whose entries have records of their own.
SECTIONS: dict[str, type] = {
    "run": RunParams,
    "generate": GenerateParams,
    "evaluate": EvaluateParams,
    "capture": CaptureParams,
    "attention": StatisticsConfig,
    "heads": HeadsParams,
    "maps": MapParams,
    "pairs": PairsParams,
    "patch": PatchParams,
    "report": ReportParams,
}


def check_all_params(path: Path) -> RunParams:
    """Parses every section of params.yaml. Raises R2AError at the first key that is unknown, missing or impossible."""
    params = read_yaml(path)
    known = [*SECTIONS, "models", "datasets"]
    for section in params:
        if section not in known:
            raise R2AError(f"{path.name} has the unknown section {section!r}", f"its sections are {', '.join(known)}")
    records = {section: parse(record, params.get(section), section) for section, record in SECTIONS.items()}
    for section, check in (("models", model_params), ("datasets", dataset_params)):
        if not isinstance(params.get(section), dict):
            raise R2AError(
                f"{path.name}: {section} must be a mapping of names to entries", "indent the entries below it"
            )
        for name, values in params[section].items():
            check(values, f"{section}.{name}")
    run: RunParams = records["run"]
    check_names(run.models, params["models"], "models")
    check_names(run.datasets, params["datasets"], "datasets")
    check_pairs(run, params["datasets"])
    return run


def check_pairs(run: RunParams, datasets: dict[str, Any]) -> None:
    """Raises R2AError when run.pairs names no dataset of pairs, or one that run.datasets names too."""
    check_names((run.pairs,), datasets, "datasets")
    kind = datasets[run.pairs]["kind"]
    if kind not in PAIR_KINDS:
        raise R2AError(
            f"params.yaml: run.pairs names {run.pairs!r}, a dataset of kind {kind}",
            f"name one of kind {', '.join(PAIR_KINDS)}",
        )
    if run.pairs in run.datasets:
        raise R2AError(
            f"params.yaml: {run.pairs!r} is in run.datasets and in run.pairs", "name it once: two stages would write it"
        )


def read_yaml(path: Path) -> dict[str, Any]:
    """A params file as a mapping. Raises R2AError when it is no YAML or no mapping."""
    import yaml

    try:
        params = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise R2AError(f"{path.name} is not valid YAML: {error}", "mind the indentation and the quotes") from None
    if not isinstance(params, dict):
        raise R2AError(f"{path.name} holds no sections", "take it back from git: git checkout params.yaml")
    return params


def check_names(names: tuple[str, ...], entries: dict[str, Any], section: str) -> None:
    """Raises R2AError when a name of the run has no entry, is not plain or is given twice."""
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
