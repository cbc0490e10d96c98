"""The stages perturb and figures_perturb on a random tiny model and responses made up here."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch

from r2a_core.data.items import Item
from r2a_core.generation.decode import Generated
from r2a_core.perturb import stage as jobs
from r2a_core.perturb import writing
from r2a_core.perturb.mistakes import mistake_arms
from r2a_core.perturb.run import shared_tokens, trace_cache
from r2a_core.perturb.summary import PERTURB_SCHEMA
from r2a_core.trace import select_traces
from tests.perturb.cases import params as perturb_params
from tests.perturb.cases import row
from tests.random_models import contents, save_answers, save_random_model
from tests.study import PARAMS, call, params_with, study_folder
from tools.data_docs import faults

ITEMS = [
    Item(f"story-{number}", f"{number} + 2?", str(number + 2), "math", extra='{"options": ["2", "3", "9"]}')
    for number in range(5)
]
PERTURB: dict[str, Any] = {
    "traces": 4,
    "levels": [0.5, 1.0],
    "answer_tokens": 4,
    "free": {"traces": 1, "mistakes": 2, "max_new_tokens": 5, "batch_size": 4},
    "shard_traces": 2,
    "bootstrap_draws": 100,
}
MADE = ("perturb", "figures", "metrics")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study whose model has answered."""
    monkeypatch.setenv("R2A_DEVICE", "cpu")
    params = params_with(
        run={"models": ["tiny"], "datasets": ["stories"]},
        models={"tiny": {"kind": "texts"}},
        datasets={"stories": PARAMS["datasets"]["arithmetic"]},
        perturb=PERTURB,
    )
    root = study_folder(tmp_path / "project", params)
    save_random_model(root / "data/models/tiny", "qwen2", 1, num_hidden_layers=2)
    save_answers(root / "data", "tiny", "stories", ITEMS)
    (root / "data/metrics").mkdir()
    return root


def test_from_traces_to_a_figure_and_again_after_a_kill(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    call(root, "perturb", "tiny", "stories")
    call(root, "figures_perturb")
    found = pl.read_parquet(root / "data/perturb/tiny/stories.parquet")
    assert list(faults(root / "data")) == []
    assert found["item_id"].unique(maintain_order=True).to_list() == [item.item_id for item in ITEMS[:4]]
    cuts = found.filter(family="cut", item_id="story-1")
    assert cuts["level"].to_list() == [0, 0.25, 0.5, 0.75, 1]
    jumps = cuts["log_prob"].exp().diff().to_list()
    assert jumps[cuts["boundary"][0]] == max(jumps[1:])
    base = cuts["log_prob"].to_list()
    rows = found.filter(item_id="story-1")
    expected = pl.when(pl.col("part") == "before").then(base[cuts["boundary"][0]]).otherwise(base[-1])
    assert rows.select((pl.col("log_prob_base") == expected).all()).item()
    other = found.filter(family="other")
    assert other["donor"].to_list() == ["story-1", "story-0", "story-1", "story-2"]  # nearest, the first of two
    assert other["planted"].to_list() == ["3", "2", "3", "4"]
    assert found["same"].null_count() == found["score"].null_count() == (~found["whole"]).sum() > 0
    assert found.filter(pl.col("planted").is_null())["family"].unique().sort().to_list() == [
        *("cut", "filler", "mistake", "number", "paraphrase"),
    ]
    assert rows.filter(family="mistake")["level"].to_list() == [0.25, 0.25, 0.75, 0.75]  # sentences with a number
    written = found.filter(pl.col("free").is_not_null())
    assert set(written["item_id"]) == {"story-0"}
    assert written.filter(family="cut")["level"].to_list() == [0, 1]
    assert written.filter(family="number")["level"].unique().to_list() == [1]
    anew = found.filter(pl.col("n_written").is_not_null())
    assert anew.height == written.height + found.filter(family="mistake").height
    whole = written.filter(family="cut", level=1)  # of which `</think>` is run, and all written but the last
    assert whole["n_written"].to_list() == [5]
    metrics = json.loads((root / "data/metrics/perturb-tiny-stories.json").read_text())
    assert [metrics["n_items"], metrics["n_noise"]] == [4, 4 - found.filter(family="cut", level=1, same=1).height]
    first = contents(root / "data", MADE)
    for place in (root / ".work", *(root / "data" / name for name in MADE)):
        shutil.rmtree(place)
    (root / "data/metrics").mkdir()
    own = jobs.save_frame

    def killed(path: Path, frame: pl.DataFrame) -> None:
        if frame["item_id"][0] != "story-0":
            raise KeyboardInterrupt
        own(path, frame)

    with monkeypatch.context() as patched:
        patched.setattr(jobs, "save_frame", killed)
        with pytest.raises(KeyboardInterrupt):
            call(root, "perturb", "tiny", "stories")
    ran: list[int] = []
    rows_of = jobs.forced_rows
    monkeypatch.setattr(
        jobs, "forced_rows", lambda job, number, *more: ran.append(number) or rows_of(job, number, *more)
    )
    call(root, "perturb", "tiny", "stories")
    assert ran == [2, 3]
    call(root, "figures_perturb")
    assert contents(root / "data", MADE) == first


def test_an_answer_that_is_cut_off_has_no_verdict() -> None:
    texts = [("\\boxed{2}", True), ("No box.", True), ("So \\boxed{11", False)]
    for answer, prefix in (("answer", ""), ("free", "free_")):
        rows = [row("story-0", "cut", 1, 0.8, 1, **{answer: text, f"{prefix}whole": whole}) for text, whole in texts]
        found = jobs.with_verdicts(pl.DataFrame(rows, schema=PERTURB_SCHEMA), ITEMS[:1], 10)
        assert found[f"{prefix}same"].to_list() == found[f"{prefix}score"].to_list() == [1, 0, None]
        assert found[answer].to_list() == [text for text, _ in texts]


@pytest.fixture
def job(root: Path) -> jobs.PerturbJob:
    generations = pl.read_parquet(root / "data/generations/tiny/stories/with_reasoning.parquet")
    items = {item.item_id: item for item in ITEMS}
    return jobs.PerturbJob(
        root / "data/models/tiny", "cpu", perturb_params(**PERTURB), select_traces(generations), items, 0.001
    )


def caches_of(job: jobs.PerturbJob, numbers: Sequence[int]) -> jobs.Caches:
    return {number: trace_cache(job.loaded.model, job.chosen[number]) for number in numbers}


def test_the_rest_is_what_the_model_writes_greedily_behind_the_sentence(job: jobs.PerturbJob) -> None:
    found = jobs.with_mistakes(job, caches_of(job, [1, 2]))
    assert [len(arms) for arms in found.values()] == [4, 4]
    for number, arms in found.items():
        reading = job.chosen[number]
        for start, arm in zip(mistake_arms(job.tokenizer, reading, [], job.params), arms, strict=True):
            ids = list(start.ids)
            with torch.no_grad():
                for _ in range(5):  # max_new_tokens, and no end before
                    ids.append(int(job.loaded.model(torch.tensor([ids])).logits[0, -1].argmax()))
            assert arm.ids == (*ids, *reading.close)
            assert (arm.part, arm.level, arm.kept) == (start.part, start.level, start.kept)
            shared = min(shared_tokens(reading, start.ids), len(start.ids) - 1)
            assert arm.n_written == len(start.ids) - shared + 4


def test_arms_of_the_same_tokens_are_run_once(job: jobs.PerturbJob, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "boundary_of", lambda log_probs: len(log_probs) - 1)  # all is before the boundary
    found = pl.DataFrame([*jobs.forced_rows(job, 1, caches_of(job, [1])[1], [])], infer_schema_length=None)
    across, before = (found.filter(family="number", part=part) for part in ("across", "before"))
    assert across["log_prob"].to_list() == before["log_prob"].to_list()
    assert across.height == before.height > 0
    assert [(across["n_run"] > 0).all(), (before["n_run"] == 0).all()] == [True, True]
    free = found.filter(pl.col("free_ids").is_not_null())
    assert not free.height  # answers are written freely to the first trace alone
    everyone = replace(job, params=perturb_params(**PERTURB | {"free": PERTURB["free"] | {"traces": None}}))
    assert [jobs.is_free(each, 3) for each in (job, everyone)] == [False, True]


def test_a_model_that_writes_what_stood_there_has_no_noise(
    job: jobs.PerturbJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, close = job.chosen[1], job.tokenizer.ids.think_close
    own = reading.trace.token_ids[: reading.trace.segments.think_close + 1]
    rests = [own[reading.first_sentences(kept).stop :] for kept in (1, 1, 3, 3)]

    def planted(loaded: Any, requests: Any, config: Any) -> list[Generated]:
        assert close in loaded.ids.ends
        assert config.temperature == 0
        return [Generated(one.item_id, 0, rest, "stop") for one, rest in zip(requests, rests, strict=True)]

    monkeypatch.setattr(writing, "generate", planted)
    caches = caches_of(job, [1])
    arms = jobs.with_mistakes(job, caches)[1]
    assert [arm.ids == own[:-1] for arm in arms] == [False, True, False, True]
    rows = pl.DataFrame([*jobs.forced_rows(job, 1, caches[1], arms)], infer_schema_length=None).filter(family="mistake")
    loss = (rows["log_prob_base"] - rows["log_prob"]).abs()
    assert (loss < 1e-5).to_list() == [False, True, False, True]
