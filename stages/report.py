"""Writes the study as one HTML page that opens from disk, without network or server.

params report and those of all other stages, to be listed; data/evaluation/, data/attention/, data/heads/, data/maps/,
data/patching/, data/generations/, data/datasets/, data/models/*/model.json
-> data/report/index.html, data/report/plots/*.csv (panel, series, x, y; for dvc plots)
usage: python -m stages.report [--machine FILE.html]
"""

import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Annotated, Any

import typer
from torch import cuda

from r2a_core.infra.files import write_text_whole, write_whole
from r2a_core.report.inputs import ReportInputs
from r2a_core.report.page import build_page, report_data
from r2a_core.report.plot_tables import plot_tables
from stages._study import open_study, run_stage

PACKAGES = ("numpy", "polars", "safetensors", "tokenizers", "torch", "transformers", "dvc")


def report(
    machine: Annotated[Path | None, typer.Option(help="Write a copy that names this machine and its versions.")] = None,
) -> None:
    """Write data/report/index.html and data/report/plots/, or a copy of the page with machine facts."""
    study = open_study("report")
    params, run = study.params, study.params.run
    inputs = ReportInputs(
        paths=study.paths,
        models=run.models,
        readers={reader.model: reader.texts for reader in run.readers},
        datasets=run.datasets,
        settings=run.settings,
        values=chosen(study.values),
        params=params.report,
        crossing=params.patch.crossing,
        knockout=params.knockout,
        walks=params.walks,
        perturb=params.perturb,
        sentences=params.sentences,
        walk=params.heads.walk,
    )
    data = report_data(inputs, None if machine is None else machine_facts())
    write_text_whole(machine or study.paths.page, build_page(data, params.report.megabytes))
    if machine is None:
        for name, table in plot_tables(data).items():
            write_whole(study.paths.plots / f"{name}.csv", table.write_csv)


def chosen(values: dict[str, Any]) -> dict[str, Any]:
    """Select the params to list: of models and datasets only those that run."""
    run = values["run"]
    readers = [reader["model"] for reader in run["readers"]]
    names = {"models": [*run["models"], *readers], "datasets": [*run["datasets"], run["pairs"]]}
    return values | {section: {name: values[section][name] for name in found} for section, found in names.items()}


def machine_facts() -> dict[str, str]:
    """List hardware and versions of this machine, for a copy of the page that is not among the hashed outputs."""
    gpus = [cuda.get_device_name(number) for number in range(cuda.device_count())]
    return {
        "system": platform.platform(),
        "processor": f"{platform.machine()}, {os.cpu_count()} cores",
        "GPU": ", ".join(gpus) or "none",
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in PACKAGES},
    }


if __name__ == "__main__":
    run_stage(report)
