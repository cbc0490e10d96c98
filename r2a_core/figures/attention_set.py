"""All attention figures of one dataset: segment masses, head maps, walks, attention maps and coloured tokens.

data/attention/<model>/<dataset>/<setting>.parquet, data/heads/<model>.parquet, data/maps/<model>/<dataset>*.parquet
-> the files that figures/attention.py, walks.py, maps.py and tokens.py describe. Models without captured traces are
left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from r2a_core.config import WalkThresholds
from r2a_core.figures.head_maps import draw_head_maps
from r2a_core.figures.maps import MapSource, draw_attention_maps
from r2a_core.figures.segment_masses import AttentionRun, draw_box_plots
from r2a_core.figures.tokens import SpanSource, draw_span_figures
from r2a_core.figures.walks import draw_walk_overview
from r2a_core.infra.files import read_frame

REASONED = "with_reasoning"


@dataclass(frozen=True)
class FigureFiles:
    """Folders of what the figures are drawn from."""

    attention: Path
    heads: Path
    maps: Path

    def run(self, model: str, dataset: str, setting: str) -> AttentionRun:
        return AttentionRun(model, dataset, setting, self.attention / model / dataset / f"{setting}.parquet")


def draw_dataset(
    files: FigureFiles,
    models: Sequence[str],
    dataset: str,
    settings: Sequence[str],
    folder: Path,
    top: int = 10,
    thresholds: WalkThresholds | None = None,
) -> list[Path]:
    """Draws every figure of one dataset; returns the files. Raises R2AError when something to draw from is missing."""
    runs = [files.run(model, dataset, setting) for setting in settings for model in models]
    with_answers = [run for run in runs if has_source(run, "answer")]
    if not with_answers:
        return []
    written = draw_box_plots(with_answers, folder)
    with_rows = [run for run in with_answers if run.setting == REASONED and has_source(run, "reasoning")]
    if with_rows:
        written += draw_box_plots(with_rows, folder, "reasoning")
    reasoned = [run for run in with_answers if run.setting == REASONED]
    if reasoned:
        heads = {run.model: files.heads / f"{run.model}.parquet" for run in reasoned}
        written += draw_head_maps(reasoned, folder, heads, top)
        written += draw_walk_overview(heads, dataset, folder, top, thresholds)
    for run in reasoned:
        written += draw_traces(files, run, folder)
    return written


def draw_traces(files: FigureFiles, run: AttentionRun, folder: Path) -> list[Path]:
    """Maps and coloured tokens of the chosen traces of one model."""
    stem = files.maps / run.model
    tokens = stem / f"{run.dataset}-tokens.parquet"
    maps = MapSource(run.model, run.dataset, stem / f"{run.dataset}.parquet", tokens, run.path)
    spans = SpanSource(run.model, run.dataset, tokens, stem / f"{run.dataset}-spans.parquet")
    count = read_frame(tokens, ["item_id"], "maps").height
    return [*draw_attention_maps(maps, folder, count=count), *draw_span_figures(spans, folder)]


def has_source(run: AttentionRun, source: str) -> bool:
    """Whether a run has rows of that source. Raises R2AError when its file is missing."""
    return bool((read_frame(run.path, ["source"], "attention")["source"] == source).any())
