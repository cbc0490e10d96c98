"""The numbers in the page are those of the parquet files, computed here once more by other means."""

import base64
import json
import re
import zlib
from typing import Any

import numpy as np
import polars as pl
import pytest

from r2a_core.evaluation.values import agree
from r2a_core.knockout.summary import knockout_records
from r2a_core.report.certainty import changes_line, effect, how_sure, nulls
from r2a_core.report.conclusions import concluded
from r2a_core.report.encode import weight_levels
from r2a_core.report.findings import moved_sentence, verdict
from r2a_core.report.items import item_table, items_with_texts
from r2a_core.report.traces import fractions, traces_section
from r2a_core.sentences.summary import CONTROLLED, sentences_summary
from r2a_core.trace import SEGMENTS
from r2a_core.walks.summary import walk_record
from tests.evaluation.judged_runs import GAINS
from tests.knockout.cases import cut, params
from tests.sentences.cases import heads as receiver_heads
from tests.sentences.cases import hidden as hidden_sentences
from tests.sentences.cases import params as sentences_params
from tests.walks.cases import params as walks_params
from tests.walks.cases import walked


def raw(packed: dict[str, Any]) -> np.ndarray:
    bytes_ = zlib.decompress(base64.b64decode(packed["zlib"]))
    return np.frombuffer(bytes_, f"<{packed['dtype']}").reshape(packed["shape"])


def text(packed: dict[str, str]) -> Any:
    return json.loads(zlib.decompress(base64.b64decode(packed["zlib"])))


def one(records: list[dict[str, Any]], **fields: str) -> dict[str, Any]:
    found = [record for record in records if all(record[key] == value for key, value in fields.items())]
    assert len(found) == 1
    return found[0]


def test_items_win_tie_and_loss_as_the_summary_counts_them(page_data, inputs):
    for run in page_data["evaluation"]:
        outcomes, paired = run["items"]["outcome"], run["summary"]["paired"]
        assert [outcomes.count(name) for name in ("win", "tie", "loss")] == [paired[n] for n in ("win", "tie", "loss")]
        assert outcomes.count("unpaired") == len(outcomes) - paired["n"] == 1
    path = inputs.paths.summary("tiny_qwen2", "math500")
    assert one(page_data["evaluation"], model="tiny_qwen2")["summary"] == json.loads(path.read_text())


def test_a_second_attempt_that_counts_is_shown_and_a_score_is_the_mean_over_runs():
    columns = ["item_id", "setting", "run", "status", "extracted", "gold", "score", "common"]
    rows: list[tuple] = [
        ("a", "with_reasoning", 0, "unfinished", None, "1", None, False),
        ("a", "with_reasoning", 1, "ok", "1", "1", 1.0, True),
        ("a", "without_reasoning", 0, "ok", "2", "1", 0.0, True),
        ("b", "with_reasoning", 0, "ok", "5", "5", 1.0, False),
        ("b", "without_reasoning", 0, "unfinished", None, "5", None, False),
        ("b", "without_reasoning", 1, "bad_think", None, "5", None, False),
    ]
    table = item_table(pl.DataFrame(rows, schema=columns, orient="row"), runs=1)
    assert table["outcome"].to_list() == ["win", "unpaired"]
    assert table["run_with_reasoning"].to_list() == [1, 0]
    assert table["status_without_reasoning"].to_list() == ["ok", "bad_think"]
    assert table["score_with_reasoning"].to_list() == [1.0, None]
    scores = {"with_reasoning": (1.0, 0.0), "without_reasoning": (0.0, 1.0)}
    rows = [("a", s, run, "ok", "1", "1", scores[s][run], True) for s in scores for run in (0, 1)]
    table = item_table(pl.DataFrame(rows, schema=columns, orient="row"), runs=2)
    assert (table["score_with_reasoning"].to_list(), table["outcome"].to_list()) == ([0.5], ["tie"])


def test_texts_are_of_every_outcome_in_turn_and_those_of_the_generations(page_data, inputs):
    outcomes = ["tie", "tie", "win", "tie", "loss", "win", "unpaired"]
    table = pl.DataFrame({"item_id": list("abcdefg"), "outcome": outcomes, "differs": [None, *[False] * 6]})
    assert items_with_texts(table, 5, set()) == [2, 4, 6, 0, 5]
    assert items_with_texts(table, 9, set()) == [2, 4, 6, 0, 5, 1, 3]
    different = table.with_columns(differs=pl.col("item_id") == "d")
    assert items_with_texts(different, 3, {"b"}) == [1, 3, 2]  # what has evidence or differs comes first
    run = one(page_data["evaluation"], model="r1_qwen_7b")
    found = {one["row"]: text(one) for one in run["texts"]}
    assert len(found) == 4
    for setting in ("with_reasoning", "without_reasoning"):
        frame = pl.read_parquet(inputs.paths.generations("r1_qwen_7b", "math500", setting))
        responses = dict(zip(frame["item_id"], frame["response"], strict=True))
        for row, shown in found.items():
            assert shown[setting] == responses[run["items"]["item_id"][row]]


@pytest.mark.parametrize(
    ("reasoning", "options", "gold", "found"),
    [
        ("A cat weighs 4, a dog 9.\nSo it is the dog.", ("cat", "dog"), "dog", "dog"),
        ("So the Dog it is. Good.", ("cat", "dog"), "dog", "dog"),
        ("So it is the dog.\nThe cat before the dog.", ("cat", "dog"), "dog", None),  # names both
        ("A catalogue of hotdogs.", ("cat", "dog"), "dog", None),
        (r"It is \boxed{7}, not 8.", (), "7", "7"),
        ("3 + 4 = 7, and 1,007.5 more", (), "7", "1,007.5"),
        ("3 + 4 = 7", (), "x^2", None),
    ],
)
def test_a_reasoning_concludes_what_it_names_last(reasoning, options, gold, found):
    assert concluded(reasoning, options, gold) == found


def test_answers_that_leave_their_reasoning_are_known(page_data):
    assert agree("$1,000$", "1000")
    assert not agree("pear", "plum")
    items = one(page_data["evaluation"], model="tiny_qwen2")["items"]
    assert items["concludes"][:3] == ["7", "10", "13"]
    assert items["differs"][:5] == [False, False, False, True, False]  # the fourth reasons to 16 and answers 999


def test_boxes_and_grids_are_means_of_the_attention_file(page_data, inputs):
    run = one(page_data["attention"], model="tiny_qwen2")
    frame = pl.read_parquet(inputs.paths.attention("tiny_qwen2", "math500"))
    answers = frame.filter(pl.col("source") == "answer").sort("item_id", "layer", "head")
    n_traces = answers["item_id"].n_unique()
    assert run["n_traces"] == n_traces == 5
    masses = answers.select(SEGMENTS).to_numpy().astype(np.float64).reshape(n_traces, 4, 6, 6)
    for number, segment in enumerate(SEGMENTS):
        per_trace = masses[..., number].mean(axis=(1, 2))
        box = run["boxes"]["answer"]["segments"][segment]
        np.testing.assert_allclose(box["values"], per_trace, rtol=1e-12)
        found = [box[name] for name in ("q1", "median", "q3")]
        np.testing.assert_allclose(found, np.percentile(per_trace, [25, 50, 75]), rtol=1e-12)
        assert box["whisker_low"] in box["values"]
        np.testing.assert_allclose(raw(run["grids"][segment]), masses[..., number].mean(axis=0), rtol=1e-12)


def test_links_and_maps_are_those_of_their_files(page_data, inputs):
    trace = one(page_data["traces"], model="tiny_qwen2")["items"][0]
    maps, links = (pl.read_parquet(at("tiny_qwen2", "math500")) for at in (inputs.paths.maps, inputs.paths.map_links))
    assert [view["kind"] for view in trace["views"]] == ["rfh_mean", "head_mean", "head", "head"]
    first, last = trace["think_close"] + 1, trace["n_tokens"] - 1
    assert (trace["floor"], trace["marks"]) == (0.001, trace["reflection"])
    for number, view in enumerate(trace["views"]):
        same = (pl.col("item_id") == trace["item_id"]) & (pl.col("kind") == view["kind"])
        if view["kind"] == "head":
            same = same & (pl.col("layer") == view["layer"]) & (pl.col("head") == view["head"])
        rows, blocks = links.filter(same), {block["part"]: block for block in trace["links"][number]}
        for part, least, width in (("query", first - 1, 4), ("reasoning", first - 1, 4), ("answer", first, 4)):
            written = pl.col("row").is_between(first - 1, last - 2)  # </think> writes the first token of the answer
            own, record = rows.filter(written, part=part).sort("row"), blocks[part]
            assert own["row"].to_list() == list(range(least, last - 1))
            assert record["first_row"] == least
            for at, row in enumerate(own.iter_rows(named=True)):
                assert raw(record["tokens"])[at].tolist() == (row["tokens"] + [65535] * 4)[:width]
                weights = raw(record["weights"])[at] / 65535
                np.testing.assert_allclose(weights, (row["weights"] + [0] * 4)[:width], atol=8e-6)
                assert raw(record["mass"])[at] / 65535 == pytest.approx(row["mass"], abs=8e-6)
                outside = row["mass"] - sum(row["weights"][:width])
                assert raw(record["outside"])[at] / 65535 == pytest.approx(outside, abs=8e-6)
        whole = maps.filter(same).row(0, named=True)
        pattern = np.array(whole["pattern"]).reshape(len(whole["row_token"]), -1)
        part = pattern[np.array(whole["row_token"]) >= first]
        assert raw(trace["maps"][number]["cells"]).tolist() == weight_levels(part, 0.001).tolist()


def test_what_reasoning_tokens_read_and_lines_are_those_of_their_files(page_data, inputs):
    trace = one(page_data["traces"], model="tiny_qwen2")["items"][0]
    links, lines = (
        pl.read_parquet(at("tiny_qwen2", "math500")) for at in (inputs.paths.map_links, inputs.paths.map_lines)
    )
    same = (pl.col("item_id") == trace["item_id"]) & (pl.col("kind") == "rfh_mean")
    record = trace["links"][0][-1]
    tokens, levels, outside = (raw(record[name]) for name in ("tokens", "weights", "outside"))
    assert record["part"] == "before"
    assert len(tokens) == trace["think_close"] - 1 - record["first_row"]
    for at in (0, 5, len(tokens) - 1):
        rows = links.filter(same, row=record["first_row"] + at)
        read = sorted(zip(rows["weights"].explode(), rows["tokens"].explode(), strict=True), key=lambda one: -one[0])[
            :4
        ]
        assert tokens[at].tolist()[: len(read)] == [token for _, token in read]
        weights = np.array([weight for weight, _ in read])
        assert levels[at][: len(read)].tolist() == weight_levels(weights, trace["floor"]).tolist()
        rest = rows["mass"].sum() - weights.sum()
        assert outside[at] == weight_levels(np.array([max(rest, 0)]), trace["floor"])[0]
    row = lines.filter(same).row(0, named=True)
    weights, even = (np.array(row[name], float).reshape(len(row["start"]), -1) for name in ("weights", "even"))
    record = trace["lines"]
    assert (record["start"], record["end"]) == (row["start"], row["end"])
    np.testing.assert_allclose(raw(record["views"][0]["even"]), even, rtol=1e-6)
    levels = raw(record["views"][0]["ratios"])
    known = ~np.isnan(weights) & (even > 0)
    assert (levels > 0).tolist() == known.tolist()
    ratios = 2.0 ** (8 * (2 * (levels[known] - 1.0) / 254 - 1))
    np.testing.assert_allclose(ratios, (weights[known] / even[known]).clip(2**-8, 2**8), rtol=0.0222)


def test_a_view_looks_where_its_mean_pattern_has_its_centroid(page_data, inputs):
    trace = one(page_data["traces"], model="tiny_qwen2")["items"][0]
    maps = pl.read_parquet(inputs.paths.maps("tiny_qwen2", "math500")).filter(item_id=trace["item_id"])
    length = trace["think_close"] - trace["think_open"] - 1
    place = (np.arange(length) + 0.5) / length
    for view, look in zip(trace["views"], trace["looks"], strict=True):
        same = [pl.col(name).eq_missing(pl.lit(view[name])) for name in ("kind", "layer", "head")]
        whole = maps.filter(*same).row(0, named=True)
        pattern = np.array(whole["pattern"]).reshape(len(whole["row_token"]), -1)  # a cell is one token
        rows = np.array(whole["row_token"]) > trace["think_close"]
        weights = pattern[rows][:, trace["think_open"] + 1 : trace["think_close"]].sum(axis=0)
        centroid = np.average(place, weights=weights)
        assert look["centroid"] == pytest.approx(centroid, abs=1e-5)
        assert look["spread"] == pytest.approx(np.average((place - centroid) ** 2, weights=weights) ** 0.5, abs=1e-5)


def test_long_traces_show_what_reasoning_tokens_read_in_few_views(inputs, monkeypatch):
    monkeypatch.setattr("r2a_core.report.traces.READ", 1)
    trace = one(traces_section(inputs, []), model="tiny_qwen2")["items"][0]
    assert [any(block["part"] == "before" for block in blocks) for blocks in trace["links"]] == [True, *[False] * 3]


def test_heads_sentences_and_walks_are_those_of_their_files(page_data, inputs):
    trace = one(page_data["traces"], model="tiny_qwen2")["items"][0]
    frame = pl.read_parquet(inputs.paths.sentences("tiny_qwen2", "math500"))
    rows = frame.filter(pl.col("item_id") == trace["item_id"]).sort("sentence", "layer", "head")
    masses = rows["mass"].to_numpy().astype(np.float64).reshape(-1, 24)
    scored = pl.read_parquet(inputs.paths.heads("tiny_qwen2"))
    ranked = scored.sort("rank").head(5)
    record = one(page_data["heads"], model="tiny_qwen2")
    assert record["scores"]["answer_to_reasoning"] == scored.sort("layer", "head")["answer_to_reasoning"].to_list()
    assert [tuple(head) for head in record["marks"]["rfh"]] == ranked.select("layer", "head").rows()
    rfh = (ranked["layer"] * 6 + ranked["head"]).to_list()
    found, head = raw(trace["sentences"]["masses"]), trace["views"][2]
    expected = [masses[:, rfh].mean(1), masses.mean(1), masses[:, head["layer"] * 6 + head["head"]]]
    np.testing.assert_allclose(found[:3], expected, rtol=1e-6)

    frame = pl.read_parquet(inputs.paths.attention("tiny_qwen2", "math500"))
    rows = frame.filter((pl.col("item_id") == trace["item_id"]) & (pl.col("source") == "answer")).sort("layer", "head")
    walks = trace["walks"]
    assert walks["width"] == 1
    centroid, looks = np.array(rows["centroid"].to_list()), np.array(rows["row_mass"].to_list()) >= 0.1
    assert 0 < looks.sum() < looks.size
    np.testing.assert_allclose(raw(walks["centroid"])[looks] / 254, centroid[looks], atol=0.5 / 254 + 1e-6)
    assert set(raw(walks["centroid"])[~looks]) == {255}
    np.testing.assert_allclose(raw(walks["correlation"]), rows["walk_correlation_weighted"].to_numpy(), rtol=1e-6)


def test_groups_of_a_walk_count_rows_by_their_mass():
    values, mass = np.array([[0.0, 1.0, np.nan, 0.5, 0.5]]), np.array([[0.1, 0.3, 0.0, 0.15, 0.1]])
    assert fractions(values, mass, 2).tolist() == [[round(0.75 * 254), 255, 127]]  # 0.075 a row in the second group


def test_heads_of_a_reader_are_those_of_its_file(page_data, inputs):
    (record,) = page_data["readers"]
    assert (record["reader"], record["model"], record["dataset"]) == ("base", "tiny_qwen2", "math500")
    frame = pl.read_parquet(inputs.paths.read_heads("base", "tiny_qwen2", "math500")).sort("layer", "head")
    for score in record["scores"]:
        for side, name in (("before", "base"), ("after", "tiny_qwen2")):
            assert score[side] == frame.filter(model=name)[score["name"]].to_list()
        assert score["before"] == score["after"][::-1]
        ranks = pl.DataFrame({side: score[side] for side in ("before", "after")}).select(pl.all().rank()).to_numpy()
        assert score["spearman"] == pytest.approx(np.corrcoef(ranks.T)[0, 1])
    ranking = one(page_data["heads"], model="tiny_qwen2")
    assert record["marks"]["rfh"] == ranking["marks"]["rfh"]
    middle = [head for head in record["marks"]["walking_before"] if head[0] in (1, 2)]
    assert len(middle) == len(record["marks"]["walking_before"])
    assert "base has not read the traces of tiny_qwen2 on wildbench" in [gap["what"] for gap in page_data["gaps"]]


def test_costs_of_cut_heads_are_those_of_the_metrics(page_data):
    (record,) = page_data["knockout"]
    assert (record["model"], record["dataset"], len(record["sentences"])) == ("tiny_qwen2", "math500", 2)
    assert record["sets"] == knockout_records(cut(), params())
    for place, each in enumerate(record["sets"]):
        own = [losses[place] for losses in record["items"].values()]
        assert {one["set"] for one in own} == {each["set"]}
        assert np.mean([one["loss"] for one in own]) == pytest.approx(each["loss"]["mean"])
    assert "the heads of r1_qwen_7b on math500 have not been cut" in [gap["what"] for gap in page_data["gaps"]]


def test_walks_are_those_of_the_metrics_and_of_all_heads(page_data):
    (record,) = page_data["walks"]
    own = walk_record(walked(), walks_params())
    assert {one["name"]: one["median"] for one in record["lengths"]}["mass"] == own["length"]["mass"]["median"]
    assert [one["own"] for one in record["odds"]] == list(own["broken"].values())
    assert record["heads"]["rank_by_excess"] == [2, None, 1]
    (asked,) = record["views"]
    assert (asked["read"], asked["heads"]["rank_by_excess"]) == ("the question", [None, None, 1])
    assert record["sentences"][0].startswith("2 of 3 heads read")
    assert record["sentences"][-1].startswith("The tokens of the reasoning give")
    assert "the walks of r1_qwen_7b on math500 have not been measured" in [gap["what"] for gap in page_data["gaps"]]


def test_hidden_sentences_are_those_of_the_tables(page_data):
    (record,) = page_data["sentences"]
    own = sentences_summary(hidden_sentences(), receiver_heads(), sentences_params())
    assert record["hidden"] == own["hidden"]
    assert record["points"]["attended"] == pytest.approx([0.5, 1, 1.5, 2] * 2)
    assert [one["length"] for one in record["receivers"]] == [
        own["receivers"][0][name]["length"] for name in CONTROLLED
    ]
    assert "the sentences of r1_qwen_7b on math500 have not been hidden" in [gap["what"] for gap in page_data["gaps"]]


def test_patched_cells_are_those_of_the_patching_file(page_data, inputs):
    record = one(page_data["patching"], model="tiny_qwen2")
    frame = pl.read_parquet(inputs.paths.patching("tiny_qwen2"))
    assert record["n_pairs"] == 3
    assert {sweep["pair_id"] for sweep in record["sweeps"]} == {"pair-0", "pair-1"}  # the page was given two
    for sweep in record["sweeps"]:
        same = {name: sweep[name] for name in ("pair_id", "probe")}
        cells = frame.filter(**same, component="resid_pre").sort("layer", "position")
        assert raw(sweep["grids"]["nld"]).ravel().tolist() == cells["nld"].to_list()
        np.testing.assert_allclose(raw(sweep["grids"]["rank_diff"]).ravel(), cells["rank_diff"].to_numpy())
        assert sweep["clean_token"] == cells["clean_token"].to_list()[:7]
    final = one(record["curves"], probe="plain", curve="final")
    last = frame.filter(component="resid_pre", probe="plain", position=46).sort("layer", "pair_id")["nld"].to_numpy()
    np.testing.assert_allclose(final["mean"], last.reshape(4, 3).mean(1))
    np.testing.assert_allclose(final["sd"], last.reshape(4, 3).std(1, ddof=1))
    heads = frame.filter(component="z", role="answer_end").sort("layer", "head", "position")["nld"].to_numpy()
    grid = raw(one(record["heads"], role="answer_end")["grid"])
    np.testing.assert_allclose(grid, heads.reshape(4, 6, 2).mean(2))


def test_the_paper_stands_beside_its_own_models_only(page_data, judged_data, judged_runs):
    rows = page_data["overview"]["published"]["rows"]
    assert {row["model"] for row in rows} == {"r1_qwen_7b"}
    found = {row["measure"]: [one["value"] for one in row["cells"]] for row in rows}
    assert found["accuracy with reasoning"] == [94.3, 80.0]
    assert found["median mass, answer \u2192 reasoning"][0] == 0.2901
    judged = judged_data["overview"]["published"]["rows"]
    assert {row["model"] for row in judged} == {"r1_llama_8b"}
    (row,) = [row for row in judged if row["measure"] == "judge score without reasoning, overall"]
    overall = judged_runs["r1_llama_8b"].summary["areas"]["overall"]
    assert [one["value"] for one in row["cells"]] == [6.6, pytest.approx(overall["mean_without"], abs=1e-6)]
    question = judged_data["overview"]["questions"][0]
    assert question["figure"] == "judged"
    scores = f"judge score {overall['mean_with']:.2f} with, {overall['mean_without']:.2f} without, n = {overall['n']}"
    assert scores in question["details"][0]


def test_answers_state_the_numbers_of_the_figures(page_data):
    accuracy, attention, patching = page_data["overview"]["questions"]
    # right with reasoning alone: 0, 2 and 4, without alone: 3; p = 2 (1 + 4) / 2^4
    expected = "80.0% with, 40.0% without, 50.0% by guessing, n = 5, exact McNemar p = 0.62; paired t = "
    assert expected in accuracy["details"][0]
    sure = {"difference": 1.0, "p": None, "mcnemar_p": 2 / 2**10, "reason": "every item differs by the same amount"}
    unsure = sure | {"difference": -0.1, "mcnemar_p": 0.5}
    assert verdict([sure], "points", 100, 0) == "Yes: by +100 points."
    assert verdict([sure, unsure], "points", 100, 0).startswith("In part: better on 1 and worse on 0 of 2 datasets")
    assert verdict([unsure], "points", 100, 0).startswith("Not shown: a difference of \u221210 points")
    scores = one(page_data["heads"], model="tiny_qwen2")["scores"]
    above = (np.array(scores["focus"]) > 0).sum()
    assert (
        f"{above} of 24 heads read the reasoning more than even reading does, sinks left out" in attention["details"][0]
    )
    columns = ("answer_to_reasoning", "walk_correlation_weighted", "walk_null_95")
    mass, walk, chance = (np.array(scores[name], dtype=float) for name in columns)
    middle = np.isin(scores["layer"], [1, 2])
    walking = int((middle & (mass >= 0.3) & (walk >= 0.1) & (walk >= chance)).sum())
    assert walking > 1
    assert f", {walking} walking heads" in attention["details"][0]
    assert "3 pairs" in patching["details"][0]
    flips = [max(curve["mean"]) for run in page_data["patching"] for curve in run["curves"] if curve["curve"] == "flip"]
    low, high = (f"{100 * end:.0f}" for end in (min(flips), max(flips)))
    assert patching["answer"].endswith(f" at most {low if low == high else f'{low} to {high}'}% of the way.")


@pytest.mark.parametrize(
    ("means", "says"),
    [
        ([[0.8, 0.8, 0.6, 0.1], [0.7, 0.5, 0.2, 0.0]], "Yes, for .* 50 to 80% of the way, up to layer 1 to 2."),
        ([[0.8, 0.6, 0.1], [0.2, 0.4, 0.1]], "In part, for .* at most 40 to 80% of the way."),  # one is never large
        ([[0.8, 0.2, 0.6]], "Yes, for .* 80% of the way, up to layer 0."),
        ([[0.05, 0.02]], "Hardly, for .* at most 5% of the way."),
    ],
)
def test_a_verdict_on_an_exchange_covers_the_layers_that_it_names(means, says):
    curves = [{"layer": [*range(len(mean))], "mean": mean, "n_pairs": [3] * len(mean)} for mean in means]
    assert re.fullmatch(says, moved_sentence(curves))


def test_what_could_not_be_told_is_listed_and_the_rest_is_not(page_data):
    found = page_data["overview"]["nulls"]
    paired = one(page_data["evaluation"], model="tiny_qwen2")["summary"]["paired"]
    assert paired["mcnemar_p"] > 0.05
    known = "Accuracy is not shown to differ with and without reasoning: tiny_qwen2 on math500 p = "
    known += f"{paired['mcnemar_p']:.2g}"
    assert any(text.startswith(known) for text in found)
    (record,) = page_data["knockout"]
    ranked = [one for one in record["sets"] if one["loss"]["random"]]
    assert ranked
    assert not any("is not shown to cost more" in text for text in found)  # so few random sets can show nothing
    sure = " ".join(page_data["overview"]["sure"])
    assert "answers differ" in sure or "answer differ" in sure


def test_verdicts_come_from_records_and_never_from_one_interval_of_another_run() -> None:
    empty = dict.fromkeys(("evaluation", "knockout", "perturb", "walks", "sentences", "instruments", "heads"), ())
    flat, odds = {"low": -0.1, "high": 0.1}, {"odds_ratio": 1.2, "low": 0.8, "high": 1.9, "p": 0.4}
    walks = [
        {"model": "m", "dataset": dataset, "ends": {"p": p}, "odds": [{"pooled": odds}]}
        for dataset, p in (("a", 0.3), ("b", 0.05), ("c", 0.01), ("d", None))
    ]
    hidden = {"result_loss": flat, "attended": {"n_traces": 2, "low": 0.1, "high": 0.3, "p": 0.2}}
    judged = [
        {"label": name, "verdict": verdict, "auc": auc}
        for name, verdict, auc in (("mass", "reversed", 0.3), ("cut", "weakly", 0.7), ("focus", "not shown", 0.55))
    ]
    found = nulls(
        empty
        | {"walks": walks, "sentences": [{"dataset": "a", "hidden": hidden}], "instruments": [{"beliefs": judged}]}
    )
    assert found == [
        "Heads that move through the reasoning in order are not shown to stop nearer to words such as \u201cwait\u201d "
        "than by chance: a p = 0.3, b p = 0.05.",
        "Wrong answers are not shown to be likelier where heads move through the reasoning less in order: all datasets "
        "p = 0.4.",
        "The result's probability does not measurably change with a sentence hidden: a.",
        "Sentences with more of the answer's attention are not shown to matter more to it: a p = 0.2.",
        "Not shown, in every pair of models, to tell answers that depend on the trace from others: mass AUC 0.30, "
        "focus AUC 0.55.",
    ]
    runs = [
        {"summary": {"chance": None, "paired": {"n": 9, "accuracy_with": 1, "difference": gain, "low_difference": low}}}
        for gain, low in ((0.1, 0.05), (0.2, -0.3))
    ]
    said = how_sure(empty | {"evaluation": runs, "patching": ()})
    assert said[0].endswith("The smallest gain is +10 points, at least +5 with 95% confidence.")


@pytest.mark.parametrize(("draws", "told"), [(19, False), (20, True)])
def test_a_cut_is_null_only_where_random_sets_could_have_shown_more(draws: int, told: bool) -> None:
    random = {"p": 0.6, "means": [0.0] * draws}
    cut = {"model": "m", "dataset": "d", "sets": [{"set": "mass", "k": 10, "kind": "mask", "loss": {"random": random}}]}
    empty = dict.fromkeys(("evaluation", "perturb", "walks", "sentences", "instruments", "heads"), ())
    assert bool(nulls(empty | {"knockout": [cut]})) == told


def test_a_change_is_null_where_its_interval_leaves_out_half_and_double_and_its_level_is_named() -> None:
    bounds = {  # by level: the ends of the interval of the loss, nats
        ("number", "across", 0.2): (-0.1, 0.6),
        ("number", "across", 1.0): (9.0, 12.0),  # a change
        ("option", "before", 1.0): (-0.5, 0.8),  # may halve the probability
        ("option", "after", 1.0): (None, None),  # one text
        ("filler", "", 1.0): (-0.1, 0.1),
    }
    arms = [
        {
            "family": family,
            "part": part,
            "level": level,
            "n": 1 if low is None else 6,
            "loss": {"low": low, "high": high},
        }
        for (family, part, level), (low, high) in bounds.items()
    ]
    empty = dict.fromkeys(("evaluation", "knockout", "walks", "sentences", "instruments"), ())
    start = "The answer's probability does not measurably change"
    assert nulls(empty | {"perturb": [{"model": "m", "dataset": "d", "arms": arms}]}) == [
        f"{start} with 20% of the numbers wrong throughout the reasoning: d.",
        f"{start} after as much filler: d.",
    ]
    assert [effect(arm["loss"]) for arm in arms] == ["null", "some", "unknown", "unknown", "null"]
    (said,) = changes_line([{"arms": arms}])
    assert said.startswith("Changed reasoning: 5 changes, n = 1 to 6 texts each.")
    assert said.endswith("; 2 have too few texts to tell.")


def test_the_areas_are_those_of_the_summary_in_the_papers_order(judged_data: dict, judged_runs: dict[str, Any]) -> None:
    record = one(judged_data["evaluation"], model="r1_llama_8b")
    areas = judged_runs["r1_llama_8b"].summary["areas"]
    assert [area["area"] for area in record["judged"]] == [*GAINS, "overall"]
    for area in record["judged"]:
        assert area["n"] == areas[area["area"]]["n"]
        assert area["mean_with"] == pytest.approx(areas[area["area"]]["mean_with"], abs=1e-6)
    assert record["judged"][1]["published"] == {"with_reasoning": 7.5, "without_reasoning": 6.6, "n": 213}
    assert record["judged"][1]["stars"] == "***"
