"""AUC, truth and agreement of tables whose numbers can be worked out by hand, and what is said and drawn of them."""

from typing import Any

import polars as pl
import pytest

from r2a_core.figures.instruments import agreement_figure, auc_figure
from r2a_core.instruments.belief import belief
from r2a_core.instruments.catalogue import AGREEMENT_SCHEMA, AUC_SCHEMA, TRUTH_SCHEMA
from r2a_core.instruments.statistics import newcombe
from r2a_core.instruments.tables import auc_table, summary, truth_table
from r2a_core.instruments.words import sentences
from r2a_core.perturb.summary import PERTURB_SCHEMA
from tests.figures.drawn import inside, lines_at
from tests.instruments.cases import params, tables, truth, values
from tests.perturb.cases import changed

AGREEMENT = pl.DataFrame(schema=AGREEMENT_SCHEMA)


@pytest.fixture(scope="module")
def made() -> dict[str, pl.DataFrame]:
    return tables()


def test_items_and_models_are_compared_within_datasets(made: dict[str, pl.DataFrame]) -> None:
    found = {(row["instrument"], row["level"]): row for row in made["auc"].iter_rows(named=True)}
    assert {name for name, _ in found} == {"mass", "wrong", "empty"}
    assert [found[name, "pair"]["auc"] for name in ("mass", "wrong", "empty")] == [0.5, 1, 0]
    wrong, across = found["wrong", "pair"], found["wrong", "model"]
    assert [wrong[name] for name in ("depends", "other", "passes")] == ["reads", "recites", 2]
    assert [wrong["n_depends"], wrong["n_others"]] == [10, 10]
    assert (wrong["low"], wrong["high"]) == pytest.approx(newcombe(1.0, 10, 10))
    one_a_side = [across[name] for name in ("n_depends", "n_others", "auc", "low")]
    assert one_a_side == [1, 1, 1, None]
    assert found["mass", "pair"]["low"] < 0.5 < found["mass", "pair"]["high"]


def test_without_two_labels_on_a_dataset_there_is_no_auc_and_that_is_said() -> None:
    one = truth().with_columns(depends=pl.lit(value=True))
    crossed = truth().with_columns(depends=pl.col("dataset") == "a").filter(model="reads")  # what the two differ in
    for labels in (one, crossed):
        found = auc_table(values(), labels)
        assert found["auc"].null_count() == found.height
        assert set(found.filter(level="pair")["why"]) == {"no dataset has models of both labels"}
        assert "No dataset has labels of both kinds" in sentences(labels, found, AGREEMENT, "reads")[0]
    assert auc_table(values(), one).filter(level="model")["n_depends"].to_list() == [2, 2, 2]


ENDS = {"high": (0.8, 0.95), "clear": (0.7, 0.9), "weak": (0.55, 0.9), "open": (0.4, 0.9), "wrong": (0.1, 0.4)}
ENDS |= {"wide": (0.3, 0.55), "narrow": (0.42, 0.48)}


@pytest.mark.parametrize(
    ("pairs", "verdict", "least"),
    [
        (["high", "clear"], "clearly", "clear"),
        (["weak", "high"], "weakly", "weak"),
        (["high", "open"], "not shown", "open"),
        (["high", "wrong"], "reversed", "wrong"),
        (["wrong"], "reversed", "wrong"),
        (["wide", "narrow"], "reversed", "narrow"),  # the pair that is reversed, not the one with the least AUC
        (["high", None], "not shown", "high"),  # a pair that was not compared
        ([None], "no AUC", None),
    ],
)
def test_an_instrument_is_believed_only_if_every_pair_of_models_says_so(
    pairs: list[str | None], verdict: str, least: str | None
) -> None:
    empty: dict[str, Any] = dict.fromkeys(AUC_SCHEMA) | {"instrument": "mass", "passes": 1.0}
    rows = [empty] * pairs.count(None)
    for name in filter(None, pairs):
        low, high = ENDS[name]
        rows.append(empty | {"depends": name, "low": low, "high": high, "auc": (low + high) / 2})
    found = belief(rows)
    assert (found.verdict, found.depends) == (verdict, least)


def test_a_model_without_what_an_instrument_takes_is_named() -> None:
    only = values().with_columns(
        instrument=pl.col("instrument").replace("mass", "walk"),
        value=pl.when(pl.col("model") == "reads").then("value"),
    )
    (row,) = auc_table(only, truth()).filter(instrument="walk", level="pair").iter_rows(named=True)
    assert (row["auc"], row["why"]) == (None, "recites: no labelled value, which takes heads that walk")


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
    assert said[0].startswith(
        "By training, answers depend on the trace in 2 of 4 labelled models on a dataset, and do not in 2. "
        "After another item's reasoning the answers bear that out in 3 of 4 that were checked "
        "(not: recites on b, 100% follow)."
    )
    assert said[0].endswith("whatever else differs within a pair counts as evidence too.")
    assert "are told apart clearly by loss by wrong values 1.00 (0.80 to 1.00)" in said[1]
    assert "are not shown to be told apart by attention mass on the reasoning 0.50" in said[1]
    assert "are reversed, in a pair at least, by loss without reasoning reads against recites 0.00" in said[1]
    assert said[1].endswith("The cheapest that does, loss by wrong values, takes 2.0 passes over a trace.")
    unchecked = made["truth"].with_columns(followed=pl.lit(None, pl.Float64))
    assert "no label is checked" in sentences(unchecked, made["auc"], made["agreement"], "reads")[0]
    assert said[2].startswith(
        "Attention mass on the reasoning fails to say whether one answer depends on its trace (AUC of reads against"
    )
    assert "loss without reasoning \u22121.00" in said[3]
    assert "each over 10 items, 1 rank those of reads alike and 2 the other way round, more clearly" in said[4]
    chance = made["agreement"].with_columns(holm=pl.lit(0.5))
    told = sentences(made["truth"], made["auc"], chance, "reads")
    assert "which cannot be told from none" in told[3]
    assert "0 rank those of reads alike and 0 the other way round" in told[4]
    nothing = pl.DataFrame(schema=TRUTH_SCHEMA)
    bare = auc_table(values(), nothing)
    assert sentences(nothing, bare, made["agreement"], "reads")[0].startswith("Of no model of the run it is known")
    assert sentences(nothing, bare, made["agreement"].head(0), "reads")[-1].startswith("No two instruments")


def test_metrics_and_pictures_have_the_numbers_of_the_tables(made: dict[str, pl.DataFrame]) -> None:
    metrics = summary(made["truth"], made["auc"], made["agreement"])
    wrong = metrics["instruments"]["wrong"]
    assert (wrong["verdict"], wrong["model"]["auc"], wrong["pairs"][0]["other"]) == ("clearly", 1, "recites")
    assert metrics["agreement_with_mass"]["recites"]["wrong"]["n"] == 10
    figure = auc_figure(made["auc"])
    (axes,) = figure.axes
    (line,) = lines_at(axes, "pair 0")
    assert list(line.get_xdata()) == [0.5, 0, 1]  # in the order of the catalogue
    assert [text.get_text() for text in axes.texts] == ["not shown", "reversed", "clearly"]
    assert inside(figure)
    matrix, _ = agreement_figure(made["agreement"].filter(model="reads"), "reads").axes
    drawn: Any = matrix.images[0].get_array()
    assert drawn.filled(9).round(6).tolist() == [[9, -1, 1], [-1, 9, -1], [1, -1, 9]]
    assert len(lines_at(matrix, "told")[0].get_xdata()) == 6
