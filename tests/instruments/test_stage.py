"""The stages instruments and figures_instruments on tables made up here."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from r2a_core.attention.heads import HEAD_SCHEMA
from r2a_core.config import load_params
from r2a_core.infra.errors import R2AError
from r2a_core.infra.files import write_frame
from r2a_core.instruments.stage import PATCHING_COLUMNS
from r2a_core.instruments.values import ATTENTION_COLUMNS
from r2a_core.knockout.summary import KNOCKOUT_SCHEMA
from r2a_core.paths import StudyPaths
from tests.instruments.cases import params
from tests.knockout import cases as cuts
from tests.perturb import cases as changes
from tests.random_models import contents
from tests.sentences import cases as hidden_cases
from tests.study import PARAMS, call, params_with, study_folder
from tests.walks import cases as walks
from tools.data_docs import faults

MODELS = {"reads": True, "recites": False}
MADE = ("instruments", "figures", "metrics")


def write_tables(paths: StudyPaths, model: str, lost: float) -> None:
    """Four traces of a model whose answers lose `lost` nats per token when heads are cut; its walks and pairs."""
    items = [f"t{number:02d}" for number in range(4)]
    heads = [
        dict.fromkeys(HEAD_SCHEMA, None)
        | {"dataset": "stories", "layer": 1, "head": head, "rank": head + 1, "focus": 1.0, "answer_to_reasoning": 0.5}
        for head in range(3)
    ]
    kinds = {name: pl.lit(value=False) for name in ("reasoning_focus", "induction_head", "retrieval_head")}
    write_frame(paths.heads(model), pl.DataFrame(heads, schema=HEAD_SCHEMA).with_columns(**kinds))
    rows = [(item, 1, head, "answer", 0.5, 1.0 + at) for at, item in enumerate(items) for head in range(3)]
    attention = pl.DataFrame(rows, schema=list(ATTENTION_COLUMNS), orient="row")
    types = {"layer": pl.Int16, "head": pl.Int16}
    write_frame(paths.attention(model, "stories"), attention.cast(types))  # type: ignore[arg-type]
    write_frame(paths.walks(model, "stories"), walks.walked(4))
    cut = [cuts.row(item, "mass", 2, lost + at / 10) for at, item in enumerate(items)]
    write_frame(paths.knockout(model, "stories"), pl.DataFrame(cut, schema=KNOCKOUT_SCHEMA))
    write_frame(paths.hidden_sentences(model, "stories"), hidden_cases.hidden())
    write_frame(paths.perturb(model, "stories"), changes.changed())
    roles = ((5, "flip", 0.9), (7, "think_close", 0.1))
    pairs = [(f"p{at:02d}", "plain", "resid_pre", 0, *role) for at in range(40) for role in roles]
    write_frame(paths.patching(model), pl.DataFrame(pairs, schema=list(PATCHING_COLUMNS), orient="row"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    depends = {model: {"stories": label} for model, label in MODELS.items()}
    values: dict[str, Any] = params_with(
        run={"models": list(MODELS), "datasets": ["stories"]},
        models={model: {"kind": "texts"} for model in MODELS},
        instruments={"depends": depends, "bootstrap_draws": 100, "permutations": 100},
    )
    root = study_folder(tmp_path / "project", values)
    for model, label in MODELS.items():
        write_tables(StudyPaths(root), model, 1.0 if label else 0.0)
    return root


def test_from_tables_to_auc_and_figures_and_the_same_bytes_again(root: Path) -> None:
    call(root, "instruments")
    call(root, "figures_instruments")
    assert [fault for fault in faults(root / "data") if "instruments" in fault] == []
    auc = pl.read_parquet(root / "data/instruments/auc.parquet").filter(level="pair")
    found = dict(auc.select("instrument", "auc").iter_rows())
    assert (found["cut_mass"], found["mass"], found["area"]) == (1, 0.5, 0.5)
    assert found["flip"] is None  # no label on the pairs, which the metrics say
    metrics = json.loads((root / "data/metrics/instruments.json").read_text(encoding="utf-8"))
    assert [row["followed"] for row in metrics["truth"]] == [0.5, None, 0.5, None]
    assert metrics["instruments"]["cut_mass"]["pairs"][0]["n_depends"] == 4
    assert "takes pairs whose answers follow" in metrics["instruments"]["flip"]["pairs"][0]["why"]
    before = contents(root / "data", MADE)
    assert {Path(name).name for name in before} >= {"auc.png", "auc.pdf", "values.parquet", "instruments.json"}
    call(root, "instruments")
    call(root, "figures_instruments")
    assert contents(root / "data", MADE) == before


def test_a_label_names_a_model_and_a_dataset(tmp_path: Path) -> None:
    with pytest.raises(R2AError, match=r"instruments\.depends\.m\.d"):
        params(depends={"m": {"d": 1}})
    for depends, wrong in (({"nobody": {}}, "models"), ({"smollm2": {"nothing": True}}, "datasets")):
        root = study_folder(tmp_path, params_with(instruments={"depends": depends}))
        with pytest.raises(R2AError, match=f"instruments.depends names 'no.*', which {wrong} does not have"):
            load_params(root / "params.yaml")
        with pytest.raises(R2AError, match=f"instruments.depends names 'no.*', which {wrong} does not have"):
            call(root, "instruments")
    assert set(PARAMS["instruments"]["depends"]) <= set(PARAMS["models"])
