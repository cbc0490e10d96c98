"""dvc.yaml says of every stage what it depends on: code by folder, params by section, files by the shared paths."""

import os
import re
import subprocess
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from dvc.repo import Repo
from dvc.stage import PipelineStage

from r2a_core.config import load_params
from r2a_core.paths import StudyPaths
from stages._plan import outputs
from tests.pipeline.conftest import READERS
from tests.pipeline.imports import UNTRACKED, reached
from tests.processes import PATH
from tests.study import PARAMS, ROOT, params_with, study_folder

STAGES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]


def script_of(stage: str) -> Path:
    found = re.match(r"python -m stages\.(\w+)", STAGES[stage]["cmd"])
    assert found is not None
    return ROOT / "stages" / f"{found[1]}.py"


def code_of(stage: str) -> list[str]:
    return [place for place in STAGES[stage]["deps"] if place.startswith(("r2a_core", "stages"))]


def below(file: Path, place: str) -> bool:
    return file.is_relative_to(place)


@pytest.mark.parametrize("stage", STAGES)
def test_the_code_that_a_stage_reaches_is_below_its_dependencies(stage: str) -> None:
    """What changes no result (UNTRACKED) is a dependency of no stage; there is no other exception."""
    code = code_of(stage)
    assert [file for file in reached(script_of(stage)) if not any(below(file, place) for place in code)] == []
    idle = [place for place in code if not any(below(file, place) for file in reached(script_of(stage)))]
    assert idle == (["r2a_core/evaluation/score_template.txt"] if stage == "judge" else [])
    assert not [place for place in code if place.startswith(UNTRACKED)]
    assert not [place for place in code if not (ROOT / place).exists()]


@pytest.mark.parametrize("stage", STAGES)
def test_every_param_that_a_stage_declares_exists(stage: str) -> None:
    for key in STAGES[stage]["params"]:
        values: Any = PARAMS
        for name in re.sub(r"\.?\$\{.*?\}", "", key).split("."):
            assert name in values, key
            values = values[name]
    assert "resources" not in STAGES[stage]["params"]  # how shards run changes no result


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_that_reads_a_folder_of_parts_declares_the_names_of_the_parts(stage: str) -> None:
    """Else it would not run when a name goes, and the folder that it has read would keep the part."""
    written = [
        out
        for each in STAGES.values()
        for entry in each["outs"]
        for out in ([entry] if isinstance(entry, str) else entry)
    ]
    needed = {
        f"run.{name}"
        for place in STAGES[stage]["deps"]
        for out in written
        if out.startswith(f"{place}/")
        for pair in re.findall(r"\$\{item\.(\w+)\}|\$\{run\.(\w+)\}", out.removeprefix(place))
        for name in (f"{pair[0]}s" if pair[0] else pair[1],)
    }
    declared = STAGES[stage]["params"]
    assert "run" in declared or needed <= set(declared)


def test_outputs_lie_where_the_shared_paths_say(tmp_path: Path) -> None:
    """Every output of the project's own study and of two readers, as DVC names it, is one of StudyPaths."""
    params = params_with(run={"readers": READERS})
    root = study_folder(tmp_path, params)
    Repo.init(str(root), no_scm=True).close()
    run, paths = load_params(root / "params.yaml").run, StudyPaths(root)
    known = {paths.selected_pairs, paths.page, paths.pages, paths.plots, paths.items(run.pairs)}
    beyond = ("knockout", "walks", "perturb", "sentences")
    known |= {paths.figures(kind) for kind in ("evaluation", "attention", "patching", *beyond, "instruments")}
    known |= {paths.metrics("instruments")}
    known |= {paths.instruments(table) for table in ("values", "truth", "auc", "agreement")}
    known |= {paths.items(dataset) for dataset in run.datasets}
    for model in run.models:
        known |= {paths.model(model), paths.heads(model), paths.pairs(model), paths.patching(model)}
        known |= {paths.generations(model, run.pairs), paths.clean_runs(model, run.pairs)}
        known |= {paths.metrics("heads", model), paths.metrics("patching", model)}
        for dataset in run.datasets:
            known |= {paths.judgements(model, dataset), paths.evaluation(model, dataset), paths.summary(model, dataset)}
            known |= {paths.maps(model, dataset), paths.map_tokens(model, dataset)}
            known |= {paths.map_spans(model, dataset), paths.map_links(model, dataset), paths.map_lines(model, dataset)}
            known |= {paths.metrics(stage, model, dataset) for stage in ("evaluate", *beyond)}
            known |= {paths.hidden_sentences(model, dataset), paths.receivers(model, dataset)}
            known |= {paths.knockout(model, dataset), paths.walks(model, dataset), paths.perturb(model, dataset)}
            for setting in run.settings:
                item = (model, dataset, setting)
                known |= {paths.generations(*item), paths.activations(*item)}
                known |= {paths.attention(*item), paths.sentences(*item)}
                known |= {paths.metrics("generate", *item), paths.metrics("attention", *item)}
    for reader in run.readers:
        known.add(paths.model(reader.model))
        for dataset in run.datasets:
            item = (reader.model, reader.texts, dataset)
            known |= {paths.reading(*item), paths.read_heads(*item), paths.metrics("read", *item)}
    with Repo(str(root)) as repo:
        stages = cast(list[PipelineStage], repo.index.stages)
        by_dvc = {Path(out.fs_path): stage.name for stage in stages for out in stage.outs}
    assert set(by_dvc) == known
    assert by_dvc == {root / path: stage for path, stage in outputs(STAGES, params).items()}  # as stages read dvc.yaml


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with DVC whose stages run the checkout's code."""
    params = params_with(datasets={"arithmetic": PARAMS["datasets"]["arithmetic"] | {"n": 3}})
    root = study_folder(tmp_path / "project", params)
    for name in ("r2a_core", "stages", ".dvcignore"):
        (root / name).symlink_to(ROOT / name)
    (root / "docs").mkdir()
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    Repo.init(str(root)).close()
    return root


@pytest.mark.parametrize("target", ["../dvc.yaml:prepare_dataset@arithmetic", "-P"])
def test_dvc_works_from_a_folder_below(project: Path, target: str) -> None:
    if target == "-P":  # of a pipeline that is this stage alone
        pipeline = {"stages": {"prepare_dataset": STAGES["prepare_dataset"] | {"matrix": {"dataset": ["arithmetic"]}}}}
        (project / "dvc.yaml").write_text(yaml.safe_dump(pipeline), encoding="utf-8")
    run = partial(subprocess.run, env=os.environ | {"PATH": PATH}, capture_output=True, text=True, check=False)
    done = run(["dvc", "repro", target], cwd=project / "docs")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (project / "data" / "datasets" / "arithmetic.parquet").is_file()
