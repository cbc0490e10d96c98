"""Sets numbers side by side: the paper's and this run's, the models of a run, or another run's and this one's.

values by column -> rows of model, dataset, measure and unit with a cell a column, and what only one column has.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import hypot
from typing import Any

from r2a_core.infra.errors import R2AError
from r2a_core.report.inputs import ReportInputs, flattened, read_if_there
from r2a_core.report.values import Sections, Value, paper_values, run_values

OURS = "this run"


def side_by_side(columns: Mapping[str, Sequence[Value]]) -> dict[str, Any]:
    """Makes a row of each number that at least two columns have, and a sentence of what only one has."""
    found: dict[tuple[str, str, str, str], dict[str, Value]] = {}
    for column, values in columns.items():
        for one in values:
            found.setdefault((one.model, one.dataset, one.measure, one.unit), {})[column] = one
    rows, alone = [], {}
    for (model, dataset, measure, unit), own in found.items():
        if len(own) > 1:
            case = {"model": model, "dataset": dataset, "measure": measure, "unit": unit}
            rows.append(case | cells([own.get(column) for column in columns]))
        else:
            case = ", ".join(filter(None, (model, dataset)))
            alone.setdefault(next(iter(own)), {}).setdefault(measure, []).append(case)
    return {"columns": list(columns), "rows": rows, "only": [only(*each) for each in alone.items()]}


def cells(values: Sequence[Value | None]) -> dict[str, Any]:
    """Makes the cells of a row; heads are those shared with the first. difference: of two cells, second less first."""
    first = next(one for one in values if one is not None)
    made = [one and {"value": number(one, first), "low": one.low, "high": one.high} for one in values]
    known = [one for one in values if one is not None and one.value is not None]
    two = len(values) == len(known) == 2 and first.heads is None
    return {"cells": made, "difference": difference(*known) if two else None}


def difference(first: Value, second: Value) -> dict[str, float | None]:
    """Subtracts the first from the second; the interval is that of independent numbers, from the intervals of both.

    It is Newcombe's: its ends are as far away as both distances of a number to its own end together, by their squares.
    """
    assert first.value is not None
    assert second.value is not None
    apart = second.value - first.value
    if first.low is None or first.high is None or second.low is None or second.high is None:
        return {"value": apart, "low": None, "high": None}
    down = hypot(second.value - second.low, first.high - first.value)
    up = hypot(second.high - second.value, first.value - first.low)
    return {"value": apart, "low": apart - down, "high": apart + up}


def number(one: Value, first: Value) -> float | None:
    """Returns the number itself, of heads how many the first column has too."""
    return one.value if first.heads is None else len({*first.heads} & {*(one.heads or ())})


def only(column: str, measures: Mapping[str, Sequence[str]]) -> str:
    """Names what one column alone has, with its cases."""
    named = (f"{measure} ({'; '.join(cases)})" if any(cases) else measure for measure, cases in measures.items())
    return f"Only {column} has: {', '.join(named)}."


def beside_paper(sections: Sections, ours: Sequence[Value]) -> dict[str, Any]:
    """Sets every number of the paper beside this run's."""
    published = list(paper_values(sections))
    known = {(one.model, one.dataset, one.measure) for one in published}
    own = [one for one in ours if (one.model, one.dataset, one.measure) in known]
    return side_by_side({"the paper": published, OURS: own})


def beside_each_other(models: Sequence[str], ours: Sequence[Value]) -> dict[str, Any]:
    """Sets the models of a run beside each other; one model has no table."""
    compared = models if len(models) > 1 else ()
    return side_by_side({name: [replace(one, model="") for one in ours if one.model == name] for name in compared})


def beside_run(ours: ReportInputs, own: Sections, theirs: ReportInputs, other: Sections) -> dict[str, Any]:
    """Sets another run beside this one: models of one name, or in their order where no name is in both.

    Raises R2AError where the two share no dataset, or no number.
    """
    root, name = theirs.paths.root, theirs.paths.root.resolve().name
    datasets = [each for each in ours.datasets if each in theirs.datasets]
    if not datasets:
        ran = f"{root} ran on {', '.join(theirs.datasets)}, this study on {', '.join(ours.datasets)}"
        raise R2AError(f"no dataset is in both: {ran}", "compare studies that share an entry of run.datasets")
    pairs = [(each, each) for each in ours.models if each in theirs.models]
    pairs = pairs or list(zip(theirs.models, ours.models, strict=False))
    labels = [their if their == mine else f"{their} | {mine}" for their, mine in pairs]
    known = {name: {their: label for (their, _), label in zip(pairs, labels, strict=True)}}
    known[OURS] = {mine: label for (_, mine), label in zip(pairs, labels, strict=True)}
    values = {name: run_values(other, theirs.walk), OURS: run_values(own, ours.walk)}
    record = side_by_side({column: relabelled(values[column], known[column], datasets) for column in known})
    if not record["rows"]:
        raise R2AError(f"{root} has no number that this study has too", "run both to their end: dvc repro")
    runs = {name: theirs, OURS: ours}
    notes = [*left_out(runs, known, datasets), *other_questions(ours, theirs, datasets), *other_settings(ours, theirs)]
    return record | {"only": [*notes, *record["only"]]}


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


def other_questions(ours: ReportInputs, theirs: ReportInputs, datasets: Sequence[str]) -> Iterator[str]:
    """Says which datasets have other questions in the two runs."""
    for dataset in datasets:
        here, there = (
            read_if_there(run.paths.items(dataset), ["item_id", "question"], "prepare_dataset")
            for run in (ours, theirs)
        )
        if here is not None and there is not None and not here.select("question").equals(there.select("question")):
            yield f"The questions of {dataset} are not the same: {there.height} there, {here.height} here."


def other_settings(ours: ReportInputs, theirs: ReportInputs) -> Iterator[str]:
    """Names the settings of both runs that are not the same."""
    here, there = ({one["key"]: one["value"] for one in flattened(run.values)} for run in (ours, theirs))
    if names := [key for key in {**here, **there} if here.get(key) != there.get(key)]:
        yield f"Settings that differ: {', '.join(names)}."
