"""Shards: what changes their fingerprints and what does not, retries, and runs that were stopped."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from r2a_core.config import BuiltinDataset, Tags
from r2a_core.data.items import Item
from r2a_core.generation import stage
from r2a_core.generation.decode import GenerationRequest
from r2a_core.generation.stage import GenerationJob, finish_shard, plan_shards, read_shards
from r2a_core.infra.shards import open_store
from r2a_core.models.load import LoadedModel
from r2a_core.models.pointer import ModelPointer
from tests.small_models import GREEDY as BASE_PARAMS

ITEMS = [Item(f"q{number}", f"{number * 37 % 11} {'and ' * (number % 3)}?", None, "open") for number in range(7)]
SOURCE = BuiltinDataset(kind="arithmetic", instruction=" Answer.", n=7, seed=0)
PARAMS = BASE_PARAMS.model_copy(update={"temperature": 0.6, "shard_items": 3})
BASE = {"code": "c", "model": "m"}


@pytest.fixture
def job(model_folder: Callable[..., Path], loaded: LoadedModel) -> Callable[..., GenerationJob]:
    def make(source: BuiltinDataset = SOURCE, setting: Any = "without_reasoning", **params: Any) -> GenerationJob:
        made = GenerationJob(model_folder(), "cpu", "random", setting, source, PARAMS.model_copy(update=params))
        made.__dict__["loaded"] = loaded
        return made

    return make


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[list[tuple[str, int]]]:
    """(item, run) of the requests of each call of the generator."""
    calls: list[list[tuple[str, int]]] = []
    real = stage.generate

    def counted(loaded: LoadedModel, requests: Sequence[GenerationRequest], *args: Any) -> Any:
        calls.append([(request.item_id, request.run) for request in requests])
        return real(loaded, requests, *args)

    monkeypatch.setattr(stage, "generate", counted)
    return calls


def run(made: GenerationJob, root: Path, items: Sequence[Item] = ITEMS) -> pl.DataFrame:
    """What the generate stage does."""
    with open_store(root, "generate", "x") as store:
        planned = plan_shards(made, items, BASE)
        return read_shards([path for shard in planned for path in finish_shard(made, store, shard)])


def prints(made: GenerationJob, items: Sequence[Item] = ITEMS, base: dict[str, str] = BASE) -> list[str]:
    return [shard.fingerprint for shard in plan_shards(made, items, base)]


def test_more_questions_runs_or_a_retry_leave_the_full_shards(job) -> None:
    few, many = prints(job(), ITEMS[:5]), prints(job())
    assert [len(few), len(many)] == [2, 3]
    assert few[0] == many[0]
    assert few[1] != many[1]
    assert prints(job(runs=3))[:3] == many
    assert len(set(prints(job(runs=3)))) == 9
    for change in ({"batch_size": 1}, {"limit": 7}, {"retry": True}):
        assert prints(job(**change)) == many
    with_ = {"setting": "with_reasoning"}  # where nothing closes the thinking
    assert prints(job(**with_, without_mode="empty")) == prints(job(**with_))


@pytest.mark.parametrize(
    "change",
    [{"temperature": 0.7}, {"max_new_tokens": 21}, {"seed": 1}, {"without_mode": "empty"}, {"tie_margin": 0.0}],
)
def test_what_changes_rows_changes_every_fingerprint(job, change) -> None:
    assert not set(prints(job(**change))) & set(prints(job()))


def test_question_kind_instruction_code_and_model_count(job) -> None:
    first = prints(job())
    other = [replace(ITEMS[0], question="Another?"), *ITEMS[1:]]
    assert prints(job(), other)[0] != first[0]
    assert prints(job(), other)[1:] == first[1:]
    assert prints(job(), [replace(ITEMS[0], kind="math"), *ITEMS[1:]])[0] != first[0]
    for changed in (
        prints(job(SOURCE.model_copy(update={"instruction": ""}))),
        prints(job(), base=BASE | {"code": "d"}),
        prints(job(), base=BASE | {"model": "n"}),
    ):
        assert not set(changed) & set(first)


def test_a_retry_asks_again_only_what_failed(job, asked, tmp_path) -> None:
    first = run(job(), tmp_path)
    failed = first.filter(pl.col("status") != "ok")["item_id"].to_list()
    assert 0 < len(failed) < 7
    asked.clear()
    both = run(job(retry=True), tmp_path)
    assert [pair for call in asked for pair in call] == [(item, 1) for item in failed]  # the first attempts are kept
    assert both.filter(run=0).equals(first)
    again = both.filter(run=1)
    assert again["item_id"].to_list() == failed
    firsts = dict(first.select("item_id", "response").iter_rows())
    assert all(firsts[item] != response for item, response in again.select("item_id", "response").iter_rows())


def test_with_several_runs_a_retry_has_a_number_of_its_own(job, tmp_path) -> None:
    rows = run(job(runs=2, retry=True), tmp_path)
    for number in (0, 1):
        failed = rows.filter((pl.col("run") == number) & (pl.col("status") != "ok"))["item_id"].to_list()
        assert rows.filter(run=2 + number)["item_id"].to_list() == failed


def test_limit_and_shard_size_change_no_text(job, tmp_path) -> None:
    whole = run(job(), tmp_path / "a")
    assert run(job(limit=4), tmp_path / "b", ITEMS[:4]).equals(whole.head(4))
    assert run(job(shard_items=50, batch_size=7), tmp_path / "c").equals(whole)


def test_a_row_says_all_about_its_response(job, loaded, tmp_path) -> None:
    rows = run(job(), tmp_path)
    assert rows["item_id"].to_list() == [item.item_id for item in ITEMS]
    for row in rows.iter_rows(named=True):
        tokens = [*row["prompt_ids"], *row["response_ids"]]
        assert row["prompt"].endswith("? Answer. <think>\nOkay, I think I have finished thinking.\n</think>")
        assert loaded.tokenizer.hf.decode(row["response_ids"]) == row["response"]
        assert tokens[row["think_open"]] == loaded.ids.think_open
        assert row["finish"] == ("stop" if tokens[-1] == loaded.ids.eos else "length")
        assert (row["finish"] == "length") is (row["status"] == "unfinished")
        if row["status"] == "ok":
            assert tokens[row["think_close"]] == loaded.ids.think_close
            assert (row["answer_start"], row["answer_end"]) == (row["think_close"] + 1, len(tokens) - 1)


def test_a_model_without_weights_has_no_responses_to_give(tmp_path, caplog) -> None:
    ModelPointer("texts", None, Tags()).write(tmp_path)
    made = GenerationJob(tmp_path, "cpu", "r1_texts", "with_reasoning", SOURCE, PARAMS)
    rows = run(made, tmp_path / "work")
    assert rows.is_empty()
    assert rows.schema["response_ids"] == pl.List(pl.Int32)
    assert "r1_texts has no weights" in caplog.text
