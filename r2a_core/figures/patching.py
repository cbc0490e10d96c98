"""What patched activations restore: by token and layer for one pair, and by layer over all pairs (Figures 7 and 8).

data/patching/<model>.parquet -> <folder>/patching-positions, <folder>/patching-layers (PNG and PDF).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from r2a_core.appearance import CURVES, EXCHANGE_AXES, INK
from r2a_core.config import CrossingParams, PatchingFigureParams
from r2a_core.figures.style import GRID, save_figure, say_empty
from r2a_core.infra.errors import R2AError
from r2a_core.infra.files import read_frame
from r2a_core.paper import PATCHING
from r2a_core.patching.summary import Crossing, crossing, layer_curves

COLUMNS = ("pair_id", "probe", "component", "layer", "position", "role", "clean_token", "corrupted_token", "nld")

PROBE_TITLES = {"plain": "“Final answer is A.”", "boxed": "“Final answer is \\boxed{A}.”"}

HEAT = colormaps["RdBu"].with_extremes(bad="0.85")


@dataclass(frozen=True)
class PositionMap:
    """NLD of one pair and probe, by layer and patched position."""

    pair_id: str
    probe: str
    nld: np.ndarray  # (layer, position)
    labels: tuple[str, ...]  # by position: the token, or both where clean and corrupted differ
    roles: tuple[str, ...]  # by position
    gaps: tuple[int, ...]  # places between positions that are not neighbours in the text


def read_cells(path: Path) -> pl.DataFrame:
    """Read the resid_pre cells of one model. Raises R2AError when the file or a column is missing or damaged."""
    return read_frame(path, COLUMNS, "patch").filter(pl.col("component") == "resid_pre")


def example_pair(tables: Mapping[str, pl.DataFrame], wanted: str | None) -> str | None:
    """Choose the pair to draw: `wanted`, or the first that most models have; None when no model has any.

    Raises R2AError when no model has the pair wanted.
    """
    held = {model: set(cells["pair_id"]) for model, cells in tables.items()}
    known = set().union(*held.values())
    if wanted is not None and wanted not in known:
        hint = f"set patch.figures.example to null, or to one of {', '.join(sorted(known)[:8]) or 'no pairs'}"
        raise R2AError(f"no model has the pair {wanted!r}", hint)
    if wanted is not None or not known:
        return wanted
    return min(known, key=lambda pair: (-sum(pair in pairs for pairs in held.values()), pair))


def position_map(cells: pl.DataFrame, pair_id: str, probe: str) -> PositionMap | None:
    """Arrange the cells of one pair and probe; None when the table does not hold it."""
    own = cells.filter((pl.col("pair_id") == pair_id) & (pl.col("probe") == probe)).sort("layer", "position")
    if own.is_empty():
        return None
    first = own.filter(pl.col("layer") == own["layer"].min())
    positions = first["position"].to_list()
    tokens = zip(first["clean_token"], first["corrupted_token"], strict=True)
    return PositionMap(
        pair_id,
        probe,
        own["nld"].to_numpy().reshape(-1, len(positions)),
        tuple(
            token_label(clean) if clean == corrupted else f"{token_label(clean)} → {token_label(corrupted)}"
            for clean, corrupted in tokens
        ),
        tuple(first["role"]),
        tuple(index for index in range(1, len(positions)) if positions[index] > positions[index - 1] + 1),
    )


def token_label(token: str) -> str:
    """Show a token as a label, with visible spaces and line breaks."""
    return token.replace("\n", "⏎").replace(" ", "␣") or "∅"


def position_map_figure(tables: Mapping[str, pl.DataFrame], pair_id: str | None, probes: Sequence[str]) -> Figure:
    """Draw Figure 7: NLD by patched token (rows, in text order) and layer; a column per model, a row per probe.

    Beside each token stand its highest NLD and the layer of it.
    """
    maps = [[position_map(cells, pair_id or "", probe) for cells in tables.values()] for probe in probes]
    heights = [0.24 * max([len(each.labels) for each in row if each], default=4) + 0.75 for row in maps]
    fig = Figure(figsize=(4.3 * len(tables) + 0.7, sum(heights) + 0.5), layout="constrained")
    panels = fig.subplots(len(probes), len(tables), squeeze=False, height_ratios=heights)
    for row, probe, panel_row in zip(maps, probes, panels, strict=True):
        for found, model, axes in zip(row, tables, panel_row, strict=True):
            axes.set_title(f"{model}: {PROBE_TITLES[probe]}", parse_math=False, fontsize=9)
            if found is None:
                no_data_note(axes, f"no cells of pair {pair_id}" if pair_id else "no pair is left after the filters")
            else:
                draw_map(axes, found)
    for axes in panels[-1]:
        axes.set_xlabel(EXCHANGE_AXES["across"])
    bar = fig.colorbar(ScalarMappable(Normalize(-1, 1), HEAT), ax=panels, fraction=0.03, pad=0.01, extend="both")
    bar.set_label(EXCHANGE_AXES["up"])
    if pair_id:
        fig.suptitle(f"pair {pair_id}: clean activations patched into the corrupted run", fontsize=9, parse_math=False)
    return fig


def draw_map(axes: Axes, found: PositionMap) -> None:
    """Draw one panel of Figure 7."""
    axes.imshow(found.nld.T, cmap=HEAT, vmin=-1, vmax=1, aspect="auto", interpolation="nearest")
    places = np.arange(len(found.labels))
    axes.set_yticks(places, found.labels, fontsize=8, parse_math=False)
    for label, role in zip(axes.get_yticklabels(), found.roles, strict=True):
        label.set_color(CURVES["flip"].colour if role == "flip" else INK)
        label.set_fontweight("bold" if role == "flip" else "normal")
    for gap in found.gaps:
        axes.axhline(gap - 0.5, color=INK, linewidth=0.8, linestyle=(0, (1, 1.5)))
    best = found.nld.argmax(0)
    right = axes.secondary_yaxis("right")
    right.set_yticks(places, [f"{found.nld[layer, at]:.3f} (L{layer})" for at, layer in enumerate(best)], fontsize=7)
    right.tick_params(length=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.tick_params(axis="x", labelsize=8)


def layer_figure(tables: Mapping[str, pl.DataFrame], probes: Sequence[str], params: CrossingParams) -> Figure:
    """Draw Figure 8: mean NLD by layer with bands of one sample standard deviation over pairs; a column per model.

    A dashed line marks the layer from which on the last position restores more than the flipping token, its shade the
    bootstrap interval; a diamond on the axis the paper's crossing where the model is one of the paper's.
    """
    fig = Figure(figsize=(4.0 * len(tables) + 0.4, 2.7 * len(probes) + 0.5), layout="constrained")
    panels = fig.subplots(len(probes), len(tables), squeeze=False, sharey=True)
    for row, probe in zip(panels, probes, strict=True):
        for axes, (model, cells) in zip(row, tables.items(), strict=True):
            own = cells.filter(pl.col("probe") == probe)
            n_pairs = own["pair_id"].n_unique()
            title = f"{model}: {PROBE_TITLES[probe]}, n = {n_pairs} {'pair' if n_pairs == 1 else 'pairs'}"
            axes.set_title(title, parse_math=False, fontsize=9)
            if own.is_empty():
                no_data_note(axes, "no pair is left after the filters")
                continue
            draw_curves(axes, own)
            draw_crossing(axes, crossing(own, probe, params))
            if model in PATCHING:
                at = PATCHING[model].crossing[probe]
                axes.plot(at, -0.15, "D", color=INK, markersize=4, clip_on=False, gid="paper", label="paper's crossing")
        row[0].set_ylabel(EXCHANGE_AXES["up"])
    for axes in panels[-1]:
        axes.set_xlabel(EXCHANGE_AXES["across"])
    columns = len(CURVES) + 1 if panels.shape[1] > 1 else 2  # what fits the width
    fig.legend(handles=legend_handles(panels.flat), loc="outside lower center", ncols=columns, fontsize=8)
    return fig


def legend_handles(panels: Iterable[Axes]) -> list[Any]:
    """Collect one handle for each label of any panel, in the order of CURVES and then the paper's crossing."""
    found: dict[str, Any] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    order = [*(look.label for look in CURVES.values()), "paper's crossing"]
    return [found[label] for label in order if label in found]


def draw_curves(axes: Axes, cells: pl.DataFrame) -> None:
    """Draw the mean curves of one probe with their bands."""
    curves = layer_curves(cells)
    for name, look in CURVES.items():
        own = curves.filter(pl.col("curve") == name).sort("layer")
        if own.is_empty():
            continue
        layer, mean, sd = own["layer"].to_numpy(), own["mean"].to_numpy(), own["sd"].fill_null(0).to_numpy()
        line = (0, look.dash) if look.dash else "-"
        axes.plot(layer, mean, linestyle=line, color=look.colour, linewidth=1.6, label=look.label, gid=name)
        axes.fill_between(layer, mean - sd, mean + sd, color=look.colour, alpha=0.15, linewidth=0)
    axes.axhline(0, color=INK, linewidth=0.6)
    axes.grid(color=GRID)
    axes.set_ylim(-0.15, 1.15)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.tick_params(labelsize=8)


def draw_crossing(axes: Axes, found: Crossing) -> None:
    """Mark the crossing layer and its interval, and write both on the side where there is room."""
    if found.layer is None:
        axes.text(0.5, 0.95, "no crossing", transform=axes.transAxes, ha="center", va="top", fontsize=8)
        return
    axes.axvline(found.layer, color=INK, linewidth=0.9, linestyle=(0, (4, 3)), gid="crossing")
    text, edges = f"cross at {found.layer:.2f}", (found.layer, found.layer)
    if found.low is not None and found.high is not None:
        edges = (found.low, found.high)
        axes.axvspan(*edges, color=INK, alpha=0.12, linewidth=0)
        text += f"\n{100 * found.confidence:g}%: layers {found.low} to {found.high}"
    left = found.layer > np.mean(axes.get_xlim())
    place = {"xytext": (-4, 0), "ha": "right"} if left else {"xytext": (4, 0), "ha": "left"}
    axes.annotate(text, (edges[0 if left else 1], 1.12), textcoords="offset points", va="top", fontsize=8, **place)


def no_data_note(axes: Axes, text: str) -> None:
    """Say in a panel why it has no data."""
    axes.set_axis_off()
    say_empty(axes, text, size=9)


def draw_patching(
    paths: Mapping[str, Path], folder: Path, params: PatchingFigureParams, interval: CrossingParams
) -> list[Path]:
    """Draw Figures 7 and 8 into `folder`; return the files. paths: data/patching/<model>.parquet by model."""
    tables = {model: read_cells(path) for model, path in paths.items()}
    held = {probe for cells in tables.values() for probe in cells["probe"]}
    probes = [probe for probe in PROBE_TITLES if probe in held] or list(PROBE_TITLES)
    pair_id = example_pair(tables, params.example)
    return [
        *save_figure(position_map_figure(tables, pair_id, probes), folder / "patching-positions"),
        *save_figure(layer_figure(tables, probes, interval), folder / "patching-layers"),
    ]
