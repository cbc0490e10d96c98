"""The records of params.yaml, section by section, and a check of the whole file.

Stages parse only their own sections (r2a_core.config.parse); `check_all_params` is for the doctor, which reads all.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from r2a_core.config import (
    AlignParams,
    CaptureParams,
    CrossingParams,
    EvaluateParams,
    GenerateParams,
    HeadsParams,
    JudgeParams,
    MapParams,
    PairCaptureParams,
    PairGenerationParams,
    PatchingFigureParams,
    ReportParams,
    ResourceParams,
    StatisticsConfig,
    SweepParams,
    dataset_params,
    format_value,
    model_params,
    parse,
)
from r2a_core.data.pairs import PAIR_KINDS
from r2a_core.infra.errors import R2AError
from r2a_core.trace import SETTINGS, Setting
from stages._pipeline import read_yaml


@dataclass(frozen=True)
class RunParams:
    """What runs: keys of `models` and `datasets`."""

    models: tuple[str, ...]
    datasets: tuple[str, ...]
    settings: tuple[Setting, ...]
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
    "judge": JudgeParams,
    "evaluate": EvaluateParams,
    "capture": CaptureParams,
    "attention": StatisticsConfig,
    "heads": HeadsParams,
    "maps": MapParams,
    "pairs": PairsParams,
    "patch": PatchParams,
    "report": ReportParams,
    "resources": ResourceParams,
}


def check_all_params(path: Path) -> RunParams:
    """Parses every section of params.yaml. Raises R2AError at the first key that is unknown, missing or impossible."""
    return check_sections(read_yaml(path))


def check_sections(params: dict[str, Any]) -> RunParams:
    """`check_all_params` of a file that was read."""
    known = [*SECTIONS, "models", "datasets"]
    for section in params:
        if section not in known:
            raise R2AError(f"params.yaml has the unknown section {format_value(section)}", f"it has {', '.join(known)}")
    records = {section: parse(record, params.get(section), section) for section, record in SECTIONS.items()}
    for section, check in (("models", model_params), ("datasets", dataset_params)):
        if not isinstance(params.get(section), dict):
            raise R2AError(
                f"params.yaml: {section} must be a mapping of names to entries", "indent the entries below it"
            )
        for name, values in params[section].items():
            check_name(name, section)
            check(values, f"{section}.{name}")
    run: RunParams = records["run"]
    check_names(run.models, params["models"], "models")
    check_names(run.datasets, params["datasets"], "datasets")
    check_names(run.settings, SETTINGS, "settings")
    check_pairs(run, params["datasets"])
    check_mentions(records, params)
    return run


def check_mentions(records: dict[str, Any], params: dict[str, Any]) -> None:
    """Raises R2AError when a section other than `run` names a model or dataset without an entry."""
    maps: MapParams = records["maps"]
    heads: HeadsParams = records["heads"]
    named = {
        "maps.heads": ("models", maps.heads),
        "maps.items": ("datasets", maps.items),
        "maps.spans": ("models", [span.model for span in maps.spans]),
        "maps.spans, dataset": ("datasets", [span.dataset for span in maps.spans]),
        "heads.retrieval.models": ("models", heads.retrieval.models),
    }
    for name, values in params["datasets"].items():
        named[f"datasets.{name}.texts_of"] = ("models", values.get("texts_of") or ())
    for place, (section, names) in named.items():
        for name in names:
            if name not in params[section]:
                raise R2AError(
                    f"params.yaml: {place} names {format_value(name)}, which {section} does not have",
                    f"the {section} are {', '.join(params[section])}",
                )


def check_pairs(run: RunParams, datasets: dict[str, Any]) -> None:
    """Raises R2AError when run.pairs names no dataset of pairs, or one that run.datasets names too."""
    if run.pairs not in datasets:
        raise R2AError(
            f"params.yaml: run.pairs names {format_value(run.pairs)}, which datasets does not have",
            f"the datasets are {', '.join(datasets)}",
        )
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


def check_name(name: Any, section: str) -> None:
    """Raises R2AError for the name of an entry that cannot be a folder's, a command's and a key's."""
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9_]+", name):
        raise R2AError(
            f"params.yaml: {section}: {format_value(name)} is no name", "a name is letters, digits and _; rename it"
        )


def check_names(names: tuple[str, ...], entries: Collection[str], section: str) -> None:
    """Raises R2AError when the run names nothing, a name has no entry or one is given twice."""
    if not names:
        raise R2AError(f"params.yaml: run.{section} names nothing", f"the {section} are {', '.join(entries)}")
    for name in names:
        if name not in entries:
            raise R2AError(
                f"params.yaml: run.{section} names {format_value(name)}, which {section} does not have",
                f"the {section} are {', '.join(entries)}",
            )
        if names.count(name) > 1:
            raise R2AError(f"params.yaml: run.{section} names {name!r} twice", "name it once")
