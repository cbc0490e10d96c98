"""Figures 4 and 11 and the overview of walks: what is drawn, against maps and scores with known positions."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from matplotlib.figure import Figure

from r2a_core.figures.head_maps import HeadMarks
from r2a_core.figures.maps import MapSource, draw_attention_maps, map_figure, read_patterns, read_traces, read_walks
from r2a_core.figures.walks import WalkThresholds, draw_walk_overview, keep_apart, overlap_counts, walk_overview_figure
from r2a_core.infra.errors import R2AError

# One trace of 16 tokens: BOS, query [1, 4), <think> 4, reasoning [5, 11), </think> 11, answer [12, 15), EOS 15.
TRACE = {
    "item_id": "a$_1",
    "tokens": ["x"] * 16,
    "think_open": 4,
    "think_close": 11,
    "n_tokens": 16,
    "reflection": [7, 9],
}
FIRST_TOKENS = [0, 2, 4, 6, 8, 10, 12, 14]  # pooled by two


def map_row(kind: str = "head", layer: int | None = 1, head: int | None = 2, item_id: str = "a$_1") -> dict[str, Any]:
    pattern = np.tril(np.arange(1.0, 65.0).reshape(8, 8) / 64)
    tokens = {"row_token": FIRST_TOKENS, "col_token": FIRST_TOKENS}
    key = {"item_id": item_id, "kind": kind, "layer": layer, "head": head, "n_tokens": 16}
    return key | tokens | {"pattern": pattern.ravel().tolist()}


def write_source(folder: Path, rows: list[dict[str, Any]], centroid: list[float] | None = None) -> MapSource:
    """Maps and tokens of TRACE and, given a centroid, an attention file with the walk of head (1, 2)."""
    paths = [folder / name for name in ("maps.parquet", "tokens.parquet", "attention.parquet")]
    pl.DataFrame(rows, schema_overrides={"layer": pl.Int16, "head": pl.Int16}).write_parquet(paths[0])
    pl.DataFrame([TRACE | {"item_id": item} for item in dict.fromkeys(row["item_id"] for row in rows)]).write_parquet(
        paths[1]
    )
    if centroid is None:
        return MapSource("toy_model", "toy", paths[0], paths[1])
    walk = {"item_id": "a$_1", "layer": 1, "head": 2, "source": "answer", "walk_correlation": 0.5}
    walk |= {"centroid": centroid, "spread": [0.1] * len(centroid)}
    other = walk | {"source": "reasoning", "walk_correlation": None, "centroid": None, "spread": None}
    pl.DataFrame([other, walk]).write_parquet(paths[2])
    return MapSource("toy_model", "toy", *paths)


def one_column(source: MapSource) -> list[Any]:
    """The whole map and the enlarged part."""
    return one_trace(source).axes[:2]


def one_trace(source: MapSource) -> Figure:
    traces = read_traces(source.tokens)
    patterns, walks = read_patterns(source, traces), read_walks(source, traces)
    key = ("L1.H2", "a$_1")
    return map_figure("toy", [traces["a$_1"]], [patterns[key]], [walks.get(key)])


def mesh(axes: Any) -> np.ndarray:
    return np.asarray(axes.collections[0].get_array())


def reflection_lines(axes: Any) -> list[tuple[float, float, float]]:
    """(x, top, bottom) of each line."""
    return [(s[0, 0], s[0, 1], s[1, 1]) for s in axes.collections[1].get_segments()]


def test_whole_map_boxes_answer_to_reasoning_and_draws_reflection_lines(tmp_path: Path) -> None:
    whole = one_column(write_source(tmp_path, [map_row()]))[0]
    np.testing.assert_allclose(mesh(whole), np.tril(np.arange(1.0, 65.0).reshape(8, 8) / 64), atol=1e-7)
    corners = whole.collections[0].get_coordinates()
    assert corners[0, :, 0].tolist() == [*FIRST_TOKENS, 15]
    assert corners[:, 0, 1].tolist() == [*FIRST_TOKENS, 15]
    (box,) = whole.patches
    assert box.get_bbox().bounds == (5, 12, 6, 3)  # reasoning [5, 11) x answer [12, 15)
    assert reflection_lines(whole) == [(7, 7, 15), (9, 9, 15)]
    assert whole.get_ylim() == (15, 0)
    assert [
        (tick.get_text(), place)
        for tick, place in zip(whole.get_xticklabels(minor=True), whole.get_xticks(minor=True), strict=True)
    ] == [
        ("query", 2.5),
        ("reasoning", 8.0),
        ("answer", 13.5),
    ]


def test_the_enlarged_part_holds_the_cells_of_the_box_and_the_centroid_walk(tmp_path: Path) -> None:
    part = one_column(write_source(tmp_path, [map_row()], centroid=[0.0, 0.5, 1.0]))[1]
    # rows 12 and 14 (cells 6, 7), columns 4..10 (cells 2..5)
    np.testing.assert_allclose(mesh(part), np.arange(1.0, 65.0).reshape(8, 8)[6:8, 2:6] / 64, atol=1e-7)
    assert (part.get_xlim(), part.get_ylim()) == ((5, 11), (15, 12))
    (walk,) = [line for line in part.lines if line.get_gid() == "walk"]
    assert walk.get_xdata().tolist() == [5, 8, 11]
    assert walk.get_ydata().tolist() == [12.5, 13.5, 14.5]
    assert part.get_title() == "walk: r = 0.50"
    assert reflection_lines(part) == [(7, 12, 15), (9, 12, 15)]


def test_without_an_attention_file_no_walk_is_drawn(tmp_path: Path) -> None:
    fig = one_trace(write_source(tmp_path, [map_row()]))
    assert not fig.axes[1].lines
    assert [text.get_text() for text in fig.legends[0].get_texts()] == ["answer \u2192 reasoning", "reflection token"]


def test_one_picture_a_map_and_a_column_a_trace(tmp_path: Path) -> None:
    maps = (("head", 0, 3), ("rfh_mean", None, None))
    source = write_source(tmp_path, [map_row(*each, item_id=item) for item in ("a$_1", "b") for each in maps])
    names = [path.name for path in draw_attention_maps(source, tmp_path / "all", count=1)]
    stems = ["L0H3", "RFH-mean"]
    assert sorted(names) == sorted(
        f"attention-map-toy_model-toy-{stem}.{kind}" for stem in stems for kind in ("png", "pdf")
    )
    chosen = draw_attention_maps(source, tmp_path / "one", items=["b"], heads=[(0, 3)])
    assert {path.stem for path in chosen} == {"attention-map-toy_model-toy-L0H3"}


def test_maps_and_overview_are_redrawn_byte_for_byte(tmp_path: Path) -> None:
    source = write_source(tmp_path, [map_row()], centroid=[0.1, 0.5, 0.9])
    heads = {"toy_model": write_heads(tmp_path / "heads.parquet")}

    def drawn(folder: Path) -> list[bytes]:
        paths = draw_attention_maps(source, folder) + draw_walk_overview(heads, "toy", folder, count=2)
        return [path.read_bytes() for path in paths]

    assert drawn(tmp_path / "one") == drawn(tmp_path / "two")


def test_maps_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(R2AError, match=r"no map L9.H9 of 'a\$_1'"):
        draw_attention_maps(write_source(tmp_path, [map_row()]), tmp_path, heads=[(9, 9)])
    with pytest.raises(R2AError, match="2 centroids for 3 answer tokens"):
        draw_attention_maps(write_source(tmp_path, [map_row()], centroid=[0.1, 0.2]), tmp_path)
    short = map_row() | {"pattern": [0.5] * 63}
    with pytest.raises(R2AError, match="is not 8 x 8"):
        draw_attention_maps(write_source(tmp_path, [short]), tmp_path)
    source = write_source(tmp_path, [map_row()])
    pl.read_parquet(source.tokens).with_columns(item_id=pl.lit("other")).write_parquet(source.tokens)
    with pytest.raises(R2AError, match=r"no trace 'a\$_1'"):
        draw_attention_maps(source, tmp_path)


def write_heads(path: Path) -> Path:
    """Four heads of two layers; head (1, 1) has no walk correlation."""
    rows = [
        (0, 0, "toy", 0.8, 2, 0.0, 0.9, 0.1, 0.95),
        (0, 1, "toy", 0.3, 3, 0.8, 0.0, 0.2, 0.6),
        (1, 0, "toy", 0.9, 1, 0.7, 0.2, 0.9, 0.2),
        (1, 1, "toy", 0.1, 4, 0.0, 0.0, None, 0.3),
        (0, 0, "other", 0.9, 1, 0.0, 0.9, 0.9, 0.9),
    ]
    columns = ["layer", "head", "dataset", "answer_to_reasoning", "rank", "induction", "retrieval"]
    pl.DataFrame(rows, schema=[*columns, "walk_correlation", "uniformity"], orient="row").write_parquet(path)
    return path


def panel(fig: Figure, label: str) -> Any:
    (axes,) = [axes for axes in fig.axes if label in axes.get_ylabel()]
    return axes


def points(axes: Any, number: int) -> list[tuple[float, float]]:
    return [tuple(place) for place in axes.collections[number].get_offsets().tolist()]


def test_overview_places_heads_by_their_scores_and_ranks_the_rfhs(tmp_path: Path) -> None:
    heads = {"toy_model": write_heads(tmp_path / "heads.parquet")}
    fig = walk_overview_figure(heads, "toy", count=2, thresholds=WalkThresholds(mass=0.6, correlation=0.7))
    walk, uniformity = panel(fig, "walk correlation"), panel(fig, "uniformity")
    assert sorted(points(walk, 0)) == [(0.3, 0.2), (0.8, 0.1), (0.9, 0.9)]
    assert points(walk, 1) == [(0.9, 0.9), (0.8, 0.1)]
    assert [text.get_text() for text in walk.texts] == ["1", "2"]
    dashed = [line for line in walk.lines if line.get_gid() == "threshold"]
    assert [(line.get_xdata()[0], line.get_ydata()[0]) for line in dashed] == [(0.6, 0), (0, 0.7)]
    leaders = [line for line in walk.lines if line.get_gid() is None]
    assert [(line.get_xdata()[0], line.get_ydata()[0]) for line in leaders] == [(0.9, 0.9), (0.8, 0.1)]
    assert [(line.get_xdata()[1], line.get_ydata()[1]) for line in leaders] == [
        text.get_position() for text in walk.texts
    ]
    assert sorted(points(uniformity, 0)) == [(0, 0.6), (0, 0.95), (1, 0.2), (1, 0.3)]
    # of the top two of each kind: head (1, 0) is in all three, (0, 0) RFH and retrieval, (0, 1) induction alone
    assert [bar.get_height() for bar in panel(fig, "heads").patches] == [1, 0, 1, 0, 0, 1, 0]


def test_labels_of_heads_that_coincide_are_kept_apart_and_near() -> None:
    places = np.array([[0.0, 0.0], [0.0, 0.0], [0.01, 0.0], [5.0, 5.0]])
    moved = keep_apart(places, 0.2, low=np.array([-1.0, -0.1]), high=np.array([6.0, 6.0]))
    distances = np.linalg.norm(moved[:, None] - moved[None], axis=-1)[np.triu_indices(4, 1)]
    assert distances.min() > 0.19
    assert np.linalg.norm(moved[:, None] - places[None], axis=-1).min() > 0.14
    assert np.linalg.norm(moved - places, axis=1).max() < 0.5
    assert moved[:, 1].min() >= 0  # half a gap inside the panel


def test_a_head_counts_in_exactly_one_combination() -> None:
    marks = HeadMarks(
        rfh=((0, 0), (0, 1), (0, 2)), induction=((0, 1), (0, 2), (3, 3)), retrieval=((0, 2), (4, 4), (5, 5))
    )
    counts = overlap_counts(marks)
    assert counts[True, True, True] == 1
    assert counts[True, True, False] == 1
    assert counts[True, False, False] == 1
    assert counts[False, True, False] == 1
    assert counts[False, False, True] == 2
    assert sum(counts.values()) == 6
