"""The start of the page: what ran, what was found, the paper's numbers beside ours.

ReportInputs and the records of the other sections -> one record.
"""

import json
from collections.abc import Mapping
from typing import Any

from r2a_core.config import WithoutMode
from r2a_core.infra.errors import R2AError
from r2a_core.prompt_texts import THINKING
from r2a_core.report.certainty import how_sure, limits, nulls
from r2a_core.report.comparison import beside_each_other, beside_paper
from r2a_core.report.findings import questions
from r2a_core.report.inputs import Gaps, Records, ReportInputs, add_gap, flattened, read_if_there
from r2a_core.report.values import run_values
from r2a_core.wording import plural


def overview(inputs: ReportInputs, sections: Mapping[str, Records], gaps: Gaps) -> dict[str, Any]:
    """Collects what ran, what was found, and the comparisons with the paper and among the models."""
    models = [model_record(inputs, name, sections["heads"], gaps) for name in inputs.models]
    values = run_values(sections, inputs.walk)
    return {
        "models": models,
        "datasets": [dataset_record(inputs, name) for name in inputs.datasets],
        "settings": list(inputs.settings),
        "questions": questions(sections, inputs.walk),
        "sure": how_sure(sections),
        "limits": limits(models, sections, placeholder(inputs.without_mode)),
        "nulls": nulls(sections),
        "published": beside_paper(sections, values, inputs.evaluate),
        "beside": beside_each_other(inputs.models, values, inputs.evaluate),
        "params": list(flattened(inputs.values)),
    }


def model_record(inputs: ReportInputs, name: str, heads: Records, gaps: Gaps) -> dict[str, Any]:
    """Describes a model: kind, source, pinned revision and size."""
    path = inputs.paths.model(name) / "model.json"
    pointer: dict[str, Any] = {}
    if path.is_file():
        try:
            pointer = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise R2AError(f"{path} is damaged: {error}", "rebuild it with: dvc repro --force prepare_model") from None
    else:
        add_gap(gaps, "Overview", f"{name} has not been prepared", "prepare_model")
    scores = next((record["scores"] for record in heads if record["model"] == name), None)
    given = inputs.values.get("models", {}).get(name, {})
    kind = pointer.get("kind") or given.get("kind")
    gguf = (pointer.get("gguf") or {}).get("file")
    record = {
        "name": name,
        "kind": kind,
        "source": (pointer.get("source") or given.get("hub_id")) if kind == "hub" else gguf,
        "adapter": (given.get("adapter") or {}).get("path"),
        "revision": pointer.get("revision"),
        "dtype": pointer.get("dtype"),
        "layers": None if scores is None else max(scores["layer"]) + 1,
        "heads": None if scores is None else max(scores["head"]) + 1,
    }
    return record | {"line": model_line(record, inputs.params.about.get(name))}


MADE = {  # by kind
    "train": "trained by this study from nothing",
    "hub": "from the Hugging Face Hub",
    "local": "from a local folder",
    "gguf": "a pretrained model",
    "texts": "known by its texts alone",
    "endpoint": "asked over a network",
}


def model_line(record: Mapping[str, Any], about: str | None) -> str:
    """Introduces a model in one line: how it was made, in the words of params.yaml where it has them, and its size."""
    made = MADE.get(record["kind"], "of unknown origin")
    source = "" if record["source"] is None else f" ({record['source']})"
    own = f", {about}" if about else "" if record["adapter"] is None else f", tuned by the adapter {record['adapter']}"
    size = "" if record["layers"] is None else f"; {record['layers']} layers of {plural(record['heads'], 'head')}"
    return f"{record['name']}: {made}{source}{own}{size}."


def placeholder(mode: WithoutMode) -> str:
    """Quotes what stands in the place of the reasoning in the setting without it."""
    text = THINKING[mode].strip()
    return f"\u201c{text}\u201d" if text else "nothing"


def dataset_record(inputs: ReportInputs, name: str) -> dict[str, Any]:
    """Describes a dataset: kind, number of questions and the first of them."""
    frame = read_if_there(inputs.paths.items(name), ["item_id", "question"], "prepare_dataset")
    kind = inputs.values.get("datasets", {}).get(name, {}).get("kind")
    rows = [] if frame is None else frame["question"].head(1).to_list()
    return {
        "name": name,
        "kind": kind,
        "n": None if frame is None else frame.height,
        "example": next(iter(rows), None),
    }
