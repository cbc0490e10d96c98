"""Size, opening and reaction of the report page of a made-up study: three models of 28 x 28 heads, 500 items, eight
traces of 10,000 tokens each.

usage: python -m benchmarks.page [--quick]     prints a table; a minute, and 4 GB of disk while it runs
"""

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

from benchmarks.measuring import seconds, table
from r2a_core.report.page import MEGABYTE, build_page, report_data
from tests.report.large import large_study
from tests.report.test_browser import CHROMIUM

CHANGES = {  # what a click chooses
    "head": {"head": "L20.H1"},
    "segment": {"target": "query"},
    "item": {"item": "item/03.json"},
    "search": {"find": "wait"},
    "view of the reader": {"view": "head mean"},
    "sentences": {"mode": "sentences"},
    "model": {"model": "model_1"},
}
PAINTED = "await new Promise(done => requestAnimationFrame(() => setTimeout(done))); return performance.now() - from;"
CHOOSE = f"async (changes) => {{ const from = performance.now(); await choose(changes); {PAINTED} }}"
HOLD = (
    "async (at) => { const from = performance.now(); "
    f"document.querySelectorAll('#reader .answer .t')[at].click(); {PAINTED} }}"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="toy sizes, to see that every path runs")
    options = parser.parse_args()
    sizes: dict[str, Any] = {"n_models": 2, "shape": (21, 4), "n_items": 5, "n_traces": 2, "n_tokens": 1000}
    with tempfile.TemporaryDirectory() as folder:
        inputs = large_study(Path(folder), **(sizes if options.quick else {}))
        found: dict[str, Any] = {}
        found["s to collect the data"] = seconds("cpu", lambda: found.update(data=report_data(inputs)))
        data = found.pop("data")
        limit = inputs.params.megabytes
        found["MB, all"] = len(build_page(data, float("inf"))) / MEGABYTE
        page = build_page(data, limit)
        found["MB"] = len(page) / MEGABYTE
        place = Path(folder, "index.html")
        place.write_text(page, encoding="utf-8")
        found |= times(place.as_uri())
    print(table([{"what": name, "found": value} for name, value in found.items()]))


def times(address: str) -> dict[str, float]:
    """Seconds until every figure is drawn, and after each choice until all that depends on it is; medians of five."""
    found: dict[str, list[float]] = {}
    with sync_playwright() as running:
        browser = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for turn in range(5):
            view = browser.new_page(viewport={"width": 1200, "height": 900})
            found.setdefault("s to open", []).append(seconds("cpu", lambda view=view: opened(view, address)))
            for at in (100 + turn, 300 + turn):
                found.setdefault("s to hold a token", []).append(view.evaluate(HOLD, at) / 1000)
            for name, changes in CHANGES.items():
                found.setdefault(f"s to choose: {name}", []).append(view.evaluate(CHOOSE, changes) / 1000)
            view.close()
        browser.close()
    return {name: statistics.median(values) for name, values in found.items()}


def opened(view: Page, address: str) -> None:
    view.goto(address)
    view.wait_for_selector("html[data-ready]")


if __name__ == "__main__":
    main()
