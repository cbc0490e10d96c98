"""A made-up study as large as real ones: what the page's size and speed are measured on, without a model.

Heads walk along the reasoning or look at some words of it, with noise; texts are drawn from few words, as texts are.
"""

from pathlib import Path

import numpy as np
import polars as pl

from r2a_core.attention.heads import rank_heads
from r2a_core.attention.map_lines import LINE_SCHEMA
from r2a_core.attention.map_links import LINK_SCHEMA
from r2a_core.attention.maps import MAP_SCHEMA, TOKEN_SCHEMA, first_tokens
from r2a_core.attention.tables import ATTENTION_SCHEMA, SENTENCE_SCHEMA
from r2a_core.data.items import items_frame
from r2a_core.patching.metrics import AnswerMetrics, Sweep, patching_frame
from r2a_core.paths import StudyPaths
from r2a_core.report.inputs import ReportInputs
from r2a_core.trace import SEGMENTS, TraceSegments
from tests.report.conftest import HEADS, question, report_inputs, write, write_evaluation

QUESTION, ANSWER = 200, 700  # tokens
CELLS, LINKS, VIEWS = 512, 12, 6
WORDS = [f" {a}{b}{c}" for a in ("th", "s", "wa", "co", "pro") for b in ("e", "o", "un", "i") for c in "dlnrsty"]


def large_study(
    root: Path,
    n_models: int = 3,
    shape: tuple[int, int] = (28, 28),
    n_items: int = 500,
    n_traces: int = 8,
    n_tokens: int = 10_000,
) -> ReportInputs:
    """Writes what the page reads of `n_models` models of `shape` (layer, head) on one dataset."""
    paths, models = StudyPaths(root), [f"model_{number}" for number in range(n_models)]
    items = [question(number) for number in range(n_items)]
    write(items_frame(items), paths.items("math500"))
    segments = TraceSegments(QUESTION, n_tokens - ANSWER, n_tokens)
    for seed, model in enumerate(models):
        draw = np.random.default_rng(seed)
        for setting, frame in write_evaluation(paths, model, "math500", items).items():
            long = n_tokens if setting == "with_reasoning" else ANSWER
            said = ["".join(words(draw, long)) + response for response in frame["response"]]
            write(frame.with_columns(response=pl.Series(said)), paths.generations(model, "math500", setting))
        write_traces(paths, model, [item.item_id for item in items[:n_traces]], segments, shape, draw)
        sweeps = [sweep(f"pair-{pair}", probe, shape[0], draw) for pair in range(30) for probe in ("plain", "boxed")]
        write(patching_frame(sweeps), paths.patching(model))
    return report_inputs(paths, models, ("math500",))


def words(draw: np.random.Generator, count: int) -> list[str]:
    """Tokens of a text: frequent and rare words, a full stop or a new line now and then."""
    drawn = [WORDS[at] for at in np.minimum(draw.zipf(1.3, count) - 1, len(WORDS) - 1)]
    return [(".\n" if at % 68 == 0 else ".") if at % 17 == 0 else word for at, word in enumerate(drawn, 1)]


def write_traces(
    paths: StudyPaths,
    model: str,
    ids: list[str],
    segments: TraceSegments,
    shape: tuple[int, int],
    draw: np.random.Generator,
) -> None:
    """Attention, sentences, heads, maps, tokens and links of some traces."""
    size = shape[0] * shape[1]
    heads = dict(zip(("layer", "head"), np.divmod(np.arange(size), shape[1]), strict=True))
    attention = pl.concat([attention_rows(one, segments, heads, draw) for one in ids])
    write(attention, paths.attention(model, "math500"))
    write(pl.concat([sentence_rows(one, segments, heads, draw) for one in ids]), paths.sentences(model, "math500"))
    scores = {name: draw.random(size) for name in ("induction", "induction_match", "retrieval")}
    frame = pl.DataFrame({name: values.astype(np.int16) for name, values in heads.items()} | scores)
    write(rank_heads({"math500": attention}, frame, HEADS), paths.heads(model))
    tokens = {"think_open": segments.think_open, "think_close": segments.think_close, "n_tokens": segments.n_tokens}
    reflection = draw.choice(segments.reasoning, 80, replace=False)
    rows = [
        {"item_id": one, "tokens": words(draw, segments.n_tokens), **tokens, "reflection": sorted(reflection.tolist())}
        for one in ids
    ]
    write(pl.DataFrame(rows, schema=TOKEN_SCHEMA), paths.map_tokens(model, "math500"))
    views = [
        ("rfh_mean", None, None),
        ("head_mean", None, None),
        *(("head", shape[0] - 1, head) for head in range(VIEWS - 2)),
    ]
    keys = [dict(zip(("item_id", "kind", "layer", "head"), (one, *view), strict=True)) for one in ids for view in views]
    found = [looks(segments, draw) for _ in keys]
    write(
        pl.concat([link_rows(key, segments, *one, draw) for key, one in zip(keys, found, strict=True)]),
        paths.map_links(model, "math500"),
    )
    write(pl.DataFrame([line_row(key, segments, draw) for key in keys], LINE_SCHEMA), paths.map_lines(model, "math500"))
    write(
        pl.DataFrame([map_row(key, segments, *one) for key, one in zip(keys, found, strict=True)], schema=MAP_SCHEMA),
        paths.maps(model, "math500"),
    )


def looks(segments: TraceSegments, draw: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Where the rows that write the answer look, (row, rank): reasoning tokens around a walk and sinks, and weights."""
    rows, length = len(segments.answer), len(segments.reasoning)
    walk = np.linspace(0.05, 0.95, rows)[:, None] * length
    near = walk + draw.normal(0, 200, (rows, LINKS))
    sinks = draw.integers(0, length, 40)
    tokens = np.where(draw.random((rows, LINKS)) < 0.6, near, sinks[draw.integers(0, 40, (rows, LINKS))])
    weights = -np.sort(-draw.lognormal(-4, 1.5, (rows, LINKS)), axis=1)
    weights /= np.maximum(1, 2 * weights.sum(axis=1, keepdims=True))
    return segments.reasoning.start + np.clip(tokens, 0, length - 1).astype(int), weights


def link_rows(
    key: dict, segments: TraceSegments, tokens: np.ndarray, weights: np.ndarray, draw: np.random.Generator
) -> pl.DataFrame:
    """LINK_SCHEMA of one view: of the answer what is given, elsewhere tokens shortly before and some of long ago."""
    first = segments.answer.start - 1
    frames = [part_links(key, "reasoning", np.arange(first, first + len(tokens)), tokens, weights)]
    for part, rows in (
        ("query", range(segments.think_open, first + len(tokens))),
        ("reasoning", range(segments.reasoning.start, segments.reasoning.stop)),
        ("answer", range(segments.answer.start, segments.n_tokens - 1)),
    ):
        row, own = np.array(rows), segments.ranges()[part]
        far = draw.integers(own.start, np.minimum(row + 1, own.stop)[:, None], (len(row), LINKS))
        near = row[:, None] - draw.geometric(0.05, (len(row), LINKS)) + 1
        near = np.where((near >= own.start) & (draw.random(near.shape) < 0.6), near, far)
        drawn = -np.sort(-draw.dirichlet([0.3] * LINKS, len(row)), axis=1) * draw.random((len(row), 1))
        frames.append(part_links(key, part, row, near, 0.4 * drawn))
    return pl.concat(frames)


def part_links(key: dict, part: str, row: np.ndarray, tokens: np.ndarray, weights: np.ndarray) -> pl.DataFrame:
    columns = {"row": row, "tokens": tokens.tolist(), "weights": weights.tolist(), "mass": weights.sum(axis=1) * 1.4}
    same = {name: pl.lit(value) for name, value in {**key, "part": part}.items()}
    return pl.DataFrame(columns).with_columns(**same).select(list(LINK_SCHEMA)).cast(LINK_SCHEMA)  # type: ignore[arg-type]


def line_row(key: dict, segments: TraceSegments, draw: np.random.Generator) -> dict:
    """LINE_SCHEMA of one view: 90 lines as long as one another, noise over even reading by the rows' places."""
    bounds = np.linspace(segments.reasoning.start, segments.reasoning.stop, 91).astype(int)
    even = np.tril(np.repeat(1 / bounds[1:, None], 90, axis=1))
    weights = even * draw.lognormal(0, 1.5, even.shape)
    cells = {"weights": weights.ravel().tolist(), "even": even.ravel().tolist()}
    return {**key, "start": bounds[:-1].tolist(), "end": bounds[1:].tolist(), "joined": 2, **cells}


def map_row(key: dict, segments: TraceSegments, tokens: np.ndarray, weights: np.ndarray) -> dict:
    rows, columns = (
        first_tokens(segments, each, CELLS)
        for each in (range(segments.answer.start - 1, segments.n_tokens - 1), range(segments.n_tokens - 1))
    )
    pattern = np.zeros((len(rows), len(columns)), np.float32)
    row = np.searchsorted(rows, segments.answer.start - 1 + np.arange(len(tokens)), side="right") - 1
    np.maximum.at(pattern, (row[:, None], np.searchsorted(columns, tokens, side="right") - 1), weights)
    noise = np.random.default_rng(0).lognormal(-9, 1, pattern.shape)
    axes = {"n_tokens": segments.n_tokens, "row_token": rows.tolist(), "col_token": columns.tolist()}
    return {**key, **axes, "pattern": np.maximum(pattern, np.minimum(noise, 1)).ravel().tolist()}


def attention_rows(item_id: str, segments: TraceSegments, heads: dict, draw: np.random.Generator) -> pl.DataFrame:
    """ATTENTION_SCHEMA of one trace: masses of both sources, and the walks of the answer."""
    size, rows = len(heads["layer"]), len(segments.answer)
    parts = []
    for source in ("answer", "reasoning"):
        masses = dict(zip(SEGMENTS, draw.dirichlet([2, 1, 1, 3, 1, 1], size).T, strict=True))
        columns = {name: draw.random(size) for name, dtype in ATTENTION_SCHEMA.items() if dtype == pl.Float32} | masses
        walks = {name: [None] * size for name in ("row_mass", "centroid", "spread")}
        if source == "answer":
            along = np.linspace(0, 1, rows) * draw.random((size, 1)) + draw.normal(0, 0.05, (size, rows))
            drawn = (draw.random((size, rows)), np.clip(along, 0, 1), 0.2 * draw.random((size, rows)))
            walks = {name: list(values.astype(np.float32)) for name, values in zip(walks, drawn, strict=True)}
        counts = {"n_source_tokens": [rows] * size, "n_reasoning_tokens": [len(segments.reasoning)] * size}
        frame = pl.DataFrame(heads | columns | walks | counts)
        same = {"item_id": pl.lit(item_id), "source": pl.lit(source)}
        parts.append(frame.with_columns(**same).select(list(ATTENTION_SCHEMA)).cast(ATTENTION_SCHEMA))  # type: ignore[arg-type]
    return pl.concat(parts)


def sentence_rows(item_id: str, segments: TraceSegments, heads: dict, draw: np.random.Generator) -> pl.DataFrame:
    starts = np.arange(segments.reasoning.start, segments.reasoning.stop, 17)
    count, size = len(starts), len(heads["layer"])
    each = {"sentence": np.arange(count), "start": starts, "end": np.append(starts[1:], segments.reasoning.stop)}
    columns = {name: np.repeat(values, size) for name, values in each.items()}
    columns |= {name: np.tile(values, count) for name, values in heads.items()}
    frame = pl.DataFrame(columns | {"mass": draw.exponential(0.5 / count, count * size)})
    same = {"item_id": pl.lit(item_id), "text": pl.lit(" so it goes."), "reflection": pl.col("sentence") % 9 == 0}
    return frame.with_columns(**same).select(list(SENTENCE_SCHEMA)).cast(SENTENCE_SCHEMA)  # type: ignore[arg-type]


def sweep(pair: str, probe: str, n_layers: int, draw: np.random.Generator) -> Sweep:
    roles = ("probe",) * 12 + ("flip", "probe", "think_close", "answer_end", "answer_end")
    values = draw.normal(0, 1, (n_layers, len(roles)))
    metrics = AnswerMetrics(values, values, np.tanh(values), (100 * values).astype(np.int64))
    texts = tuple(words(draw, len(roles)))
    positions = tuple(range(9000, 9000 + len(roles)))
    return Sweep(pair, probe, "resid_pre", positions, roles, texts, texts, metrics, 10.5, -9.5)
