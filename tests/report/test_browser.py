"""The page in a real browser without network: no request, no error, and a click shows what the parquet file holds.

Playwright (in the extra `test`) drives the Chromium of this machine; skipped where there is none, but where CI is set
in the environment they fail.
"""

import copy
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import polars as pl
import pytest
from matplotlib.colors import to_hex

from r2a_core.figures.head_maps import INDUCTION, RETRIEVAL, RFH
from r2a_core.figures.patching import layer_figure, read_cells
from r2a_core.report.page import build_page, report_data
from tests.report.large import large_study

MUST_RUN = bool(os.environ.get("CI"))
playwright = import_module("playwright.sync_api") if MUST_RUN else pytest.importorskip("playwright.sync_api")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None and not MUST_RUN, reason="apt-get install chromium")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    assert CHROMIUM is not None, "Chromium is not on this machine: apt-get install chromium"
    with playwright.sync_playwright() as running:
        launched = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield launched
        launched.close()


def write_page(page: str, folder: Path) -> str:
    path = folder / "index.html"
    path.write_text(page, encoding="utf-8")
    return path.as_uri()


@pytest.fixture(scope="module")
def address(page: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_page(page, tmp_path_factory.mktemp("page"))


@pytest.fixture
def opened(browser: Any, address: str) -> Iterator[Any]:
    """Opens the page with what is chosen after #; at the end there was no request and no error."""
    troubles: list[str] = []
    asked: list[str] = []
    context = browser.new_context(
        offline=True, viewport={"width": 1200, "height": 900}, permissions=["clipboard-read", "clipboard-write"]
    )
    view = context.new_page()
    view.on("console", lambda message: troubles.append(message.text))
    view.on("pageerror", lambda error: troubles.append(str(error)))
    view.on("request", lambda request: asked.append(request.url))
    view.on("dialog", lambda dialog: troubles.append(dialog.message))

    def visit(chosen: str = "", place: str = address) -> Any:
        view.goto(place + chosen)
        view.wait_for_selector("html[data-ready]")
        return view

    yield visit
    context.close()
    assert not troubles
    assert len({url.split("#")[0] for url in asked}) == 1


def number(text: str) -> float:
    return float(text.replace("\u2212", "-"))


def click_cell(view: Any, figure: str, row: int, column: int) -> str:
    """Clicks a cell of a figure's grid, whose cursor waits over the first one; returns the colour of the cell."""
    cursor = view.locator(f"{figure} svg.cells .cursor")
    x, y, wide, tall = (number(cursor.get_attribute(name)) for name in ("x", "y", "width", "height"))
    point = {"x": x + (column + 0.5) * wide, "y": y + (row + 0.5) * tall}
    cells = view.locator(f"{figure} svg.cells path.cell")
    fills = cells.evaluate_all(
        "(all, at) => all.filter(one => one.isPointInFill(at)).map(one => one.getAttribute('fill'))", point
    )
    view.locator(f"{figure} svg.cells").click(position=point)
    assert len(fills) == 1
    return fills[0]


def count_cells(view: Any, figure: str) -> int:
    cells = view.locator(f"{figure} svg.cells path.cell:not(.none)")
    return sum(str(path.get_attribute("d")).count("M") for path in cells.all())


def until(view: Any, condition: str) -> None:
    """Waits for what comes a moment later; the page's policy lets no script ask for it from inside."""
    for _ in range(100):
        if view.evaluate(condition):
            return
        view.wait_for_timeout(50)
    raise AssertionError(condition)


def test_every_figure_is_drawn_and_a_patched_cell_shows_the_value_of_the_parquet_file(opened, inputs, page_data):
    view = opened()
    assert view.title() == "From reasoning to answer"
    drawn = {figure.get_attribute("id") for figure in view.locator("figure").all()}
    assert drawn == set(page_data["measured"]) - {"judged", "against"}
    assert view.locator("figure .missing").count() == 0
    assert view.locator(".gaps li").count() > 0
    colour = click_cell(view, "#cells", 2, 1)
    view.wait_for_selector("#cell-facts [data-metric]")
    frame = pl.read_parquet(inputs.paths.patching("tiny_qwen2"))
    cell = frame.filter(pair_id="pair-0", probe="boxed", component="resid_pre", layer=1, position=42).row(0, named=True)
    for metric in ("nld", "logit_diff", "prob_diff", "rank_diff"):
        shown = view.locator(f'#cell-facts [data-metric="{metric}"]')
        assert number(shown.inner_text()) == pytest.approx(cell[metric], abs=5e-5)
    assert colour == view.evaluate("value => css(diverging(value))", cell["nld"])
    assert "</script>" in view.locator("#cell-facts").inner_text()
    assert "cell=2.1" in view.url


def test_a_head_shows_its_scores_and_its_walk(opened, inputs):
    view = opened()
    colour = click_cell(view, "#heads", 3, 5)
    view.wait_for_selector("#head-facts h4:text-is('L3.H5')")
    frame = pl.read_parquet(inputs.paths.heads("tiny_qwen2"))
    row = frame.filter(dataset="math500", layer=3, head=5).row(0, named=True)
    shown = dict(zip(*(view.locator(f"#head-facts {tag}").all_inner_texts() for tag in ("dt", "dd")), strict=True))
    assert number(shown["share on reasoning"]) == pytest.approx(row["answer_to_reasoning"], abs=5e-5)
    assert number(shown["rank by share on the reasoning"]) == row["rank"]
    assert colour == view.evaluate("focus => css(diverging(focus / 3))", row["focus"])
    ticks = view.locator("#boxes [data-even]")
    even = pl.read_parquet(inputs.paths.attention("tiny_qwen2", "math500")).filter(source="answer")["uniform_share"]
    assert float(ticks.first.get_attribute("data-even")) == pytest.approx(even.mean(), abs=1e-6)
    view.wait_for_selector("html[data-ready]")  # what is out of view is drawn later
    assert view.locator("#walk figcaption").inner_text().startswith("L3.H5 of tiny_qwen2")


def test_a_head_of_a_reader_stands_at_its_scores_and_can_be_chosen(opened, inputs):
    view = opened()
    frame = pl.read_parquet(inputs.paths.read_heads("base", "tiny_qwen2", "math500")).filter(layer=2, head=3)
    before, after = (frame.filter(model=name)["answer_to_reasoning"][0] for name in ("base", "tiny_qwen2"))
    dot = view.locator("#readers [data-head='L2.H3']").first
    assert dot.locator("title").text_content() == f"L2.H3: {before:.3f} before, {after:.3f} after"
    places = view.locator("#readers .axis").first.locator("text")
    left, right = (number(places.nth(at).get_attribute("x")) for at in (0, 4))
    assert number(dot.get_attribute("cx")) == pytest.approx(left + before * (right - left), abs=1e-6)
    dot.click(force=True)
    view.wait_for_selector("#head-facts h4:text-is('L2.H3')")
    assert "head=L2.H3" in view.url


def test_dots_and_the_map_of_a_walk_are_read_and_chosen_by_keys(opened):
    view = opened()
    plot = view.locator("#readers svg[tabindex='0']").first
    names = [one.get_attribute("data-head") for one in plot.locator(".pick").all()]
    places = {name: float(plot.locator(f"[data-head='{name}']").get_attribute("cx")) for name in names}
    leftmost = sorted(names, key=lambda name: places[name])
    plot.focus()
    for key in ("End", "Home", "ArrowRight"):
        view.keyboard.press(key)
    assert str(view.locator("#live").text_content()).startswith(f"{leftmost[1]}: ")
    view.keyboard.press("Enter")
    until(view, f"location.hash.includes('head={leftmost[1]}')")
    view.locator("#reader .thumbs button").nth(2).click()
    view.evaluate("choose({ head: STATE.view })")
    held = view.locator("#walk .layered[tabindex='0']")
    held.focus()
    view.keyboard.press("ArrowDown")
    assert re.match(r"Answer token \d+, reasoning token \d+: ", view.locator("#walk-readout").inner_text())
    assert view.locator("#nav a[aria-current=true]").count() <= 1


def test_a_cut_stands_at_its_loss_beside_random_sets(opened):
    view = opened()
    rows = [view.locator(f"#cuts svg >> nth=0 >> [data-set='mask {name}']") for name in ("none 0", "mass 2", "all 8")]
    places = [number(row.locator("circle").last.get_attribute("cx")) for row in rows]
    assert (places[1] - places[0]) / (places[2] - places[0]) == pytest.approx(0.5 / 0.8, abs=1e-3)
    assert rows[1].locator("circle").count() == 1 + 3
    assert rows[1].locator("circle").last.locator("title").text_content().endswith("p = 0.50")
    assert "loses 0.80 nats per token" in view.locator("#cuts .says").inner_text()


def test_changed_reasoning_stands_at_its_shares(opened):
    view = opened()
    rows = [
        view.locator(f"#changes [data-arm='{name}']")
        for name in ("wrong numbers, 100%, 3.0 each", "wrong numbers up to boundary, 100%, 2.0 each")
    ]
    places = [number(row.locator("circle").first.get_attribute("cx")) for row in rows]
    marks = [number(mark.get_attribute("x1")) for mark in view.locator("#changes [data-boundary]").all()]
    axis = view.locator("#changes .axis").last.locator("text")
    ends = [number(axis.nth(at).get_attribute("x")) for at in (0, 5)]
    assert places == pytest.approx([ends[0], sum(ends) / 2])
    assert len(marks) == 2
    assert rows[1].locator("title").text_content().startswith("wrong numbers up to boundary, 100%, 2.0 each: 0.50 (95%")
    curve = view.locator("#changes [data-curve='same'] circle")
    assert curve.count() == 21
    mistakes = {mark.get_attribute("data-mistake"): mark for mark in view.locator("#changes [data-mistake]").all()}
    beside = [number(mistakes[part].get_attribute("cx")) for part in ("made", "none")]  # of all half-way, in each
    assert sum(beside) / 2 == pytest.approx(number(curve.nth(10).get_attribute("cx")))
    assert "settle after 70%" in view.locator("#changes .says").inner_text()


def test_an_instrument_stands_at_its_auc_and_its_agreement(opened):
    view = opened()
    names = [f"{name} reads against recites" for name in ("wrong", "empty", "mass")]
    ends = [number(view.locator(f"#agreements [data-auc='{name}'] circle").get_attribute("cx")) for name in names]
    assert (ends[2] - ends[1]) / (ends[0] - ends[1]) == pytest.approx(0.5)
    said = view.locator(f"#agreements [data-auc='{names[0]}'] circle title").text_content()
    assert said.startswith("reads against recites: 1 (95%")
    assert view.locator("#agreements .value", has_text="reversed").count() == 1
    assert count_cells(view, "#agreements") == 6  # of 3 x 3, none of an instrument with itself
    assert view.locator("#agreements [data-told='0 1']").count() == 1
    assert "fails to say whether one answer" in view.locator("#agreements .says").inner_text()


def test_a_hidden_sentence_stands_at_its_attention_and_cost(opened):
    view = opened()
    dots = [view.locator(f"#hidden [data-sentence='b {at}']") for at in (0, 1, 2, 3)]
    across, down = ([number(dot.get_attribute(name)) for dot in dots] for name in ("cx", "cy"))
    assert across[3] - across[2] == pytest.approx(across[1] - across[0])
    assert down[1] - down[2] == pytest.approx(down[0] - down[1])  # 0.1, 0.2, 0.4 on a logarithmic axis
    assert dots[3].locator("title").text_content() == "b, sentence 4: Step 3. (2 times even reading; 0.3000 nats)"
    assert view.locator("#hidden [data-kind='of ranks, 2'] circle").count() == 2


TOKENS = (
    "part => [...document.querySelectorAll(`#reader .${part} .t`)]"
    ".filter(t => t.style.backgroundColor).map(t => +t.dataset.token)"
)  # those with a colour


def read_links(inputs: Any, kind: str = "rfh_mean") -> pl.DataFrame:
    """What the tokens of the first trace read in one view."""
    links = pl.read_parquet(inputs.paths.map_links("tiny_qwen2", "math500"))
    return links.filter(kind=kind, item_id=links["item_id"][0])


def test_an_answer_token_shows_what_it_reads_of_each_part_and_is_let_go(opened, inputs, page_data):
    view = opened()
    close = page_data["traces"][0]["items"][0]["think_close"]
    parts = {row["part"]: row for row in read_links(inputs).filter(row=close + 6).iter_rows(named=True)}
    assert len(parts) == 3
    answer = read_links(inputs).filter(pl.col("row") >= close, part="reasoning")
    on_reasoning = f"{100 * answer['mass'].to_numpy().mean():.0f}% on the reasoning"
    assert on_reasoning in view.locator("#reader .says").inner_text()
    view.locator(f'#reader .answer .t[data-token="{close + 7}"]').click()
    said = view.locator("#reader-readout").inner_text()
    for part, name in (("query", "question"), ("reasoning", "reasoning"), ("answer", "answer")):
        row = parts[part]
        assert f"on the {name}: {row['mass']:.4f}, most on" in said
        assert f"{row['mass'] - sum(row['weights'][:4]):.4f} lies outside the 4 tokens shown" in said
        blue = "rgba(0, 114, 178"
        shown = view.evaluate(TOKENS.replace("backgroundColor)", f"backgroundColor.startsWith('{blue}'))"), name)
        assert sorted(shown) == sorted(row["tokens"])
    assert f"token={close + 7}" in view.evaluate("location.hash")
    view.keyboard.press("ArrowRight")
    assert f"token={close + 8}" in view.evaluate("location.hash")
    view.keyboard.press("Escape")
    assert "token=" not in view.evaluate("location.hash")
    assert "Point at" in view.locator("#reader-readout").inner_text()


def test_words_of_the_readout_lead_to_what_looks_at_them_and_back(opened, inputs, page_data):
    close = page_data["traces"][0]["items"][0]["think_close"]
    answer = read_links(inputs).filter(pl.col("row") >= close, part="reasoning")
    row = answer.row(3, named=True)
    view = opened(f"#reader&token={row['row'] + 1}")
    words = view.locator("#reader-readout button")
    assert f"({row['tokens'][0]})" in words.first.inner_text()
    words.first.click()
    assert f"token={row['tokens'][0]}" in view.url
    looking = answer.explode("tokens", "weights").filter(tokens=row["tokens"][0]).sort("weights", descending=True)
    assert sorted(view.evaluate(TOKENS, "answer")) == sorted(looking["row"].head(12) + 1)
    back = view.locator("#reader-readout p:has-text('while writing the answer') button").first
    assert f"({looking['row'][0] + 1})" in back.inner_text()
    back.click()
    assert f"token={looking['row'][0] + 1}" in view.url


def test_a_reasoning_token_shows_what_it_reads_and_what_reads_it(opened, inputs, page_data):
    trace = page_data["traces"][0]["items"][0]
    reasoning = read_links(inputs).filter(pl.col("row") < trace["think_close"] - 1).explode("tokens", "weights")
    strongest = reasoning.sort("row", "weights", descending=[False, True], maintain_order=True)
    strongest = strongest.group_by("row", maintain_order=True).head(4)
    looked_at = strongest.filter(pl.col("weights") >= trace["floor"], pl.col("tokens") > trace["think_open"] + 1)
    row = looked_at["tokens"][0] - 1  # writes a token that others read
    read = strongest.filter(row=row)
    view = opened(f"#reader&token={row + 1}")
    said = view.locator("#reader-readout").inner_text()
    assert f"reasoning token {row + 1}" in said
    mass = read_links(inputs).filter(row=row)["mass"].sum()
    about = float(said.split("question and reasoning: about ")[1].split(",")[0])
    assert about == pytest.approx(mass, rel=0.02)
    found = [one for part in ("question", "reasoning") for one in view.evaluate(TOKENS, part)]
    readers = strongest.filter(pl.col("weights") >= trace["floor"], tokens=row + 1)
    assert set(found) >= {*read.filter(pl.col("weights") >= trace["floor"])["tokens"], *readers["row"] + 1}
    assert readers.height
    assert "Looked at while writing the reasoning" in said
    seen = strongest.filter(pl.col("tokens").is_between(1, trace["think_open"] - 1)).row(0, named=True)
    view.locator(f'#reader .t[data-token="{seen["tokens"]}"]').click()  # of the question: who reads it
    reading = strongest.filter(tokens=seen["tokens"]).sort("weights", descending=True)
    assert (
        f"({reading['row'][0] + 1})" in view.locator("#reader-readout p:has-text('writing the reasoning')").inner_text()
    )


def test_a_pair_of_lines_shows_its_mean_weight_over_even_reading(opened, inputs, page_data):
    view = opened("#reader&mode=lines")
    lines = pl.read_parquet(inputs.paths.map_lines("tiny_qwen2", "math500")).filter(kind="rfh_mean").row(0, named=True)
    count = len(lines["start"])
    weights, even = (np.array(lines[name], float).reshape(count, count) for name in ("weights", "even"))
    row, column = count - 1, count - 3
    click_cell(view, "#reader", row, column)
    view.wait_for_selector("#reader .t[style*='background']")
    said = view.locator("#reader-readout > p").inner_text()
    numbers = [float(said.split(cut)[1].split()[0].strip("().")) for cut in ("puts ", "\u201d: ", "even reading (")]
    ratio = weights[row, column] / even[row, column]
    assert numbers == pytest.approx([weights[row, column], ratio, even[row, column]], rel=0.03, abs=6e-5)
    tinted = [one for part in ("question", "reasoning", "answer") for one in view.evaluate(TOKENS, part)]
    both = {*range(lines["start"][row], lines["end"][row]), *range(lines["start"][column], lines["end"][column])}
    assert set(tinted) == both
    assert f"line={row}.{column}" in view.url
    grid = view.locator("#reader svg.cells")
    grid.focus()
    view.keyboard.press("ArrowUp")
    view.keyboard.press("Enter")
    until(view, f"location.hash.includes('line={row - 1}.{column}')")
    assert grid.evaluate("grid => grid === document.activeElement")
    assert count < count_cells(view, "#reader") <= count * (count + 1) / 2  # what comes later is blank


def test_answer_curve_boundary_and_centroid_stand_on_the_axis_of_the_strip(opened, page_data, tmp_path):
    data = copy.deepcopy(page_data)
    trace = data["traces"][0]["items"][0]
    ends = [trace["think_open"] + 1, *trace["sentences"]["end"]]  # of what stays, when the first sentences do
    p = [0.1, 0.1, *[0.9] * (len(ends) - 2)]
    count = len(ends) - 1
    cut = {"fraction": [at / count for at in range(len(ends))], "p": p, "same": [1.0] * len(p), "arms": []}
    data["perturb"][0]["items"][trace["item_id"]] = cut | {"boundary": 2 / count, "n_sentences": count}
    view = opened("#reader", write_page(build_page(data, 10.0), tmp_path))
    strip = view.locator("#reader svg:has(.window)").bounding_box()["width"]

    def along(token: float) -> float:
        return strip * (token - 1) / (trace["n_tokens"] - 2)

    dots = view.locator("#reader [data-p]").all()
    assert [number(dot.get_attribute("cx")) for dot in dots] == pytest.approx([along(end) for end in ends], abs=0.1)
    assert [number(dot.get_attribute("data-p")) for dot in dots] == p
    assert dots[0].locator("title").text_content() == f"0 of {count} sentences: p = 0.10"
    boundary = view.locator("#reader [data-boundary]")
    assert number(boundary.get_attribute("x1")) == pytest.approx(along(ends[2]), abs=0.1)
    look, length = trace["looks"][0], trace["think_close"] - trace["think_open"] - 1
    place = along(trace["think_open"] + 1 + look["centroid"] * length)
    drawn = view.locator("#reader [data-centroid] path").get_attribute("d")
    assert float(drawn[1:].split()[0]) == pytest.approx(place, abs=0.1)


def test_an_answer_curve_of_other_sentences_is_not_drawn(opened, page_data, tmp_path):
    data = copy.deepcopy(page_data)
    whole = {"fraction": [0.0, 1.0], "p": [0.1, 0.9], "same": [0.0, 1.0], "arms": [], "boundary": 1.0, "n_sentences": 1}
    data["perturb"][0]["items"][data["traces"][0]["items"][0]["item_id"]] = whole
    view = opened("#reader", write_page(build_page(data, 10.0), tmp_path))
    view.wait_for_selector("#reader [data-centroid]", state="attached")
    assert view.locator("#reader [data-centroid]").count() == 1
    assert view.locator("#reader [data-p]").count() == 0
    assert "this trace was not cut, or not at" in view.locator("#reader").inner_text()


@pytest.fixture(scope="module")
def long_inputs(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return large_study(tmp_path_factory.mktemp("long"), 1, shape=(3, 4), n_items=3, n_traces=2, n_tokens=2500)


@pytest.fixture(scope="module")
def long_data(long_inputs: Any) -> dict[str, Any]:
    return report_data(long_inputs)


def test_a_held_token_brings_what_it_looks_at_into_view(opened, long_data, tmp_path):
    view = opened("#reader", write_page(build_page(long_data, 10.0), tmp_path))
    here = view.locator("#reader svg .window")
    before = number(here.get_attribute("x"))
    view.locator("#reader .answer .t").nth(600).click()
    word = view.locator("#reader-readout button").first.inner_text()
    strongest = int(word.rsplit("(", 1)[1].rstrip(")"))
    box = view.locator("#reader .reasoning .text").bounding_box()
    place = view.locator(f'#reader .t[data-token="{strongest}"]').bounding_box()
    assert box["y"] <= place["y"] <= box["y"] + box["height"]
    until(view, f"+document.querySelector('#reader svg .window').getAttribute('x') > {before} + 50")
    held = int(view.locator("#reader .t.here").get_attribute("data-token"))
    later = view.locator("#reader-readout p:not(.pins)").last.locator("button").all_inner_texts()
    assert all(int(said.rsplit("(", 1)[1].rstrip(")")) > held for said in later)
    with view.expect_download() as svg:
        view.locator("#reader .save").first.click()
    assert svg.value.path().read_text().count("<text ") > 2300  # most of 2,500 tokens: some are white space alone
    strip = view.locator("#reader svg:has(.window)")
    strip.click(position={"x": strip.bounding_box()["width"] * 0.2, "y": 15})
    until(view, f"+document.querySelector('#reader svg .window').getAttribute('x') < {before} + 200")


def test_sentences_are_listed_by_what_a_token_of_them_gets_over_even_reading(opened, long_inputs, long_data, tmp_path):
    view = opened("#reader&mode=sentences", write_page(build_page(long_data, 10.0), tmp_path))
    trace = long_data["traces"][0]["items"][0]
    even = float(np.mean([1 / (token + 1) for token in range(trace["think_close"] + 1, trace["n_tokens"] - 1)]))
    frame = pl.read_parquet(long_inputs.paths.sentences("model_0", "math500")).filter(item_id=trace["item_id"])
    marks = pl.DataFrame(long_data["heads"][0]["marks"]["rfh"], schema=["layer", "head"], orient="row")
    own = frame.join(marks.cast(pl.Int16), on=["layer", "head"]).group_by("sentence", "start", "end")
    most = own.agg(pl.col("mass").mean()).with_columns(ratio=pl.col("mass") / (pl.col("end") - pl.col("start")) / even)
    most = most.sort("ratio", descending=True).head(10)
    cells = view.locator("#reader-readout tbody td:nth-child(2)").all_inner_texts()
    assert [number(cell) for cell in cells] == pytest.approx(most["ratio"].to_list(), abs=0.005)
    view.locator("#reader-readout tbody button").first.click()
    assert f"tokens {most['start'][0]}\u2013{most['end'][0] - 1}" in view.locator("#reader-readout p").inner_text()
    box = view.locator("#reader .reasoning .text").bounding_box()
    place = view.locator(f'#reader .t[data-token="{most["start"][0]}"]').bounding_box()
    assert box["y"] <= place["y"] <= box["y"] + box["height"]


def test_what_did_not_fit_is_said_and_the_rest_is_drawn(opened, long_data, tmp_path):
    small = build_page(long_data, len(build_page(long_data, 10.0)) / 1e6 - 0.05)
    view = opened("", write_page(small, tmp_path))
    assert "the page carries 1 of 2 traces" in view.locator("#left-out").inner_text()
    assert "one of 1 trace," in view.locator("#reader figcaption").inner_text()


def test_thumbnails_choose_a_map_or_the_walk_of_a_head(opened, page_data):
    view = opened()
    trace = page_data["traces"][0]["items"][0]
    thumbs = view.locator("#reader .thumbs button")
    assert thumbs.count() == view.locator("#reader .thumbs canvas").count() == len(trace["views"])
    thumbs.nth(2).click()
    view.wait_for_selector("#reader .thumbs button:nth-child(3)[aria-pressed=true]")
    assert f"head {trace['views'][2]['name']}" in view.locator("#reader figcaption").inner_text()
    assert view.locator("#walk .cells .thumb").count() == len(trace["walks"]["layer"])
    assert view.evaluate("brokenPath([null, [1, 2.06], null, [3, 4], [5, 6]])") == "M1 2.1h0M3 4h0L5 6"
    assert view.evaluate("brokenPath([null, null])") == ""  # a head that never looks at the reasoning
    click_cell(view, "#walk", 1, 2)
    view.wait_for_selector("#head-facts h4:text-is('L1.H2')")


def test_the_address_restores_what_was_chosen(opened):
    view = opened("#heads&model=r1_qwen_7b&target=query&head=L2.H4&item=item%2F01.json&cell=6.3&mode=sentences")
    assert view.locator("#pickers select").first.input_value() == "r1_qwen_7b"
    assert view.locator("#head-facts h4").first.inner_text() == "L2.H4"
    assert view.locator("#cell-facts h4").inner_text() == "layer 3, position 46"
    assert "sentences get" in view.locator("#reader-readout").inner_text()


BROKEN = (
    *("model=none", "dataset=nowhere", "setting=never", "show=half", "source=x", "target=bad", "mode=x", "metric=foo"),
    *("item=nothing", "sort=colour", "sort=constructor", "page=77", "page=-1", "page=x", "token=9999", "token=0"),
    *("token=3,9999", "line=900.1", "line=1", "view=L9.H9", "head=L99.H99", "head=1.2", "pair=pair-77", "probe=x"),
    *("cell=1.99", "cell=x", "zprobe=x", "zhead=L0.H6", "constructor=1", "colour=red"),
)


def test_each_broken_part_of_an_address_is_named_and_falls_back(opened):
    view = opened()
    found = {}
    for part in BROKEN:
        view.evaluate("part => { location.hash = part; }", f"{'cells&' if '77' in part else ''}{part}&zprobe=plain, x")
        until(view, "document.getElementById('notice').textContent.includes('zprobe')")
        until(view, "document.documentElement.hasAttribute('data-ready')")
        said = view.locator("#notice").inner_text()
        key, value = part.split("=")
        found[part] = f"{key} \u201c{value}\u201d" in said and said.count("\u201c") == 2 - (key == "zprobe")
        view.evaluate("() => { location.hash = ''; }")
        until(view, "!document.getElementById('notice').textContent")
    assert [part for part, named in found.items() if not named] == []
    assert view.evaluate("address()") == "#"


def test_what_an_address_asks_for_is_taken_beside_what_is_broken(opened):
    view = opened("#nosuch&metric=foo&model=r1_qwen_7b&token=5,17&note=a%20%3Cb%3E")
    said = view.locator("#notice").inner_text()
    assert "metric \u201cfoo\u201d, the place \u201cnosuch\u201d, which" in said
    assert view.locator("#cells .missing, #heads .missing").count() == 0
    assert view.locator("#pickers select").first.input_value() == "r1_qwen_7b"
    assert view.locator("#note").inner_text() == "Note: a <b>"
    view.locator("#pickers input").fill("read this")
    view.locator("#pickers input").press("Enter")
    until(view, "document.getElementById('note').textContent === 'Note: read this'")
    assert "note=read+this" in view.url


def test_several_tokens_are_pinned_and_kept_in_the_address(opened, page_data):
    close = page_data["traces"][0]["items"][0]["think_close"]
    first, second = close + 7, close + 9
    view = opened(f"#reader&token={first},{second}")
    until(view, "document.querySelector('#reader .here')")
    assert view.evaluate("+document.querySelector('#reader .here').dataset.token") == second
    assert int(str(view.locator("#reader .t.pinned").get_attribute("data-token"))) == first
    assert f"({first}), most on" in view.locator("#reader-readout .pin").inner_text()
    view.locator(f'#reader .t[data-token="{close + 4}"]').click(modifiers=["Shift"])
    assert f"token={first}%2C{second}%2C{close + 4}" in view.url
    view.locator(f"#reader-readout [aria-label='Release token {first}']").click()
    view.keyboard.press("Escape")
    assert view.url.endswith(f"token={second}")
    view.locator("#reader-readout button:text-is('pin it')").click()
    view.locator(f'#reader .t[data-token="{close + 5}"]').click()
    assert view.url.endswith(f"token={second}%2C{close + 5}")


def test_the_first_screen_answers_with_the_numbers_of_the_data(opened, page_data):
    """Does reasoning help, do answers look at it, does it cause them, how sure, what is not shown."""
    view = opened()
    assert view.locator("#left-out").count() == 0
    found = view.locator(".finding")
    for place, one in enumerate(page_data["overview"]["questions"]):
        assert found.nth(place).locator("h2").inner_text() == one["question"]
        assert found.nth(place).locator(".says").inner_text() == one["answer"]
        assert found.nth(place).locator("svg[role=img]").count() == 1
    shares = found.nth(0).locator("[data-side=with]")
    accuracies = [100 * run["summary"]["paired"]["accuracy_with"] for run in page_data["evaluation"]]
    assert [float(one.get_attribute("data-value")) for one in shares.all()] == pytest.approx(accuracies)
    assert found.nth(1).locator("circle").count() == sum(run["n_heads"] for run in page_data["heads"])
    assert found.nth(1).locator(".more").count() == sum(run["n_above_even"] for run in page_data["heads"])
    for title, name in (("How sure", "sure"), ("What this cannot show", "limits"), ("What was null", "nulls")):
        column = view.locator(f".plain > div:has(h3:text-is('{title}')) li")
        assert column.all_text_contents() == page_data["overview"][name]  # from the sixth on folded
    assert view.locator(".finding").nth(2).bounding_box()["y"] < 900  # on the first screen


def test_a_figure_can_be_taken_as_svg_and_png_and_says_how_it_is_measured(opened, page_data):
    view = opened()
    with view.expect_download() as svg:
        view.locator("#curves .save").first.click()
    text = svg.value.path().read_text()
    assert text.startswith("<svg")
    assert "flipping token" in text
    with view.expect_download() as png:
        view.locator("#walk .save").last.click()
    assert png.value.suggested_filename == "walk.png"
    assert png.value.path().read_bytes()[:4] == b"\x89PNG"
    folds = {figure.get_attribute("id") for figure in view.locator("figure:has(summary:text-is('How measured'))").all()}
    assert folds == {figure.get_attribute("id") for figure in view.locator("figure").all()}
    view.locator("#cuts summary:text-is('How measured')").click()
    view.wait_for_selector("#cuts code:text-is('data/knockout/tiny_qwen2/math500.parquet')")


def words_of(text: str) -> set[str]:
    return set(re.findall(r"\w+", text))


def test_a_saved_picture_says_what_the_figure_says_from_title_to_caption(opened, page_data):
    """The halo of a label lies behind its letters; a token of the reader's text may be a part of a word."""
    view = opened("#accuracy&item=item%2F00.json")
    for figure in set(page_data["measured"]) - {"judged", "against", "items", "reader"}:
        picture = ElementTree.fromstring(view.evaluate(f"pictureOf(document.getElementById('{figure}')).text"))
        parts = [view.locator(f"#{figure} {part}") for part in ("h3", ".says", ".body", "figcaption")]
        seen = " ".join(text for part in parts for text in part.all_inner_texts())
        assert words_of(seen) <= words_of(" ".join(picture.itertext())), figure
    accuracy = view.evaluate("pictureOf(document.getElementById('accuracy')).text")
    assert "tiny_qwen2 on math500 (n = 5); r1_qwen_7b on math500 (n = 5)" in view.locator("#accuracy").inner_text()
    assert 'paint-order="stroke"' in accuracy.split(">+40 [")[0].split("<text")[-1]
    items = view.evaluate("pictureOf(document.getElementById('items')).text")
    heads = view.locator("#items thead th").all_inner_texts()
    assert words_of(" ".join(heads)) <= words_of(items)
    assert "\u2026</text>" in items  # a question that is cut on the page is cut there


def test_a_saved_picture_holds_what_is_scrolled_out_of_view_and_leaves_the_page_as_it_was(opened, long_data, tmp_path):
    view = opened("#reader", write_page(build_page(long_data, 10.0), tmp_path))
    view.set_viewport_size({"width": 420, "height": 700})
    box = "document.querySelector('#reader .reasoning .text')"
    view.locator("#reader .reasoning .text").scroll_into_view_if_needed()
    until(view, f"{box}.scrollHeight > 3 * {box}.clientHeight")
    view.evaluate(f"{box}.scrollTo(0, 70)")
    state = f"[scrollY, {box}.scrollTop, {box}.clientHeight, document.body.scrollHeight].join(' ')"
    before = view.evaluate(state)
    picture = ElementTree.fromstring(view.evaluate("pictureOf(document.getElementById('reader')).text"))
    drawn = re.sub(r"\s", "", "".join(picture.itertext()))
    for part in view.locator("#reader .text").all():
        assert re.sub(r"\s", "", part.inner_text()) in drawn
    wide = "document.querySelector('#items .scroll')"
    least = view.evaluate(f"{wide}.scrollWidth > {wide}.clientWidth ? {wide}.scrollWidth : Infinity")
    assert view.evaluate("pictureOf(document.getElementById('items')).width") > least
    assert view.evaluate(state) == before
    made = """pngOf({width: 10, height: 40000, text: '<svg xmlns="http://www.w3.org/2000/svg"/>'})"""
    assert view.evaluate(f"{made}.then(createImageBitmap).then(({{height}}) => height)") == 16384


def test_what_did_not_run_leaves_no_empty_part_behind(opened, page_data, tmp_path):
    data = copy.deepcopy(page_data) | {"patching": [], "walks": []}
    data["overview"]["settings"] = ["with_reasoning"]
    rows = data["overview"]["beside"]["rows"]
    data["overview"]["beside"] |= {"columns": ["a", "b", "c"]}
    rows[:] = [row | {"cells": [*row["cells"], None], "difference": None} for row in rows]
    view = opened("", write_page(build_page(data, 10.0), tmp_path))
    assert view.locator("#beside .says").inner_text() == ""  # three models have no single difference
    assert view.locator("#beside figcaption").inner_text().startswith("Numbers of math500, and those")
    missing = view.locator(".finding").nth(2)
    assert (missing.locator("svg").count(), missing.locator(".note").first.inner_text()) == (0, "")
    assert [one.is_visible() for one in view.locator("#curves .save").all()] == [False, False]
    assert view.locator("#items th:has-text('without reasoning')").count() == 0
    assert view.locator("#items select option").all_inner_texts() == [
        *("all items", "answer is not what its reasoning names last", "with more evidence"),
    ]
    first = "L{}.H{}".format(*data["heads"][0]["marks"]["rfh"][0])
    assert view.locator("#walk figcaption").inner_text().startswith(f"{first} of ")  # of the walks, the first by excess


def test_an_item_opens_with_all_its_evidence_and_back(opened, page_data):
    view = opened("#items&item=item%2F00.json")
    losses = view.locator("#evidence [data-loss]")
    assert [float(losses.nth(at).get_attribute("data-loss")) for at in range(4)] == pytest.approx([0, 0.4, 0.8, -0.1])
    assert view.locator("#evidence [data-curve='p'] circle").count() == 6
    assert "The reasoning names 7 last, and so does the answer." in view.locator("#evidence").inner_text()
    view.locator("#evidence a:text-is('changes')").click()
    assert view.evaluate("location.hash").startswith("#changes&")
    view.locator("#changes .links button").nth(1).click()
    view.wait_for_selector("#evidence h4:text-is('Question item/01.json')")
    assert view.evaluate("location.hash").startswith("#evidence&")
    read = page_data["traces"][0]["items"][0]["item_id"]
    view.locator("#reader .links button").click()
    view.wait_for_selector(f"#evidence h4:text-is('Question {read}')")
    assert view.locator("#evidence a:text-is('attention')").count() == 1


def test_a_pair_shows_its_questions_and_leads_to_the_item_that_asks_one_and_back(opened, inputs):
    view = opened("#cells&cell=2.1")
    assert view.locator("#cells [data-side=clean] h4").inner_text() == "clean question, answer \u201c5\u201d"
    assert view.locator("#cells [data-side=corrupted] .text").first.inner_text().startswith("Considering sea")
    cells = pl.read_parquet(inputs.paths.patching("tiny_qwen2")).filter(pair_id="pair-0", probe="boxed", position=42)
    best = cells.filter(component="resid_pre").sort("nld").row(-1, named=True)
    said = view.locator("#cells .says").inner_text()
    assert "from \u201c6\u201d to \u201c5\u201d" in said
    assert f"it goes up to {100 * best['nld']:.0f}% of the way (layer {best['layer']})" in said
    view.locator("#cells .links button").click()
    view.wait_for_selector("#evidence h4:text-is('Question item/05.json')")
    view.evaluate("choose({ pair: 'pair-1' })")
    view.locator("#evidence a:text-is('exchanges')").click()
    until(view, "location.hash.startsWith('#cells&') && location.hash.includes('pair=pair-0')")


def test_items_are_sorted_filtered_and_found(opened):
    view = opened("#items&show=differs")
    rows = view.locator("#items tbody tr")
    assert rows.count() == 1
    assert rows.first.get_attribute("data-item") == "3"
    view.locator("#items .picker select").select_option("all")
    view.locator("#items th button:text-is('reference')").click()
    view.wait_for_selector("#items th[aria-sort=ascending]")
    golds = [row.locator("td").nth(1).inner_text() for row in rows.all()]
    assert golds == sorted(golds)
    assert len(golds) == 6
    view.locator("#items input").fill("finds 10 more")  # of the question of the fourth item
    view.locator("#items input").press("Enter")
    view.wait_for_selector("#items tbody tr >> nth=0 >> :text('item/03.json')")
    assert rows.count() == 1


def test_hostile_text_is_shown_and_does_nothing(opened):
    view = opened("#items&item=item%2F01.json")
    shown = view.locator('#items article[data-setting="with_reasoning"] .text').inner_text()
    assert "</script><script>document.title='broken'</script><img src=x onerror=alert(1)>" in shown
    assert "\u2039202e\u203a" in shown
    assert "\u20390000\u203a" in shown
    assert view.locator("img").count() == 0
    assert view.title() == "From reasoning to answer"


def test_copied_csv_holds_the_figure(opened, inputs):
    view = opened()
    view.locator("#cells .copy").click()
    view.wait_for_selector("#cells .copy:text-is('Done')")
    lines = view.evaluate("navigator.clipboard.readText()").splitlines()
    frame = pl.read_parquet(inputs.paths.patching("tiny_qwen2"))
    cells = frame.filter(pair_id="pair-0", probe="boxed", component="resid_pre").sort("layer", "position")
    assert lines[0].startswith("pair_id,probe,layer,position,role")
    assert [float(line.split(",")[7]) for line in lines[1:]] == cells["nld"].to_list()


def test_chance_tests_and_what_was_answered_are_those_of_the_summary(opened, page_data):
    view = opened()
    assert view.locator("#accuracy [data-chance='50']").count() == 2
    row = view.locator("#accuracy .tests tbody tr").first.inner_text()
    assert "+40.0 [" in row
    assert "0.625" in row
    for kind in ("right", "second", "nothing"):
        bars = view.locator(f"#answers rect[data-kind={kind}]")
        shown = [int(bars.nth(at).get_attribute("data-value")) for at in range(bars.count())]
        answers = [counts for run in page_data["evaluation"] for counts in run["summary"]["answers"].values()]
        assert shown == [counts[kind] for counts in answers if counts[kind]]
        assert sum(shown)


def test_judge_scores_are_drawn(opened, judged_data, tmp_path):
    view = opened(place=write_page(build_page(judged_data, 10.0), tmp_path))
    bars = view.locator("#judged [data-side=with]")
    shown = [float(bars.nth(at).get_attribute("data-value")) for at in range(bars.count())]
    expected = [area["mean_with"] for record in judged_data["evaluation"] for area in record["judged"]]
    assert shown == pytest.approx(expected)
    text = view.locator("#judged").inner_text()
    assert "Judge: gpt-4o-2024-05-13" in text
    assert "2 of each response" in text


@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (390, "dark"), (1200, "dark")])
def test_nothing_is_wider_than_the_window(browser, address, width, scheme):
    context = browser.new_context(offline=True, viewport={"width": width, "height": 800}, color_scheme=scheme)
    view = context.new_page()
    view.goto(address)
    view.wait_for_selector("html[data-ready]")
    assert view.evaluate("document.documentElement.scrollWidth") <= width
    dark = view.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(21, 23, 27)"
    context.close()
    assert dark == (scheme == "dark")


def test_curves_and_marks_look_as_in_the_pictures(opened, inputs):
    """Label, colour, and whether a line is dashed; of the marks, the colour."""
    view = opened("#patching&model=tiny_qwen2")
    cells = {"tiny_qwen2": read_cells(inputs.paths.patching("tiny_qwen2"))}
    drawn = {str(line.get_gid()): line for line in layer_figure(cells, ["plain"], inputs.crossing).axes[0].lines}
    panel = view.locator("#curves svg").first
    legend = view.locator("#curves .key").inner_text()
    assert panel.locator("[data-curve]").count() >= 4
    across = layer_figure(cells, ["plain"], inputs.crossing).axes[0].get_xlabel()
    for figure in ("curves", "cells"):
        assert across in view.locator(f"#{figure} text.title").all_text_contents()
    for group in panel.locator("[data-curve]").all():
        line = drawn[str(group.get_attribute("data-curve"))]
        path = group.locator("path[fill=none]")
        assert path.get_attribute("stroke") == to_hex(line.get_color())
        assert (path.get_attribute("stroke-dasharray") is not None) == line.is_dashed()
        assert str(line.get_label()) in legend
    marks = {
        name: view.evaluate(f"getComputedStyle(document.documentElement).getPropertyValue('--{name}')")
        for name in ("rfh", "induction", "retrieval")
    }
    assert marks == {
        "rfh": to_hex(RFH["markeredgecolor"]),
        "induction": to_hex(INDUCTION["markerfacecolor"]),
        "retrieval": to_hex(RETRIEVAL["markerfacecolor"]),
    }


def test_another_run_stands_beside_this_one_with_differences(opened, inputs, tmp_path):
    one = replace(inputs, models=("tiny_qwen2",))
    data = report_data(one, against=one)
    row = next(row for row in data["against"]["rows"] if row["measure"] == "accuracy without reasoning")
    row["cells"][0] |= {"value": 90.0, "low": 81.04, "high": 95.0}
    row["cells"][1] |= {"low": -0.04, "high": 60.0}
    row["difference"] = {"value": -50.0, "low": -60.04, "high": -0.04, "n": 4, "p": 0.625}
    view = opened(place=write_page(build_page(data, 10.0), tmp_path))
    assert view.locator(".findings:has(.finding) + #against").count() == 1  # below the three answers
    shown = view.locator("#against tr", has_text="accuracy without reasoning")
    cells = ["90.0\n81.0 to 95.0", "40.0\n0.0 to 60.0", "\u221250.0\n\u221260.0 to 0.0\nn = 4, p = 0.625"]
    assert shown.locator("td").all_inner_texts() == cells
    assert shown.locator("b").count() == view.locator("#against b").count() == 1
    assert view.locator("#against .says").inner_text().startswith("In 1 of ")
    view.locator("#against button.copy").click()
    copied = view.evaluate("navigator.clipboard.readText()")
    assert "tiny_qwen2,math500,accuracy without reasoning,%,90,81.04,95,40,-0.04,60,-50,-60.04,-0.04,4,0.625" in copied
