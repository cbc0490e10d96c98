"""Writes the study as one HTML page that opens from disk, without network or server.

params report and those of all other stages, to be listed; data/datasets/, data/models/*/model.json, data/generations/,
data/evaluation/, data/attention/, data/heads/, data/maps/, data/pairs/, data/patching/, data/knockout/, data/walks/,
data/perturb/, data/sentences/, data/instruments/; what is absent is named on the page
-> data/report/index.html, data/report/plots/*.csv (panel, series, x, y; for dvc plots), and where one page does not
hold all of it data/report/pages/MODEL-DATASET.html
with --against: data/report/against.html, the page with another run's numbers beside this one's
usage: python -m stages.report [--machine FILE.html] [--against OTHER]
"""

import importlib.metadata
import os
import platform
import shutil
from pathlib import Path
from typing import Annotated, Any

import typer

from r2a_core.config import Params, load_sections, read_yaml
from r2a_core.infra.errors import R2AError
from r2a_core.infra.files import write_text_whole, write_whole
from r2a_core.paths import StudyPaths
from r2a_core.report.inputs import ReportInputs
from r2a_core.report.page import build_page, build_pages, report_data
from r2a_core.report.plot_tables import plot_tables
from stages._study import open_study, run_stage

# Sections that the page needs.
READ = ("run", "generate", "evaluate", "heads", "patch", "knockout", "walks", "perturb", "sentences", "report")
PACKAGES = ("numpy", "polars", "safetensors", "tokenizers", "torch", "transformers", "dvc")


def report(
    machine: Annotated[Path | None, typer.Option(help="Write a copy that names this machine and its versions.")] = None,
    against: Annotated[Path | None, typer.Option(help="Write a copy with the study of this folder beside.")] = None,
) -> None:
    """Write data/report/index.html and data/report/plots/, or a copy of the page with machine facts or another run."""
    study = open_study("report")
    inputs = report_inputs(study.paths, study.params, study.values)
    other = None if against is None else other_study(against, study.values, study.paths)
    data = report_data(inputs, None if machine is None else machine_facts(), other)
    if machine is not None or against is not None:
        write_text_whole(machine or study.paths.against, build_page(data, inputs.params.megabytes))
    else:
        page, pages = build_pages(inputs, data)
        write_text_whole(study.paths.page, page)
        shutil.rmtree(study.paths.pages, ignore_errors=True)
        study.paths.pages.mkdir()
        for name, text in pages.items():
            write_text_whole(study.paths.pages / name, text)
        for name, table in plot_tables(data).items():
            write_whole(study.paths.plots / f"{name}.csv", table.write_csv)


def report_inputs(paths: StudyPaths, params: Params, values: dict[str, Any]) -> ReportInputs:
    """Collects what the page is made from. values: the params as written, to be listed."""
    run = params.run
    return ReportInputs(
        paths=paths,
        models=run.models,
        readers={reader.model: reader.texts for reader in run.readers},
        datasets=run.datasets,
        settings=run.settings,
        values=chosen(values),
        params=params.report,
        evaluate=params.evaluate,
        crossing=params.patch.crossing,
        knockout=params.knockout,
        walks=params.walks,
        perturb=params.perturb,
        sentences=params.sentences,
        walk=params.heads.walk,
        without_mode=params.generate.without_mode,
    )


def other_study(root: Path, own_values: dict[str, Any], own: StudyPaths) -> ReportInputs:
    """Opens the study of another folder, to be read only. Raises R2AError where it is none that this code can read.

    own_values: the params of this study, for those that a study of an older version does not have.
    """
    path, paths = root / "params.yaml", StudyPaths(root)
    if missing := [place.name for place in (path, paths.data) if not place.exists()]:
        lacks = " and no ".join(missing)
        raise R2AError(f"--against {root} is not a study: there is no {lacks}", "name the folder that holds both")
    if paths.data.resolve() == own.data.resolve():
        raise R2AError(f"--against {root} is this study itself", "name the folder of another study")
    try:
        values = read_yaml(path)
        params = load_sections({**filled(values, own_values), "run": values.get("run")}, READ)
    except R2AError as error:
        raise R2AError(f"{root}: {error.message}", "compare with a study that this version can run") from None
    return report_inputs(paths, params, {name: values[name] for name in own_values if name in values})


def filled(other: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """Returns the params of another version's study with the keys of this one: what it lacks is as here.

    other, own: values of params.yaml, or a part of them. Of models and datasets only the names are read.
    """
    both = {name: other.get(name, value) for name, value in own.items()}
    return {
        name: filled(both[name], value) if isinstance(value, dict) and isinstance(both[name], dict) else both[name]
        for name, value in own.items()
    }


def chosen(values: dict[str, Any]) -> dict[str, Any]:
    """Select the params to list: of models and datasets only those that run."""
    run = values["run"]
    readers = [reader["model"] for reader in run["readers"]]
    names = {"models": {*run["models"], *readers}, "datasets": {*run["datasets"], run["pairs"]}}
    return values | {
        section: {name: entry for name, entry in values.get(section, {}).items() if name in found}
        for section, found in names.items()
    }


def machine_facts() -> dict[str, str]:
    """List hardware and versions of this machine, for a copy of the page that is not among the hashed outputs."""
    from torch import cuda

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
