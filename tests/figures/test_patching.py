"""Figures 7 and 8: what is drawn, and the published data of Figure 7 through the same code."""

# pyright: reportCallIssue=false, reportArgumentType=false, reportIndexIssue=false, reportAttributeAccessIssue=false

import numpy as np
import polars as pl
import pytest

from r2a_core import paper
from r2a_core.config import CrossingParams, PatchingFigureParams
from r2a_core.figures.patching import draw_patching, example_pair, layer_figure, position_map, position_map_figure
from r2a_core.infra.errors import R2AError
from r2a_core.patching.summary import probe_summary
from tests.figures.drawn import lines_at

INTERVAL = CrossingParams(bootstrap_draws=50, confidence=0.95, seed=0)
N_LAYERS = 6


@pytest.fixture(scope="module")
def example(published) -> dict[str, pl.DataFrame]:
    """The published cells of the paper's example pair, by model, in the patching table's columns."""
    cells = published("example_pair").with_columns(
        pair_id=pl.lit("24"),
        probe=pl.lit("plain"),
        component=pl.lit("resid_pre"),
        clean_token=pl.lit("x"),
        corrupted_token=pl.when(pl.col("role") == "flip").then(pl.lit("y")).otherwise(pl.lit("x")),
    )
    return {str(model): rows for (model,), rows in cells.group_by("model", maintain_order=True)}


@pytest.mark.parametrize("model", ["r1_llama_8b", "r1_qwen_7b"])
def test_peaks_of_the_published_example_are_the_papers(example, model):
    found = probe_summary(example[model], "plain", INTERVAL)
    for curve, (nld, layer) in paper.EXAMPLE_PAIR[model].items():
        assert (found[curve]["nld"], found[curve]["layer"]) == (pytest.approx(nld, abs=5e-4), layer)
    assert abs(found["other_probe"]["nld"]) < paper.EXAMPLE_PAIR_OTHER
    assert found["crossing"]["layer"] is not None


def test_the_published_example_is_drawn_cell_by_cell(example):
    figure = position_map_figure(example, "24", ["plain"])
    for axes, (model, cells) in zip(figure.axes, example.items(), strict=False):
        assert axes.get_title().startswith(model)
        drawn = np.asarray(axes.get_images()[0].get_array())
        positions, layers = (cells[name].unique().sort().to_list() for name in ("position", "layer"))
        assert drawn.shape == (len(positions), len(layers))
        for position, layer, nld in cells.select("position", "layer", "nld").iter_rows():
            assert drawn[positions.index(position), layer] == nld
        flips = [label for label in axes.get_yticklabels() if label.get_text() == "x \u2192 y"]
        assert [label.get_fontweight() for label in flips] == ["bold"]
        assert len([line for line in axes.lines if line.get_linestyle() != "-"]) == 1  # the gap before the last tokens


def cells_of(pair_id: str, probe: str, shift: float = 0.0) -> pl.DataFrame:
    """One pair: the flip falls from 0.8 to 0, the last token rises from 0 to 1, each moved by `shift`."""
    curves = {
        (40, "probe", " is", " is"): np.zeros(N_LAYERS),
        (41, "flip", "5", "6"): np.linspace(0.8, 0, N_LAYERS),
        (42, "think_close", "</think>", "</think>"): np.full(N_LAYERS, 0.05),
        (50, "answer_end", "{", "{"): np.linspace(0, 1, N_LAYERS),
    }
    rows = [
        (pair_id, probe, "resid_pre", layer, *place, float(value) + shift)
        for place, curve in curves.items()
        for layer, value in enumerate(curve)
    ]
    columns = ["pair_id", "probe", "component", "layer", "position", "role", "clean_token", "corrupted_token", "nld"]
    return pl.DataFrame(rows, schema=columns, orient="row")


@pytest.fixture
def tables() -> dict[str, pl.DataFrame]:
    pairs = [cells_of(pair, probe, shift) for pair, shift in (("a", -0.1), ("b", 0.1)) for probe in ("plain", "boxed")]
    return {"tiny": pl.concat(pairs), "other": cells_of("b", "plain")}


def test_curves_are_means_with_bands_of_one_sample_deviation(tables):
    figure = layer_figure(tables | {"r1_qwen_7b": tables["tiny"]}, ["plain", "boxed"], INTERVAL)
    marks = [[line.get_xdata()[0] for line in lines_at(axes, "paper")] for axes in figure.axes]
    assert marks == [[], [], [19.72], [], [], [22.17]]
    axes = figure.axes[0]
    assert axes.get_title() == "tiny: “Final answer is A.”, n = 2 pairs"
    (flip,) = lines_at(axes, "flip")
    np.testing.assert_allclose(flip.get_ydata(), np.linspace(0.8, 0, N_LAYERS), atol=1e-12)
    band = axes.collections[0].get_paths()[0].vertices
    assert band[:, 1].max() == pytest.approx(0.8 + np.std([-0.1, 0.1], ddof=1))
    (crossing,) = lines_at(axes, "crossing")
    np.testing.assert_allclose(crossing.get_xdata(), 0.8 / 1.8 * (N_LAYERS - 1), atol=1e-9)
    assert any("cross at 2.22\n95%: layers 2 to 3" in text.get_text() for text in axes.texts)
    assert any("no pair is left" in text.get_text() for text in figure.axes[4].texts), "other has no boxed pair"


def test_the_example_is_the_first_pair_that_most_models_have_and_its_map_in_text_order(tables):
    assert (example_pair(tables, None), example_pair(tables, "a")) == ("b", "a")
    assert example_pair({"tiny": tables["tiny"].clear()}, None) is None
    with pytest.raises(R2AError, match="no model has the pair 'z'"):
        example_pair(tables, "z")
    found = position_map(tables["tiny"].sample(fraction=1, shuffle=True, seed=1), "b", "plain")
    assert found is not None
    assert found.labels == ("␣is", "5 → 6", "</think>", "{")
    assert found.gaps == (3,)
    np.testing.assert_allclose(found.nld[:, 3], np.linspace(0, 1, N_LAYERS) + 0.1)
    assert position_map(tables["other"], "a", "plain") is None


def test_two_figures_are_drawn_and_a_lost_table_is_named(tables, tmp_path):
    paths = {model: tmp_path / f"{model}.parquet" for model in tables}
    with pytest.raises(R2AError, match="build it with: dvc repro patch"):
        draw_patching(paths, tmp_path, PatchingFigureParams(example=None), INTERVAL)
    for model, path in paths.items():
        tables[model].write_parquet(path)
    drawn = draw_patching(paths, tmp_path, PatchingFigureParams(example=None), INTERVAL)
    stems = ("patching-positions", "patching-layers")
    assert [path.name for path in drawn] == [f"{stem}.{kind}" for stem in stems for kind in ("png", "pdf")]
