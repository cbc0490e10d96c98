"""Which responses are captured."""

import polars as pl

from r2a_core.trace import TokenTrace, TraceSegments, select_traces


def generations(*rows: tuple[str, int, str]) -> pl.DataFrame:
    """Rows of item, run and status; run r has a response of r + 3 tokens."""
    return pl.DataFrame(
        [
            {
                "item_id": item,
                "run": run,
                "status": status,
                "prompt_ids": [0, 5, 1],
                "response_ids": [7] * run + [2, 8, 3],
                "think_open": 2,
                "think_close": 3 + run if status == "ok" else None,
            }
            for item, run, status in rows
        ]
    )


def test_the_first_well_formed_response_of_each_item_in_item_order():
    frame = generations(
        ("b", 0, "unfinished"), ("a", 0, "ok"), ("c", 0, "bad_think"), ("a", 1, "ok"), ("b", 2, "ok"), ("b", 1, "ok")
    )
    assert select_traces(frame) == [
        TokenTrace("b", (0, 5, 1, 7, 2, 8, 3), TraceSegments(2, 4, 7)),
        TokenTrace("a", (0, 5, 1, 2, 8, 3), TraceSegments(2, 3, 6)),
    ]


def test_no_well_formed_response():
    assert select_traces(generations(("a", 0, "no_answer"))) == []
