"""Figures 2, 3, 9 and 10: the numbers that are drawn, against hand-made masses and the published per-trace data."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from r2a_core.figures.head_maps import HeadMarks, draw_head_maps, head_map_figure, read_head_marks
from r2a_core.figures.segment_masses import SEGMENTS, AttentionRun, box_plot_figure, draw_box_plots
from r2a_core.infra.errors import R2AError

REFERENCE = Path(__file__).resolve().parents[3] / "shared" / "reference"
needs_reference = pytest.mark.skipif(not REFERENCE.exists(), reason="the published data is not here")
# PAPER section 4: medians over traces, then the ten heads with the largest answer -> reasoning mean, best first.
PUBLISHED = {
    "r1_llama_8b": (
        (0.6177, 0.0130, 0.0001, 0.1359, 0.0004, 0.2313),
        [(8, 11), (0, 22), (13, 18), (13, 6), (16, 1), (10, 31), (8, 9), (13, 5), (13, 4), (14, 29)],
    ),
    "r1_qwen_7b": (
        (0.1033, 0.1380, 0.0002, 0.2901, 0.0087, 0.4653),
        [(16, 0), (19, 15), (14, 7), (1, 1), (17, 18), (17, 14), (16, 14), (14, 19), (22, 7), (17, 19)],
    ),
}


def write_masses(path: Path, cells: dict[tuple[str, int, int, str], list[float]]) -> Path:
    """An attention parquet with the given six masses for each (item, layer, head, source)."""
    rows = [(*key, *masses) for key, masses in cells.items()]
    pl.DataFrame(rows, schema=["item_id", "layer", "head", "source", *SEGMENTS], orient="row").with_columns(
        pl.col("layer", "head").cast(pl.Int16), pl.col(SEGMENTS).cast(pl.Float32)
    ).write_parquet(path)
    return path


def grid_run(folder: Path, model: str, layers: int, heads: int, traces: int = 3) -> tuple[AttentionRun, np.ndarray]:
    """A run of random masses and the masses themselves, (trace, layer, head, segment)."""
    masses = np.random.default_rng(7).dirichlet(np.ones(6), size=(traces, layers, heads))
    cells = {
        (f"t{t}", layer, head, "answer"): list(masses[t, layer, head])
        for t, layer, head in np.ndindex(masses.shape[:3])
    }
    return AttentionRun(model, "toy", "with_reasoning", write_masses(folder / f"{model}.parquet", cells)), masses


def published_run(model: str, folder: Path) -> AttentionRun:
    """The published per-trace masses in our schema."""
    source = pl.read_parquet(REFERENCE / f"segment_attention_math500_{model.replace('_', '-')}_withR.parquet")
    key = [pl.col("unique_id").alias("item_id"), "layer", "head"]
    answer = source.select(
        *key, pl.lit("answer").alias("source"), *[pl.col(f"answer_to_{s}").alias(s) for s in SEGMENTS]
    )
    seen = [pl.col(f"reasoning_to_{s}").alias(s) for s in SEGMENTS[:4]]
    unseen = [pl.lit(0.0, pl.Float32).alias(s) for s in SEGMENTS[4:]]
    reasoning = source.select(*key, pl.lit("reasoning").alias("source"), *seen, *unseen)
    path = folder / f"{model}.parquet"
    pl.concat([answer, reasoning]).write_parquet(path)
    return AttentionRun(model, "math500", "with_reasoning", path)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> dict[str, AttentionRun]:
    folder = tmp_path_factory.mktemp("published")
    return {model: published_run(model, folder) for model in PUBLISHED}


def panels(fig: Figure, word: str = "") -> list[Any]:
    return [axes for axes in fig.axes if word in axes.get_title()]


def medians(axes: Any) -> list[float]:
    return [float(line.get_ydata()[0]) for line in axes.lines if line.get_gid() == "median"]


def boxed_heads(axes: Any) -> list[tuple[int, int]]:
    boxes = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    return [(round(box.get_center()[1]), round(box.get_center()[0])) for box in boxes]


def marked_heads(axes: Any, marker: str) -> list[tuple[int, int]]:
    return [(y, x) for line in axes.lines if line.get_marker() == marker for x, y in zip(*line.get_data(), strict=True)]


@needs_reference
def test_box_plots_of_the_published_data_show_the_paper_s_medians(published: dict[str, AttentionRun]) -> None:
    fig = box_plot_figure(list(published.values()))
    for model, (expected, _) in PUBLISHED.items():
        (axes,) = panels(fig, model)
        assert medians(axes) == pytest.approx(expected, abs=5e-5)
        (paper,) = [line for line in axes.lines if line.get_gid() == "paper"]
        assert tuple(paper.get_ydata()) == expected


@needs_reference
def test_head_maps_of_the_published_data_box_the_paper_s_heads_in_order(published: dict[str, AttentionRun]) -> None:
    fig = head_map_figure(list(published.values()), {})
    for model, (_, heads) in PUBLISHED.items():
        (axes,) = panels(fig, f"{model}: answer \u2192 reasoning")
        assert boxed_heads(axes) == heads
        first = {"r1_llama_8b": 0.828, "r1_qwen_7b": 0.911}[model]
        assert axes.images[0].get_array()[heads[0]] == pytest.approx(first, abs=5e-4)


def test_box_plot_takes_the_mean_over_layers_and_heads_before_the_median(tmp_path: Path) -> None:
    bos = {("a", 0, 0): 0.1, ("a", 0, 1): 0.3, ("b", 0, 0): 0.6, ("b", 0, 1): 0.8, ("c", 0, 0): 0.0, ("c", 0, 1): 0.2}
    cells = {(*key, "answer"): [mass, 0, 0, 1 - mass, 0, 0] for key, mass in bos.items()}
    cells |= {("a", 0, head, "reasoning"): [0.25, 0.25, 0.1, 0.4, 0, 0] for head in (0, 1)}
    run = AttentionRun("toy_model", "toy", "with_reasoning", write_masses(tmp_path / "a.parquet", cells))
    answer, reasoning = panels(box_plot_figure([run]))[0], panels(box_plot_figure([run], "reasoning"))[0]
    assert medians(answer) == pytest.approx([0.2, 0, 0, 0.8, 0, 0], abs=1e-6)  # trace means .2, .7, .1
    assert medians(reasoning) == pytest.approx([0.25, 0.25, 0.1, 0.4], abs=1e-6)
    assert "3 traces" in answer.get_title()
    assert "1 trace " in reasoning.get_title()
    assert not [line for line in answer.lines if line.get_gid() == "paper"]


def test_box_plots_put_settings_in_rows_and_models_in_columns(tmp_path: Path) -> None:
    one, _ = grid_run(tmp_path, "one", 2, 2)
    two, _ = grid_run(tmp_path, "two", 2, 2)
    fig = box_plot_figure([one, two, AttentionRun("two", "toy", "without_reasoning", two.path)])
    shown = {(axes.get_subplotspec().rowspan.start, axes.get_subplotspec().colspan.start): axes for axes in panels(fig)}
    assert "one, with reasoning" in shown[0, 0].get_title()
    assert "two, with reasoning" in shown[0, 1].get_title()
    assert "two, without reasoning" in shown[1, 1].get_title()
    assert not shown[1, 0].axison


@pytest.mark.parametrize(("layers", "heads"), [(8, 4), (28, 12), (3, 5)])
def test_heat_map_holds_the_trace_mean_of_each_head(tmp_path: Path, layers: int, heads: int) -> None:
    run, masses = grid_run(tmp_path, "toy_model", layers, heads)
    fig = head_map_figure([run], {}, count=3)
    for segment, title in (("bos", "BOS"), ("query", "query"), ("reasoning", "reasoning"), ("answer", "answer")):
        (axes,) = [axes for axes in panels(fig) if axes.get_title().endswith(f"\u2192 {title}")]
        expected = masses[..., SEGMENTS.index(segment)].mean(axis=0)
        np.testing.assert_allclose(axes.images[0].get_array(), expected, atol=1e-6)
        ranked = sorted(np.ndindex(layers, heads), key=lambda place: -masses[:, place[0], place[1], 3].mean())
        assert boxed_heads(axes) == ranked[:3]


def test_layers_that_were_not_captured_stay_blank(tmp_path: Path) -> None:
    cells = {("a", layer, 0, "answer"): [0.5, 0, 0, 0.5, 0, 0] for layer in (1, 3)}
    run = AttentionRun("toy_model", "toy", "with_reasoning", write_masses(tmp_path / "a.parquet", cells))
    axes = panels(head_map_figure([run], {}))[2]
    assert axes.images[0].get_array().filled(np.nan)[:, 0].tolist() == pytest.approx(
        [np.nan, 0.5, np.nan, 0.5], nan_ok=True
    )
    assert boxed_heads(axes) == [(1, 0), (3, 0)]


def write_heads(path: Path) -> Path:
    rows = [
        (0, 0, "toy", 3, 0.0, 0.9),
        (0, 1, "toy", 1, 0.8, 0.0),
        (1, 0, "toy", 2, 0.7, 0.2),
        (1, 1, "toy", 4, 0.9, 0.0),
        (1, 1, "other", 1, 0.9, 0.0),
    ]
    columns = ["layer", "head", "dataset", "rank", "induction", "retrieval"]
    pl.DataFrame(rows, schema=columns, orient="row").write_parquet(path)
    return path


def test_marks_come_from_the_heads_parquet_of_that_dataset(tmp_path: Path) -> None:
    marks = read_head_marks(write_heads(tmp_path / "heads.parquet"), "toy", count=2)
    assert marks == HeadMarks(rfh=((0, 1), (1, 0)), induction=((1, 1), (0, 1)), retrieval=((0, 0), (1, 0)))
    run, _ = grid_run(tmp_path, "toy_model", 2, 2)
    fig = head_map_figure([run], {"toy_model": marks})
    axes = panels(fig)[0]
    assert boxed_heads(axes) == [(0, 1), (1, 0)]
    assert marked_heads(axes, "^") == [(1, 1), (0, 1)]
    assert marked_heads(axes, "o") == [(0, 0), (1, 0)]
    assert [text.get_text().split()[0] for text in fig.legends[0].get_texts()] == [
        "Reasoning-Focus",
        "induction",
        "retrieval",
    ]


def test_a_redraw_and_another_row_order_give_the_same_bytes(tmp_path: Path) -> None:
    run, _ = grid_run(tmp_path, "toy_model", 4, 3)
    heads = {"toy_model": write_heads(tmp_path / "heads.parquet")}

    def drawn(folder: Path) -> list[bytes]:
        paths = [*draw_box_plots([run], folder), *draw_head_maps([run], folder, heads)]
        assert sorted(path.name for path in paths) == sorted(
            f"{stem}-toy.{kind}" for stem in ("segment-masses", "head-maps") for kind in ("png", "pdf")
        )
        return [path.read_bytes() for path in paths]

    first = drawn(tmp_path / "one")
    pl.read_parquet(run.path).sample(fraction=1, shuffle=True, seed=3).write_parquet(run.path)
    assert drawn(tmp_path / "two") == first


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    run, _ = grid_run(tmp_path, "toy_model", 2, 2)
    with pytest.raises(R2AError, match="no reasoning rows"):
        box_plot_figure([run], "reasoning")
    with pytest.raises(R2AError, match="one dataset"):
        draw_box_plots([run, AttentionRun("toy_model", "other", "with_reasoning", run.path)], tmp_path)
    with pytest.raises(R2AError, match="does not rank heads on 'third'"):
        read_head_marks(write_heads(tmp_path / "heads.parquet"), "third")
    pl.read_parquet(run.path).drop("answer").write_parquet(run.path)
    with pytest.raises(R2AError, match="no column answer"):
        head_map_figure([run], {})
