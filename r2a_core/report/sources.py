"""Where the data of a report lie, and how they are read: a file that is absent is a gap, a damaged one an error.

data/ folder, names of models, datasets and settings -> ReportSources; path, columns -> frame or None.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from r2a_core.infra import files

Run = tuple[str, str]  # model, dataset


@dataclass(frozen=True)
class ReportSources:
    """Names of what ran, and the path of each file; the files need not exist."""

    models: tuple[str, ...]
    datasets: tuple[str, ...]
    settings: tuple[str, ...]
    items: Mapping[str, Path]  # by dataset
    summaries: Mapping[Run, Path]  # JSON of r2a_core.evaluation.funnel
    evaluations: Mapping[Run, Path]
    generations: Mapping[tuple[str, str, str], Path]  # by model, dataset, setting
    attention: Mapping[tuple[str, str, str], Path]
    sentences: Mapping[tuple[str, str, str], Path]
    heads: Mapping[str, Path]  # by model
    maps: Mapping[Run, Path]
    tokens: Mapping[Run, Path]
    links: Mapping[Run, Path]
    patching: Mapping[str, Path]
    pointers: Mapping[str, Path]  # by model

    @property
    def runs(self) -> list[Run]:
        """Every model and dataset, models first."""
        return [(model, dataset) for model in self.models for dataset in self.datasets]


@dataclass
class MissingParts:
    """What a page lacks, in words, in the order in which it was missed."""

    found: list[dict[str, str]] = field(default_factory=list)

    def add(self, part: str, what: str, stage: str) -> None:
        """Notes that a part of the page has no data, and which stage makes it."""
        self.found.append({"part": part, "what": what, "stage": stage})


def study_sources(data: Path, models: Sequence[str], datasets: Sequence[str], settings: Sequence[str]) -> ReportSources:
    """The sources of a study whose outputs lie below `data` as the stages write them."""
    runs = [(model, dataset) for model in models for dataset in datasets]
    cases = [(*run, setting) for run in runs for setting in settings]

    def of_runs(kind: str, suffix: str) -> dict[Run, Path]:
        return {(model, dataset): data / kind / model / f"{dataset}{suffix}" for model, dataset in runs}

    def of_cases(kind: str, suffix: str) -> dict[tuple[str, str, str], Path]:
        return {
            (m, dataset, setting): data / kind / m / dataset / f"{setting}{suffix}" for m, dataset, setting in cases
        }

    return ReportSources(
        models=tuple(models),
        datasets=tuple(datasets),
        settings=tuple(settings),
        items={dataset: data / "datasets" / f"{dataset}.parquet" for dataset in datasets},
        summaries=of_runs("evaluation", ".json"),
        evaluations=of_runs("evaluation", ".parquet"),
        generations=of_cases("generations", ".parquet"),
        attention=of_cases("attention", ".parquet"),
        sentences=of_cases("attention", "-sentences.parquet"),
        heads={model: data / "heads" / f"{model}.parquet" for model in models},
        maps=of_runs("maps", ".parquet"),
        tokens=of_runs("maps", "-tokens.parquet"),
        links=of_runs("maps", "-links.parquet"),
        patching={model: data / "patching" / f"{model}.parquet" for model in models},
        pointers={model: data / "models" / model / "model.json" for model in models},
    )


def read_frame(path: Path, columns: Sequence[str], stage: str) -> pl.DataFrame | None:
    """Those columns of a parquet file, None where it is absent. Raises R2AError when it is damaged or lacks one."""
    return files.read_frame(path, columns, stage) if path.is_file() else None


def plain(value: Any) -> Any:
    """A value for JSON: NaN and infinities become null, in lists and records too."""
    if isinstance(value, float):
        return value if abs(value) < float("inf") else None
    if isinstance(value, Mapping):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    return value
