"""What a page is made from: a study's names, params and files. An absent file is a gap, a damaged one an error.

StudyPaths, params -> ReportInputs; path, columns -> frame or None.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from r2a_core.config import (
    CrossingParams,
    EvaluateParams,
    KnockoutParams,
    PerturbParams,
    ReportParams,
    SentencesParams,
    WalksParams,
    WalkThresholds,
    WithoutMode,
)
from r2a_core.infra import files
from r2a_core.paths import StudyPaths

WITH_REASONING = "with_reasoning"

Gaps = list[dict[str, str]]  # what the page lacks: part, what, and the stage that makes it, in the order of the page

Records = Sequence[Mapping[str, Any]]  # of a section


@dataclass(frozen=True)
class ReportInputs:
    """A study as the page sees it; none of its files need exist."""

    paths: StudyPaths
    models: Sequence[str]
    readers: Mapping[str, str]  # model: the model whose traces it reads
    datasets: Sequence[str]
    settings: Sequence[str]
    values: Mapping[str, Any]  # the params of all stages, to be listed
    params: ReportParams
    evaluate: EvaluateParams
    crossing: CrossingParams
    knockout: KnockoutParams
    perturb: PerturbParams
    sentences: SentencesParams
    walk: WalkThresholds
    walks: WalksParams
    without_mode: WithoutMode  # what stands in the place of the reasoning in the setting without it

    @property
    def runs(self) -> list[tuple[str, str]]:
        """Every model and dataset, models first."""
        return [(model, dataset) for model in self.models for dataset in self.datasets]


def read_if_there(path: Path, columns: Sequence[str], stage: str) -> pl.DataFrame | None:
    """Reads columns of a parquet file, None where it is absent. Raises R2AError when it is damaged or lacks one."""
    return files.read_frame(path, columns, stage) if path.is_file() else None


@dataclass(frozen=True)
class Measured:
    """What a stage measures of each model and dataset: its part of the page, and the words where it is not there."""

    part: str
    stage: str
    subject: str
    absent: str
    empty: str  # the first table has no rows


def read_runs(
    inputs: ReportInputs,
    measured: Measured,
    tables: Mapping[Callable[[str, str], Path], Mapping[str, Any]],
    gaps: Gaps,
) -> dict[str, dict[str, list[pl.DataFrame]]]:
    """Reads tables by model and dataset; where one is absent, or the first is empty, there are none but a gap.

    tables: schema by the method of StudyPaths that names the file.
    """
    found: dict[str, dict[str, list[pl.DataFrame]]] = {}
    for model, dataset in inputs.runs:
        read = [read_if_there(path(model, dataset), list(schema), measured.stage) for path, schema in tables.items()]
        frames = [frame for frame in read if frame is not None]
        if len(frames) == len(read) and not frames[0].is_empty():
            found.setdefault(model, {})[dataset] = frames
        else:
            what = measured.absent if len(frames) < len(read) else measured.empty
            add_gap(gaps, measured.part, f"the {measured.subject} of {model} on {dataset} {what}", measured.stage)
    return found


def add_gap(gaps: Gaps, part: str, what: str, stage: str) -> None:
    """Notes that a part of the page has no data, and which stage makes it."""
    gaps.append({"part": part, "what": what, "stage": stage})


def flattened(values: Mapping[str, Any], prefix: str = "") -> Iterable[dict[str, str]]:
    """Lists params as key and JSON text, keys joined by dots, in the order of the file."""
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            yield from flattened(value, f"{name}.")
        else:
            yield {"key": name, "value": json.dumps(value, ensure_ascii=False)}


def name_of(record: Mapping[str, Any]) -> str:
    """Returns the model and dataset of a record."""
    return f"{record['model']} on {record['dataset']}"


def words(name: str) -> str:
    """Returns a name with spaces for underscores."""
    return name.replace("_", " ")
