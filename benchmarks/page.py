"""Size, opening and reaction of the report page of a made-up study: three models of 28 x 28 heads, 500 items, eight
traces of 10,000 tokens each.

usage: python -m benchmarks.page [--quick]     prints tables; minutes, and 1 GB of disk while it runs
"""

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, CDPSession, Page, sync_playwright

from benchmarks.measuring import Rows, seconds, table
from r2a_core.report.page import MEGABYTE, build_page, report_data
from tests.report.large import large_study
from tests.report.test_browser import CHROMIUM

ROUNDS = 5
TOY = {"n_models": 2, "shape": (21, 4), "n_items": 5, "n_traces": 2, "n_tokens": 1000}
CHOICES = {  # what is chosen, in which figure, and what does it
    "a head": ("heads", "choose({head: 'L20.H1'})"),
    "a part of the text": ("heads", "choose({target: 'query'})"),
    "an item": ("items", "choose({item: 'item/03.json'})"),
    "a word to find": ("items", "choose({find: 'wait'})"),
    "a view of the reader": ("reader", "choose({view: 'head mean'})"),
    "a token": ("reader", "document.querySelectorAll('#reader .answer .t')[300].click()"),
    "sentences": ("reader", "choose({mode: 'sentences'})"),
    "lines": ("reader", "choose({mode: 'lines'})"),
    "a pair of lines": ("reader", "choose({line: '80.40'})"),
    "a model": ("accuracy", "choose({model: 'model_1'})"),
}
ACT = """async ([id, act]) => {
  const from = performance.now();
  const painted = () => new Promise(done => requestAnimationFrame(() => setTimeout(done)));
  const shown = new Promise(done => {
    const changes = {childList: true, subtree: true, attributes: true};
    new MutationObserver(() => painted().then(() => done(performance.now() - from)))
      .observe(document.getElementById(id), changes);
  });
  await eval(act);
  await painted();
  const all = performance.now() - from;
  return [await Promise.race([shown, painted().then(() => all)]), all].map(time => time / 1000);
}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="toy sizes, to see that every path runs")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        inputs = large_study(Path(folder), **(TOY if options.quick else {}))
        data = report_data(inputs)
        whole, page = (build_page(data, limit) for limit in (float("inf"), inputs.params.megabytes))
        place = Path(folder, "index.html")
        place.write_text(page, encoding="utf-8")
        print(f"{len(page) / MEGABYTE:.1f} MB, {len(whole) / MEGABYTE:.1f} with all\n")
        with sync_playwright() as running:
            browser = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            print(table(times(browser, place.as_uri())))
            browser.close()


def times(browser: Browser, address: str) -> Rows:
    """Medians: seconds until a choice shows where it was made, until all that depends on it is drawn, and CPU seconds
    of the page's thread."""
    found: dict[str, list[tuple[float, ...]]] = {name: [] for name in ("opening", *CHOICES)}
    for _ in range(ROUNDS):
        view = browser.new_page(viewport={"width": 1200, "height": 900})
        session = view.context.new_cdp_session(view)
        session.send("Performance.enable", {"timeDomain": "threadTicks"})
        opening = seconds("cpu", lambda view=view: opened(view, address))
        found["opening"].append((opening, opening, busy(session)))
        for name, (figure, act) in CHOICES.items():
            view.evaluate("id => document.getElementById(id).scrollIntoView()", figure)
            view.wait_for_timeout(300)
            before = busy(session)
            wall = view.evaluate(ACT, [figure, act])
            view.wait_for_timeout(300)
            found[name].append((*wall, busy(session) - before))
        view.close()
    columns = ("s until it shows", "s until all is drawn", "CPU s")
    rows: list[dict[str, Any]] = []
    for name, measured in found.items():
        medians = map(statistics.median, zip(*measured, strict=True))
        rows.append({"what": name, **dict(zip(columns, medians, strict=True))})
    return rows


def opened(view: Page, address: str) -> None:
    view.goto(address)
    view.wait_for_selector("html[data-ready]")


def busy(session: CDPSession) -> float:
    """CPU seconds that the page's main thread has worked."""
    metrics = {each["name"]: each["value"] for each in session.send("Performance.getMetrics")["metrics"]}
    return metrics["TaskDuration"]


if __name__ == "__main__":
    main()
