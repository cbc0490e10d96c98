"""Builds the study as one HTML file that needs no network and no server: data/report/index.html.

ReportInputs -> the page's data -> HTML text. The page carries its style, its script and its data. A content security
policy permits that one style and that one script, by hash, and forbids everything else; model text is only ever
inserted as text. Equal inputs give equal bytes.
"""

import base64
import hashlib
import logging
from collections.abc import Mapping
from dataclasses import asdict, replace
from importlib.resources import files
from typing import Any

from r2a_core import appearance
from r2a_core.evaluation.answers import KINDS
from r2a_core.infra.errors import R2AError
from r2a_core.knockout.summary import SET_NAMES
from r2a_core.report.answers import add_answers
from r2a_core.report.comparison import beside_run
from r2a_core.report.encode import CODES, plain, script_safe
from r2a_core.report.inputs import Gaps, ReportInputs, words
from r2a_core.report.instruments import instruments_section
from r2a_core.report.knockout import knockout_section
from r2a_core.report.measured import GLOSSARY, MEASURED
from r2a_core.report.overview import overview
from r2a_core.report.perturb import perturb_section
from r2a_core.report.readers import readers_section
from r2a_core.report.sections import attention_section, evaluation_section, heads_section, patching_section
from r2a_core.report.sentences import sentences_section
from r2a_core.report.size import trimmed
from r2a_core.report.traces import traces_section
from r2a_core.report.walks import walks_section
from r2a_core.results import SEGMENT_LABELS

# In the order in which they are joined: helpers first, one file a figure, then what starts the page.
SCRIPTS = (
    *(
        "unpack",
        "dom",
        "state",
        "pictures",
        "frame",
        "colours",
        "charts",
        "grids",
        "overview",
        "headline",
        "accuracy",
        "answers",
    ),
    *("judged", "items", "evidence", "boxes", "heads", "readers", "walks", "maps", "walk", "text"),
    *("reader_links", "reader_axis", "reader_tokens", "reader_sentences", "reader_lines", "reader", "curves", "cells"),
    *("knockout", "perturb", "sentences", "instruments", "beside", "start"),
)

MEGABYTE = 1_000_000
NOTE = 500  # bytes, at most, that say what was left out
LINK = 150  # bytes, at most, of a link to a further page
WHOLE = {"label": "the whole study", "href": "../index.html"}

log = logging.getLogger(__name__)


def report_data(
    inputs: ReportInputs, machine: Mapping[str, str] | None = None, against: ReportInputs | None = None
) -> dict[str, Any]:
    """Collects everything the page shows, as JSON-able values. machine: facts to print with it; against: another run
    to set beside this one."""
    gaps: Gaps = []
    sections = section_records(inputs, gaps)
    add_answers(sections)
    beside = None if against is None else plain(beside_run(inputs, sections, against, other_records(against)))
    return {
        "title": inputs.params.title,
        "codes": CODES,
        "segments": dict(SEGMENT_LABELS),
        **appearance_record(),
        "walk_from": inputs.walk.correlation,
        "set_names": SET_NAMES,
        "measured": {
            id_: asdict(one) | {"data": [each.as_posix() for each in one.data]} for id_, one in MEASURED.items()
        },
        "glossary": GLOSSARY,
        "answer_kinds": {name: asdict(kind) for name, kind in KINDS.items()},
        "overview": plain(overview(inputs, sections, gaps)),
        **{name: plain(section) for name, section in sections.items()},
        "against": beside,
        "gaps": gaps,
        "left_out": [],
        "pages": [],
        "machine": None if machine is None else dict(machine),
    }


def appearance_record() -> dict[str, Any]:
    """Collects the colours, labels and lines that page and figures share."""
    named = ("BLUE", "ORANGE", "GREEN", "VERMILION", "SKY", "PURPLE")
    shared = {"curves": appearance.CURVES, "cut_curves": appearance.CUT_CURVES, "mistakes": appearance.MISTAKES}
    shared["head_kinds"] = appearance.HEAD_KINDS
    return {
        "colours": {name: getattr(appearance, name) for name in named},
        "palette": appearance.PALETTE,
        "setting_colours": appearance.SETTING_COLOURS,
        "cut_colours": appearance.CUT_COLOURS,
        "exchange_axes": appearance.EXCHANGE_AXES,
        **{name: {key: asdict(look) for key, look in own.items()} for name, own in shared.items()},
    }


def section_records(inputs: ReportInputs, gaps: Gaps) -> dict[str, list[dict[str, Any]]]:
    """Collects the records of each section; what is absent goes to `gaps`."""
    return {
        "evaluation": evaluation_section(inputs, gaps),
        "attention": attention_section(inputs, gaps),
        "heads": heads_section(inputs, gaps),
        "readers": readers_section(inputs, gaps),
        "walks": walks_section(inputs, gaps),
        "traces": traces_section(inputs, gaps),
        "patching": patching_section(inputs, gaps),
        "knockout": knockout_section(inputs, gaps),
        "perturb": perturb_section(inputs, gaps),
        "sentences": sentences_section(inputs, gaps),
        "instruments": instruments_section(inputs, gaps),
    }


def other_records(against: ReportInputs) -> dict[str, list[dict[str, Any]]]:
    """Collects the sections of another run. Raises R2AError for files that this version cannot read."""
    try:
        return section_records(against, [])
    except R2AError as error:
        raise R2AError(error.message, "compare with a study that is whole and was made by this version") from None


def build_page(data: dict[str, Any], megabytes: float) -> str:
    """Writes the page as HTML. One larger than `megabytes` is trimmed, and says so; see `fitted`."""
    return assemble(fitted(data, megabytes))


def build_pages(inputs: ReportInputs, data: dict[str, Any]) -> tuple[str, dict[str, str]]:
    """Writes the page, and where it had to be trimmed a further one for each model and dataset, by file name.

    A further page is that of a study of the model and dataset alone, and holds what is read one at a time as far as it
    fits by itself.
    """
    names = [f"{model}-{dataset}.html" for model, dataset in inputs.runs]
    one = fitted(data, inputs.params.megabytes, len(names) * LINK)
    if not one["left_out"] or len(names) == 1:
        return assemble(one), {}
    links = [{"label": words(name.removesuffix(".html")), "href": f"pages/{name}"} for name in names]
    pages = {}
    for name, (model, dataset) in zip(names, inputs.runs, strict=True):
        readers = {reader: texts for reader, texts in inputs.readers.items() if texts == model}
        alone = replace(inputs, models=(model,), datasets=(dataset,), readers=readers)
        pages[name] = build_page(report_data(alone) | {"pages": [WHOLE]}, inputs.params.megabytes)
    return assemble(one | {"pages": links}), pages


def fitted(data: dict[str, Any], megabytes: float, spare: int = 0) -> dict[str, Any]:
    """Trims the data of a page that would be larger than `megabytes`; see `trimmed`. spare: bytes that stay free."""
    html = assemble(data)
    excess = len(html.encode("utf-8")) + spare - megabytes * MEGABYTE
    if excess <= 0:
        return data
    data = trimmed(data, excess + NOTE)
    size = f"{len(assemble(data)) / MEGABYTE:.1f} MB, to fit report.megabytes ({megabytes:g})"
    log.warning("the page carries %s: %s", ", ".join(data["left_out"]) or "nothing that could be left out", size)
    return data


def assemble(data: Mapping[str, Any]) -> str:
    """Puts the HTML file together around its data."""
    script = "\n".join(["'use strict';", *(page_file(f"{name}.js") for name in SCRIPTS)])
    style = page_file("style.css")
    policy = (
        f"default-src 'none'; script-src '{source_hash(script)}'; style-src '{source_hash(style)}'; "
        "base-uri 'none'; form-action 'none'; connect-src 'none'; img-src data:"
    )
    parts = {"policy": policy, "style": style, "data": script_safe(data), "script": script}
    pieces = page_file("index.html").split("@@")  # text and names in turn, so that no content is read as a place
    return "".join(parts[piece] if number % 2 else piece for number, piece in enumerate(pieces))


def source_hash(text: str) -> str:
    """Hashes an inline script or style as a content security policy names it."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode('utf-8')).digest()).decode('ascii')}"


def page_file(name: str) -> str:
    """Reads a file of the page's own code."""
    return (files("r2a_core.report") / "page" / name).read_text(encoding="utf-8")
