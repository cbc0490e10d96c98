"""Writes the study as one HTML page that opens from disk, without network or server.

params report and those of all other stages, to be listed; data/evaluation/, data/attention/, data/heads/, data/maps/,
data/patching/, data/generations/, data/datasets/, data/models/*/model.json
-> data/report/index.html, data/report/plots/*.csv (panel, series, x, y; for dvc plots)
usage: python -m stages.report [--machine FILE.html]
"""

from pathlib import Path
from typing import Annotated

import typer

from stages._stage import DATA, read_params, run_stage

PACKAGES = ("numpy", "polars", "pyarrow", "safetensors", "tokenizers", "torch", "transformers", "dvc")


def machine_facts() -> dict[str, str]:
    """Hardware and versions of this machine, for a copy of the page that is not part of the hashed outputs."""
    import importlib.metadata
    import os
    import platform

    from torch import cuda

    gpus = [cuda.get_device_name(number) for number in range(cuda.device_count())]
    return {
        "system": platform.platform(),
        "processor": f"{platform.machine()}, {os.cpu_count()} cores",
        "GPU": ", ".join(gpus) or "none",
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in PACKAGES},
    }


def report(
    machine: Annotated[Path | None, typer.Option(help="Write a copy that names this machine and its versions.")] = None,
) -> None:
    """Write data/report/index.html and data/report/plots/, or a copy of the page with machine facts."""
    from r2a_core.config import CrossingParams, ReportParams, WalkThresholds, parse
    from r2a_core.infra.files import write_text_whole, write_whole
    from r2a_core.report.page import StudyParams, build_page, report_data
    from r2a_core.report.plot_tables import plot_tables
    from r2a_core.report.sources import study_sources

    params = read_params("report")
    run = params["run"]
    crossing = parse(CrossingParams, params["patch"]["crossing"], "patch.crossing")
    walk = parse(WalkThresholds, params["heads"]["walk"], "heads.walk")
    study = StudyParams(chosen(params), params["heads"]["top"], crossing, walk)
    sources = study_sources(DATA, run["models"], run["datasets"], run["settings"])
    facts = None if machine is None else machine_facts()
    config = parse(ReportParams, params["report"], "report")
    data = report_data(sources, config, study, facts)
    write_text_whole(machine or DATA / "report" / "index.html", build_page(data, config.megabytes))
    if machine is None:
        for name, table in plot_tables(data).items():
            write_whole(DATA / "report" / "plots" / f"{name}.csv", table.write_csv)


def chosen(params: dict) -> dict:
    """The params to list: of models and datasets only those that run."""
    run = params["run"]
    names = {"models": run["models"], "datasets": [*run["datasets"], run.get("pairs")]}
    picked = {key: {name: params[key][name] for name in found if name in params[key]} for key, found in names.items()}
    return {**params, **picked}


if __name__ == "__main__":
    run_stage(report)
