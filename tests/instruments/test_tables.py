"""AUC, truth and agreement of tables whose numbers can be worked out by hand, and what is said and drawn of them."""

from typing import Any

import polars as pl
import pytest

from r2a_core.figures.instruments import agreement_figure, auc_figure
from r2a_core.instruments.catalogue import TRUTH_SCHEMA
from r2a_core.instruments.statistics import newcombe
from r2a_core.instruments.tables import auc_table, summary, truth_table
from r2a_core.instruments.words import sentences
from r2a_core.perturb.summary import PERTURB_SCHEMA
from tests.figures.drawn import inside, lines_at
from tests.instruments.cases import params, tables, truth, values
from tests.perturb.cases import changed


@pytest.fixture(scope="module")
def made() -> dict[str, pl.DataFrame]:
    return tables()


def test_items_and_models_are_compared_within_datasets(made: dict[str, pl.DataFrame]) -> None:
    found = {(row["instrument"], row["level"]): row for row in made["auc"].iter_rows(named=True)}
    assert {name for name, _ in found} == {"mass", "wrong", "empty"}
    assert [found[name, "item"]["auc"] for name in ("mass", "wrong", "empty")] == [0.5, 1, 0]
    wrong, across = found["wrong", "item"], found["wrong", "model"]
    assert (wrong["n_depends"], wrong["n_others"], wrong["passes"]) == (10, 10, 2)
    assert (wrong["low"], wrong["high"]) == pytest.approx(newcombe(1.0, 10, 10))
    assert (across["n_depends"], across["n_others"], across["auc"], across["low"]) == (
        1,
        1,
        1,
        None,
    )  # one model a side
    assert found["mass", "item"]["low"] < 0.5 < found["mass", "item"]["high"]


def test_without_two_labels_there_is_no_auc() -> None:
    one = auc_table(values(), truth().with_columns(depends=pl.lit(value=True)), params())
    assert one["auc"].null_count() == one.height
    assert one.filter(level="item")["n_depends"].to_list() == [20, 20, 20]


def test_truth_is_the_label_beside_the_answers_that_follow() -> None:
    empty = pl.DataFrame(schema=PERTURB_SCHEMA)
    found = truth_table({("m", "d"): changed(), ("m", "pairs"): empty}, params(depends={"m": {"d": True}}))
    first, second = found.iter_rows(named=True)
    assert (first["depends"], first["n"], first["followed"]) == (True, 2, 0.5)  # a follows, b does not, c is noise
    assert (second["depends"], second["n"], second["followed"]) == (None, 0, None)


def test_agreement_ranks_within_datasets(made: dict[str, pl.DataFrame]) -> None:
    own = made["agreement"].filter(pl.col("n") > 0, pl.col("model") == "reads")
    together = own.filter(pl.col("dataset").is_null())
    assert together.select("first", "second", "n", "rho").rows() == [
        ("mass", "empty", 10, pytest.approx(-1)),
        ("mass", "wrong", 10, pytest.approx(1)),
        ("empty", "wrong", 10, pytest.approx(-1)),
    ]
    least = 1 / 1000  # of 999 permutations and the order that there is; three pairs of instruments
    assert together.select("p", "holm").rows() == [pytest.approx((least, 3 * least))] * 3
    alone = own.filter(dataset="a")  # of five items
    assert alone.select("rho", "p", "holm").rows() == [(None, None, None)] * 3


def test_words_say_what_to_believe_and_where_mass_fails(made: dict[str, pl.DataFrame]) -> None:
    said = sentences(made["truth"], made["auc"], made["agreement"], "reads")
    assert said[0] == (
        "By training, answers depend on the trace in 2 of 4 labelled models on a dataset, and do not in 2. "
        "After another item's reasoning the answers bear that out in 3 of 4 that were checked "
        "(not: recites on b, 100% follow)."
    )
    assert "are told apart by loss by wrong values 1.00" in said[1]
    assert "as the interval holds 0.5, by attention mass on the reasoning 0.50" in said[1]
    assert "the wrong way round by loss without reasoning 0.00" in said[1]
    assert said[1].endswith("The cheapest that does, loss by wrong values, takes 2.0 passes over a trace.")
    assert "are told" not in said[2]
    assert "1 that depend and 1 that do not, at most) are too few for an interval by" in said[2]
    assert "was held against too few models to say whether a model's answers do" in said[3]
    unchecked = made["truth"].with_columns(followed=pl.lit(None, pl.Float64))
    assert "no label is checked" in sentences(unchecked, made["auc"], made["agreement"], "reads")[0]
    assert said[3].startswith(
        "Attention mass on the reasoning fails to say whether one answer depends on its trace (AUC 0.50"
    )
    assert "loss without reasoning \u22121.00" in said[4]
    assert "each over 10 items, 1 rank those of reads alike and 2 the other way round, more clearly" in said[5]
    chance = made["agreement"].with_columns(holm=pl.lit(0.5))
    told = sentences(made["truth"], made["auc"], chance, "reads")
    assert "which cannot be told from none" in told[4]
    assert "0 rank those of reads alike and 0 the other way round" in told[5]
    nothing = pl.DataFrame(schema=TRUTH_SCHEMA)
    bare = auc_table(values(), nothing, params())
    assert sentences(nothing, bare, made["agreement"], "reads")[0].startswith("Of no model of the run it is known")
    assert sentences(nothing, bare, made["agreement"].head(0), "reads")[-1].startswith("No two instruments")


def test_metrics_and_pictures_have_the_numbers_of_the_tables(made: dict[str, pl.DataFrame]) -> None:
    metrics = summary(made["truth"], made["auc"], made["agreement"])
    assert metrics["instruments"]["wrong"]["model"]["auc"] == 1
    assert metrics["agreement_with_mass"]["recites"]["wrong"]["n"] == 10
    figure = auc_figure(made["auc"])
    (axes,) = figure.axes
    assert [line.get_xdata()[0] for line in lines_at(axes, "item")] == [0.5, 0, 1]  # in the order of the catalogue
    assert inside(figure)
    matrix, _ = agreement_figure(made["agreement"].filter(model="reads"), "reads").axes
    drawn: Any = matrix.images[0].get_array()
    assert drawn.filled(9).round(6).tolist() == [[9, -1, 1], [-1, 9, -1], [1, -1, 9]]
    assert len(lines_at(matrix, "told")[0].get_xdata()) == 6
