"""Figures 7 and 8: what is drawn, and the published data of Figure 7 through the same code."""

# pyright: reportCallIssue=false, reportArgumentType=false, reportIndexIssue=false, reportAttributeAccessIssue=false

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from r2a_core.config import CrossingParams, PatchingFigureParams
from r2a_core.figures.patching import draw_patching, example_pair, layer_figure, position_map, position_map_figure
from r2a_core.infra.errors import R2AError
from r2a_core.patching.summary import probe_summary

INTERVAL = CrossingParams(bootstrap_draws=50, confidence=0.95, seed=0)
N_LAYERS = 6


def published(folder: Path, model: str) -> pl.DataFrame:
    """The published cells of one model in the patching table's columns; roles from the tokens."""
    cells = pl.read_parquet(folder / f"patching_case24_{model}.parquet")
    close = cells.filter(pl.col("clean_token") == "</think>")["position"].item(0)
    role = (
        pl.when(pl.col("clean_token") != pl.col("corrupted_token"))
        .then(pl.lit("flip"))
        .when(pl.col("position") < close)
        .then(pl.lit("probe"))
        .when(pl.col("position") == close)
        .then(pl.lit("think_close"))
        .otherwise(pl.lit("answer_end"))
    )
    return cells.select(
        "layer",
        "position",
        "clean_token",
        "corrupted_token",
        pair_id=pl.lit("24"),
        probe=pl.lit("plain"),
        component=pl.lit("resid_pre"),
        role=role,
        nld=pl.col("normalized_logit_difference"),
    )


@pytest.fixture(scope="module")
def case24(reference: Path) -> dict[str, pl.DataFrame]:
    return {f"r1_{name}": published(reference, f"r1-{name.replace('_', '-')}") for name in ("llama_8b", "qwen_7b")}


@pytest.mark.parametrize(
    ("model", "flip", "flip_layer", "final", "final_layer"),
    [("r1_llama_8b", 0.287, 11, 0.773, 31), ("r1_qwen_7b", 0.434, 2, 0.969, 27)],
)
def test_published_best_values_of_figure_7(case24, model, flip, flip_layer, final, final_layer):
    found = probe_summary(case24[model], "plain", INTERVAL)
    assert (found["flip"]["nld"], found["flip"]["layer"]) == (pytest.approx(flip, abs=5e-4), flip_layer)
    assert (found["final"]["nld"], found["final"]["layer"]) == (pytest.approx(final, abs=5e-4), final_layer)
    assert abs(found["other_probe"]["nld"]) < 0.025
    assert found["crossing"]["layer"] is not None


def test_published_map_is_drawn_cell_by_cell_with_its_tokens(case24, reference):
    figure = position_map_figure(case24, "24", ["plain"])
    for axes, (model, cells) in zip(figure.axes, case24.items(), strict=False):
        tokens = json.loads((reference / f"patching_case24_tokens_{model.replace('_', '-')}.json").read_text())
        positions = cells["position"].unique().sort().to_list()
        labels = [label.get_text() for label in axes.get_yticklabels()]
        assert len(labels) == len(positions)
        for label, position in zip(labels, positions, strict=True):
            clean, corrupted = tokens["clean"][position], tokens["corrupted"][position]
            expected = clean if clean == corrupted else f"{clean} → {corrupted}"
            assert label == expected.replace("\n", "⏎").replace(" ", "␣").replace("␣→␣", " → ")
        assert labels.count("5 → 6") == 1
        drawn = np.asarray(axes.get_images()[0].get_array())
        cell = cells.filter(position=positions[-1], layer=20)["nld"].item()
        assert drawn.shape == (len(positions), cells["layer"].n_unique())
        assert drawn[-1, 20] == pytest.approx(cell)


def cells_of(pair_id: str, probe: str, shift: float = 0.0) -> pl.DataFrame:
    """One pair: the flip falls from 0.8 to 0, the last token rises from 0 to 1, each moved by `shift`."""
    curves = {
        (40, "probe", " is", " is"): np.zeros(N_LAYERS),
        (41, "flip", "5", "6"): np.linspace(0.8, 0, N_LAYERS),
        (42, "think_close", "</think>", "</think>"): np.full(N_LAYERS, 0.05),
        (50, "answer_end", "{", "{"): np.linspace(0, 1, N_LAYERS),
    }
    return pl.DataFrame(
        [
            {
                "pair_id": pair_id,
                "probe": probe,
                "component": "resid_pre",
                "layer": layer,
                "position": position,
                "role": role,
                "clean_token": clean,
                "corrupted_token": corrupted,
                "nld": float(value) + shift,
            }
            for (position, role, clean, corrupted), curve in curves.items()
            for layer, value in enumerate(curve)
        ]
    )


@pytest.fixture
def tables() -> dict[str, pl.DataFrame]:
    pairs = [cells_of(pair, probe, shift) for pair, shift in (("a", -0.1), ("b", 0.1)) for probe in ("plain", "boxed")]
    return {"tiny": pl.concat(pairs), "other": cells_of("b", "plain")}


def test_curves_are_means_with_bands_of_one_sample_deviation(tables):
    figure = layer_figure(tables, ["plain", "boxed"], INTERVAL)
    axes = figure.axes[0]
    assert axes.get_title() == "tiny: “Final answer is A.”, n = 2 pairs"
    flip = next(line for line in axes.lines if line.get_gid() == "flip")
    np.testing.assert_allclose(flip.get_ydata(), np.linspace(0.8, 0, N_LAYERS), atol=1e-12)
    band = axes.collections[0].get_paths()[0].vertices
    assert band[:, 1].max() == pytest.approx(0.8 + np.std([-0.1, 0.1], ddof=1))
    crossing = next(line for line in axes.lines if line.get_gid() == "crossing")
    np.testing.assert_allclose(crossing.get_xdata(), 0.8 / 1.8 * (N_LAYERS - 1), atol=1e-9)
    assert any("cross at 2.22 [2.22, 2.22]" in text.get_text() for text in axes.texts)
    assert any("no pair is left" in text.get_text() for text in figure.axes[3].texts), "other has no boxed pair"


def test_the_example_is_the_first_pair_that_most_models_have(tables):
    assert example_pair(tables, None) == "b"
    assert example_pair(tables, "a") == "a"
    assert example_pair({"tiny": tables["tiny"].clear()}, None) is None
    with pytest.raises(R2AError, match="no model has the pair 'z'"):
        example_pair(tables, "z")


def test_map_holds_the_cells_in_text_order_and_marks_the_gap(tables):
    found = position_map(tables["tiny"].sample(fraction=1, shuffle=True, seed=1), "b", "plain")
    assert found is not None
    assert found.labels == ("␣is", "5 → 6", "</think>", "{")
    assert found.gaps == (3,)
    np.testing.assert_allclose(found.nld[:, 3], np.linspace(0, 1, N_LAYERS) + 0.1)
    assert position_map(tables["other"], "a", "plain") is None


def test_figures_are_the_same_bytes_when_drawn_again(tables, tmp_path):
    for model, cells in tables.items():
        cells.write_parquet(tmp_path / f"{model}.parquet")
    paths = {model: tmp_path / f"{model}.parquet" for model in tables}
    drawn = [
        draw_patching(paths, tmp_path / name, PatchingFigureParams(example=None), INTERVAL) for name in ("one", "two")
    ]
    assert [path.name for path in drawn[0]] == [
        f"patching-{name}.{kind}" for name in ("positions", "layers") for kind in ("png", "pdf")
    ]
    assert [path.read_bytes() for path in drawn[0]] == [path.read_bytes() for path in drawn[1]]
    with pytest.raises(R2AError, match="build it with: dvc repro patch"):
        draw_patching({"lost": tmp_path / "lost.parquet"}, tmp_path, PatchingFigureParams(example=None), INTERVAL)
