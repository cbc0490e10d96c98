"""Sets numbers side by side: the paper's and this run's, the models of a run, or another run's and this one's.

values by column -> rows of model, dataset, measure and unit with a cell a column, and what only one column has.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from r2a_core.config import EvaluateParams
from r2a_core.infra.errors import R2AError
from r2a_core.report.differences import difference
from r2a_core.report.inputs import ReportInputs, flattened, read_if_there
from r2a_core.report.values import Sections, Value, paper_values, run_values

OURS = "this run"


def side_by_side(columns: Mapping[str, Sequence[Value]], params: EvaluateParams) -> dict[str, Any]:
    """Makes a row of each number that at least two columns have, and a sentence of what only one has. params: of the
    bootstrap."""
    found: dict[tuple[str, str, str, str], dict[str, Value]] = {}
    for column, values in columns.items():
        for one in values:
            found.setdefault((one.model, one.dataset, one.measure, one.unit), {})[column] = one
    rows, alone = [], {}
    for (model, dataset, measure, unit), own in found.items():
        if len(own) > 1:
            case = {"model": model, "dataset": dataset, "measure": measure, "unit": unit}
            rows.append(case | cells([own.get(column) for column in columns], params))
        else:
            case = ", ".join(filter(None, (model, dataset)))
            alone.setdefault(next(iter(own)), {}).setdefault(measure, []).append(case)
    return {"columns": list(columns), "rows": rows, "only": [only(*each) for each in alone.items()]}


def cells(values: Sequence[Value | None], params: EvaluateParams) -> dict[str, Any]:
    """Makes the cells of a row; heads are those shared with the first. difference: of two cells, second less first."""
    first = next(one for one in values if one is not None)
    made = [one and {"value": number(one, first), "low": one.low, "high": one.high} for one in values]
    known = [one for one in values if one is not None and one.value is not None]
    two = len(values) == len(known) == 2 and first.heads is None
    return {"cells": made, "difference": difference(known[0], known[1], params) if two else None}


def number(one: Value, first: Value) -> float | None:
    """Returns the number itself, of heads how many the first column has too."""
    return one.value if first.heads is None else len({*first.heads} & {*(one.heads or ())})


def only(column: str, measures: Mapping[str, Sequence[str]]) -> str:
    """Names what one column alone has, with its cases."""
    named = (f"{measure} ({'; '.join(cases)})" if any(cases) else measure for measure, cases in measures.items())
    return f"Only {column} has: {', '.join(named)}."


def beside_paper(sections: Sections, ours: Sequence[Value], params: EvaluateParams) -> dict[str, Any]:
    """Sets every number of the paper beside this run's."""
    published = list(paper_values(sections))
    known = {(one.model, one.dataset, one.measure) for one in published}
    own = [one for one in ours if (one.model, one.dataset, one.measure) in known]
    return side_by_side({"the paper": published, OURS: own}, params)


def beside_each_other(models: Sequence[str], ours: Sequence[Value], params: EvaluateParams) -> dict[str, Any]:
    """Sets the models of a run beside each other; one model has no table."""
    compared = models if len(models) > 1 else ()
    columns = {name: [replace(one, model="") for one in ours if one.model == name] for name in compared}
    return side_by_side(columns, params)


def beside_run(ours: ReportInputs, own: Sections, theirs: ReportInputs, other: Sections) -> dict[str, Any]:
    """Sets another run beside this one: models of one name, or in their order where no name is in both.

    Raises R2AError where the two share no dataset, or no number.
    """
    root, name = theirs.paths.root, other_name(theirs.paths.root, ours.paths.root)
    datasets = [each for each in ours.datasets if each in theirs.datasets]
    if not datasets:
        ran = f"{root} ran on {', '.join(theirs.datasets)}, this study on {', '.join(ours.datasets)}"
        raise R2AError(f"no dataset is in both: {ran}", "compare studies that share an entry of run.datasets")
    pairs = [(each, each) for each in ours.models if each in theirs.models]
    pairs = pairs or list(zip(theirs.models, ours.models, strict=False))
    labels = [their if their == mine else f"{their} | {mine}" for their, mine in pairs]
    known = {name: {their: label for (their, _), label in zip(pairs, labels, strict=True)}}
    known[OURS] = {mine: label for (_, mine), label in zip(pairs, labels, strict=True)}
    asked = {dataset: [questions(run, dataset) for run in (ours, theirs)] for dataset in datasets}
    values = {name: own_items(run_values(other, theirs.walk), asked), OURS: run_values(own, ours.walk)}
    columns = {column: relabelled(values[column], known[column], datasets) for column in known}
    record = side_by_side(columns, ours.evaluate)
    if not record["rows"]:
        raise R2AError(f"{root} has no number that this study has too", "run both to their end: dvc repro")
    runs = {name: theirs, OURS: ours}
    notes = [*left_out(runs, known, datasets), *other_questions(asked), *other_settings(ours, theirs)]
    return record | {"only": [*notes, *record["only"]]}


def other_name(root: Path, own: Path) -> str:
    """Names another run by the end of its folder's path: as many parts as tell it from this run's."""
    parts, known = root.resolve().parts, own.resolve().parts
    count = next((n for n in range(1, len(parts)) if parts[-n:] != known[-n:]), len(parts))
    return Path(*parts[-count:]).as_posix()


def relabelled(values: Sequence[Value], labels: Mapping[str, str], datasets: Sequence[str]) -> list[Value]:
    """Keeps the numbers of some models, under their labels, and datasets; and those of all together."""
    known = {"": "", **labels}
    kept = [one for one in values if one.model in known and one.dataset in ("", *datasets)]
    return [replace(one, model=known[one.model]) for one in kept]


def left_out(
    runs: Mapping[str, ReportInputs], known: Mapping[str, Mapping[str, str]], datasets: Sequence[str]
) -> Iterator[str]:
    """Names the models and datasets of one run that have none beside them."""
    for column, run in runs.items():
        for noun, names in (
            ("model", [each for each in run.models if each not in known[column]]),
            ("dataset", [each for each in run.datasets if each not in datasets]),
        ):
            if names:
                yield f"Only {column} has the {noun}{'s' * (len(names) > 1)} {', '.join(names)}."


def questions(run: ReportInputs, dataset: str) -> dict[str, str]:
    """Reads the questions of a run by item; none where they are not there."""
    frame = read_if_there(run.paths.items(dataset), ["item_id", "question"], "prepare_dataset")
    return {} if frame is None else dict(frame.select("item_id", "question").iter_rows())


Asked = Mapping[str, Sequence[Mapping[str, str]]]  # by dataset the questions of this run and of the other, by item


def own_items(values: Sequence[Value], asked: Asked) -> list[Value]:
    """Names items of the other run that are not this one's, or not known to be, so that none of these is paired."""
    same = {dataset: here.items() & there.items() for dataset, (here, there) in asked.items()}
    ids = {dataset: {item_id for item_id, _ in found} for dataset, found in same.items()}

    def named(one: Value) -> dict[str, float]:
        return {each if each in ids.get(one.dataset, ()) else f"other {each}": x for each, x in one.items.items()}

    return [replace(one, items=named(one)) for one in values]


def other_questions(asked: Asked) -> Iterator[str]:
    """Says which datasets have other questions in the two runs."""
    for dataset, (here, there) in asked.items():
        if here and there and here != there:
            same = len(here.items() & there.items())
            yield f"The questions of {dataset} are not the same: {len(there)} there, {len(here)} here, {same} in both."


def other_settings(ours: ReportInputs, theirs: ReportInputs) -> Iterator[str]:
    """Names the settings of both runs that are not the same."""
    here, there = ({one["key"]: one["value"] for one in flattened(run.values)} for run in (ours, theirs))
    if names := [key for key in {**here, **there} if here.get(key) != there.get(key)]:
        yield f"Settings that differ: {', '.join(names)}."
