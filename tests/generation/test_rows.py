"""Existing texts as generations: forms a text may come in, what becomes of them, and the published ones to accuracy."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken

from r2a_core.config import EvaluateParams, FileDataset, Tags, TextsModel
from r2a_core.data.imported_texts import ImportedText, load_traces
from r2a_core.data.items import Item
from r2a_core.evaluation.funnel import Evaluation, evaluate
from r2a_core.generation.rows import generation_row, split_imported
from r2a_core.generation.stage import GenerationJob, finish_shard, plan_shards, read_shards
from r2a_core.infra.errors import R2AError
from r2a_core.infra.shards import open_store
from r2a_core.models.pointer import read_pointer
from r2a_core.models.prepare import prepare
from r2a_core.models.tokenizers import resolve_tags
from r2a_core.tokenizer import LoadedTokenizer
from r2a_core.trace import GENERATION_SCHEMA, classify, has_boxed, select_traces
from tests.small_models import GREEDY, byte_tokenizer

BOS, EOS = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"
ITEM = Item("q", "What is 2+3?", "5", "math")
ASKED = f"{BOS}What is 2+3? Box it. <think>\n"
BOX = "\\boxed{5}"
PARAMS = GREEDY.model_copy(update={"max_new_tokens": 1, "retry": True, "batch_size": 1, "shard_items": 1})
SOURCE = FileDataset(kind="traces", instruction="", file="f")
# name, setting, text, finish -> prompt, response (null: not checked), status
CASES = json.loads(Path(__file__).with_name("imported_texts.json").read_text(encoding="utf-8"))
CASES.append(
    ["90,000 characters", "with_reasoning", f"{ASKED}{'so ' * 30_000}</think>{BOX}{EOS}", None, ASKED, None, "ok"]
)


def row_of(
    tokenizer: LoadedTokenizer,
    item: Item,
    content: str,
    finish: str | None,
    setting: Any,
    asks: str = " Box it.",
) -> dict[str, Any]:
    split = split_imported(tokenizer, item, ImportedText(content, finish), setting, asks, "finished")
    return dict(generation_row(tokenizer, item, 0, split.prompt, split.response, None, has_boxed))


def evaluated(items: list[Item], frames: dict[str, pl.DataFrame], model: str) -> Evaluation:
    params = EvaluateParams(timeout_seconds=10.0, bootstrap_draws=100, seed=0)
    return evaluate(items, frames, 1, params, model=model, dataset="r1", decoding="imported")


def check_row(tokenizer: LoadedTokenizer, row: dict[str, Any]) -> None:
    """What holds for every row, whatever its text: its tags and bounds are those of its tokens."""
    ids = [*row["prompt_ids"], *row["response_ids"]]
    assert ids.count(tokenizer.ids.think_open) == 1
    assert ids[row["think_open"]] == tokenizer.ids.think_open
    if row["status"] in ("ok", "no_answer"):
        assert [place for place, token in enumerate(ids) if token == tokenizer.ids.think_close] == [row["think_close"]]
        assert row["answer_start"] == row["think_close"] + 1
        assert row["answer_end"] == len(ids) - 1
        assert ids[-1] == tokenizer.ids.eos
    else:
        assert (row["think_close"], row["answer_start"], row["answer_end"]) == (None, None, None)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]}, {case[1]}")
def test_a_text_is_cut_into_prompt_and_response(byte_text: LoadedTokenizer, case: list[Any]) -> None:
    _, setting, content, finish, prompt, response, status = case
    row = row_of(byte_text, ITEM, content, finish, setting)
    assert row["status"] == status
    assert row["prompt"] == (prompt or row["prompt"])
    assert row["response"] == (response or row["response"])
    check_row(byte_text, row)


def test_every_text_is_counted_once(byte_text: LoadedTokenizer) -> None:
    frames, statuses = {}, {}
    for setting in ("with_reasoning", "without_reasoning"):
        cases = [case for case in CASES if case[1] == setting]
        rows = [row_of(byte_text, replace(ITEM, item_id=case[0]), case[2], case[3], setting) for case in cases]
        frames[setting] = pl.DataFrame(rows, schema=GENERATION_SCHEMA)
        statuses[setting] = {case[0]: case[-1] for case in cases}
    items = [replace(ITEM, item_id=name) for name in dict.fromkeys(case[0] for case in CASES)]
    found = evaluated(items, frames, "m")
    names, marks = statuses["with_reasoning"], list(statuses["with_reasoning"].values())
    assert found.summary["funnel"]["with_reasoning"]["once"] == {
        "all": len(marks),
        "finished": len(marks) - marks.count("unfinished"),
        "think_format": marks.count("ok") + marks.count("no_answer"),
        "answer_format": marks.count("ok"),
        "common": 2,  # "a whole trace" and "a response alone"
    }
    assert found.frame.height == len(CASES)
    scored = found.frame.filter(pl.col("score").is_not_null())
    assert (scored["status"].unique().to_list(), scored["score"].unique().to_list()) == (["ok"], [1.0])
    ok = [name for name, status in names.items() if status == "ok"]
    assert [trace.item_id for trace in select_traces(frames["with_reasoning"])] == ok


@pytest.mark.parametrize(
    "question", ["<think>", "</think>", f"a {BOS}{EOS}", "a </think> b <think> c", "<think>\n</think>"]
)
@pytest.mark.parametrize("whole", [True, False])
def test_tags_inside_the_question_are_words(byte_text: LoadedTokenizer, question: str, whole: bool) -> None:
    asked = f"{BOS}{question} <think>\n" if whole else ""
    row = row_of(
        byte_text, replace(ITEM, question=question), f"{asked}Hm.</think>{BOX}{EOS}", None, "with_reasoning", ""
    )
    assert row["status"] == "ok"
    assert question in row["prompt"]
    check_row(byte_text, row)


def test_a_prompt_without_its_tag_is_an_error(refused, byte_text: LoadedTokenizer) -> None:
    says = "the prompt holds no <think>"
    refused(lambda: classify([1, 2], [3, byte_text.ids.eos], byte_text.ids, bool), says, "think_open")


def test_other_tags_fit_by_params(tmp_path: Path) -> None:
    tags = Tags(bos=None, eos="<|im_end|>", think_open="[THINK]", think_close="[/THINK]")
    prepare(TextsModel(kind="texts", tags=tags), tmp_path / "m")
    tokenizer = GenerationJob(tmp_path / "m", "cpu", "m", "with_reasoning", SOURCE, PARAMS).tokenizer
    row = row_of(tokenizer, ITEM, f"What is 2+3? [THINK]a[/THINK]{BOX}<|im_end|>", None, "with_reasoning", "")
    assert (row["status"], row["prompt"]) == ("ok", "What is 2+3? [THINK]")
    assert row["think_open"] == len(row["prompt_ids"]) - 1
    check_row(tokenizer, row)


TEXTS_OF = {"r1_llama_8b": "r1-llama-8b", "r1_qwen_7b": "r1-qwen-7b", "r1_qwen_1b5": "r1-qwen-1.5b"}
# Questions with a text in each setting, and right answers with and without reasoning.
PUBLISHED = {"r1_llama_8b": (48, 43, 16), "r1_qwen_7b": (47, 44, 29), "r1_qwen_1b5": (43, 42, 29)}


def imported(job: GenerationJob, items: list[Item], root: Path) -> pl.DataFrame:
    with open_store(root, "generate", f"{job.model_name}-{job.setting}") as store:
        planned = plan_shards(job, items, {})
        return read_shards([path for shard in planned for path in finish_shard(job, store, shard)])


@pytest.mark.parametrize("model", TEXTS_OF)
def test_published_texts_from_file_to_accuracy(reference: Path, tmp_path: Path, model: str) -> None:
    file = reference / "math500_greedy_traces.parquet"
    source = FileDataset(kind="traces", instruction="", file=file.name, texts_of=TEXTS_OF)
    loaded = load_traces(file, TEXTS_OF)
    assert (len(loaded.items), loaded.rejected) == (108, [])
    prepare(TextsModel(kind="texts"), tmp_path / "m")
    assert read_pointer(tmp_path / "m").kind == "texts"
    frames = {}
    originals = pl.read_parquet(file).filter(model=TEXTS_OF[model])
    n, right_with, right_without = PUBLISHED[model]
    for setting in ("with_reasoning", "without_reasoning"):
        job = GenerationJob(tmp_path / "m", "cpu", model, setting, source, PARAMS)
        frames[setting] = rows = imported(job, loaded.items, tmp_path / "work")
        texts = dict(originals.filter(setting=setting).select("unique_id", "response").iter_rows())
        assert rows.height == n
        for row in rows.iter_rows(named=True):
            assert row["prompt"] + row["response"] == texts[row["item_id"]]  # not a byte is lost
            tokens = [*row["prompt_ids"], *row["response_ids"]]
            answer = job.tokenizer.hf.decode(tokens[row["answer_start"] : row["answer_end"]])
            assert answer == texts[row["item_id"]].partition("</think>")[2].removesuffix(EOS)
            assert row["prompt"].endswith("<think>\n" if setting == "with_reasoning" else "</think>")
    summary = evaluated(loaded.items, frames, model).summary
    counts = dict.fromkeys(("all", "finished", "think_format", "answer_format", "common"), n)
    for setting in frames:
        assert summary["funnel"][setting] == {"once": counts, "twice": counts}
    assert summary["paired"]["n"] == n
    assert summary["paired"]["accuracy_with"] == pytest.approx(right_with / n)
    assert summary["paired"]["accuracy_without"] == pytest.approx(right_without / n)


def test_missing_texts_and_missing_ends_are_reported(byte_text, tmp_path, caplog) -> None:
    item = replace(ITEM, extra='{"texts": {"r1-a": {"with_reasoning": {"content": "x</think>y"}}}}')
    cases = (("tiny", [], ("'tiny'", "r1-a")), ("r1-a", ["unfinished"], ("none of the 1 texts", "column finish")))
    for name, statuses, said in cases:
        job = GenerationJob(tmp_path, "cpu", name, "with_reasoning", SOURCE, PARAMS)
        job.__dict__["tokenizer"] = byte_text
        caplog.clear()
        assert imported(job, [item], tmp_path)["status"].to_list() == statuses
        assert all(words in caplog.text for words in said)


PARTS = st.sampled_from([BOS, EOS, "<think>", "</think>", "<", "</", "<｜", "▁of▁", "｜>", "\n", " ", "Otter", "12"])
ANY_TEXT = st.lists(PARTS | st.text(max_size=4), max_size=8).map("".join)


@settings(derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(question=ANY_TEXT.filter(str.strip), content=ANY_TEXT, reasoning=st.booleans(), stop=st.booleans())
def test_an_imported_text_is_what_the_tokenizer_makes_of_it_behind_one_bos(
    byte_text: LoadedTokenizer, question: str, content: str, reasoning: bool, stop: bool
) -> None:
    setting = "with_reasoning" if reasoning else "without_reasoning"
    item, finish = replace(ITEM, question=question), "stop" if stop else None
    try:
        split = split_imported(byte_text, item, ImportedText(content, finish), setting, "", "finished")
    except R2AError:  # refused, as the cases above are
        return
    row = generation_row(byte_text, item, 0, split.prompt, split.response, None, has_boxed)
    ids = [*split.prompt, *split.response]
    assert ids[0] == byte_text.ids.bos
    assert split.response == byte_text.hf.encode(byte_text.hf.decode(split.response), add_special_tokens=False)
    assert ids[row["think_open"]] == byte_text.ids.think_open  # type: ignore[index]
    assert (row["status"] == "unfinished") == (not split.response or split.response[-1] != byte_text.ids.eos)
    if stop:
        assert row["status"] != "unfinished"


# A tokenizer with role marks, tool tags and padding; what does not change a text: name, problem, text.
MARKED = ("<｜User｜>", "<｜Assistant｜>", "<|im_start|>", "<|im_end|>", "<tool_call>", "</tool_call>", "<pad>")
OPENED = json.loads(Path(__file__).with_name("full_texts.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def marked() -> LoadedTokenizer:
    hf, tags = byte_tokenizer(), Tags()
    hf.add_tokens([AddedToken(name, normalized=False, special=True) for name in MARKED])
    hf.pad_token = "<pad>"
    return LoadedTokenizer(hf, tags, resolve_tags(hf, tags))


@pytest.mark.parametrize("case", OPENED, ids=lambda case: case[0])
def test_a_full_text_is_cut_at_its_own_tag_or_refused(marked: LoadedTokenizer, case: list[Any]) -> None:
    """The prompt and response are the tokens that the tokenizer itself makes; None as prompt: refused."""
    _, setting, question, content, prompt, response, status = case
    item = replace(ITEM, question=question)
    if prompt is None:
        with pytest.raises(R2AError, match=response):
            split_imported(marked, item, ImportedText(content), setting, " Box it.", "finished")
        return
    split = split_imported(marked, item, ImportedText(content), setting, " Box it.", "finished")
    assert [marked.hf.decode(ids) for ids in (split.prompt, split.response)] == [prompt, response]
    ids = [*split.prompt, *split.response]
    assert ids == marked.hf.encode(prompt + response, add_special_tokens=False)
    row = generation_row(marked, item, 0, split.prompt, split.response, None, has_boxed)
    assert row["status"] == status
    assert ids[row["think_open"]] == marked.ids.think_open  # type: ignore[index]
    assert row["think_open"] in range(len(split.prompt) - 2, len(split.prompt)) or setting == "without_reasoning"


def test_texts_that_lack_their_tag_or_think_unasked_are_counted(byte_text, tmp_path, caplog) -> None:
    texts: dict[Any, str] = {
        "with_reasoning": "Hm.</think>5",
        "without_reasoning": f"<think>\nOkay, it is 2.\n</think>{BOX}",
    }
    said = {"with_reasoning": "1 of 1 texts of 'm' lack <think>", "without_reasoning": "1 of 1 texts of 'm' without"}
    for setting, content in texts.items():
        extra = json.dumps({"texts": {"m": {setting: {"content": content + EOS}}}})
        other = json.dumps({"texts": {"m": {setting: {"content": f"{BOS}1+1? <think>\nHm.</think>2{EOS}"}}}})
        job = GenerationJob(tmp_path, "cpu", "m", setting, SOURCE, PARAMS)
        job.__dict__["tokenizer"] = byte_text
        caplog.set_level("INFO")
        items = [replace(ITEM, extra=extra), replace(ITEM, item_id="r", extra=other)]
        assert imported(job, items, tmp_path / setting)["item_id"].to_list() == ["q"]
        assert said[setting] in caplog.text
        assert "m, " + setting + ", 'r' left out: what stands before its <think> is not the question" in caplog.text


@pytest.mark.parametrize(
    ("setting", "prompt"), [("with_reasoning", ASKED), ("without_reasoning", f"{ASKED}Hm.\n</think>")]
)
def test_reasoning_kept_apart_stands_between_the_tags(byte_text: LoadedTokenizer, setting: Any, prompt: str) -> None:
    split = split_imported(byte_text, ITEM, ImportedText(BOX, "stop", "\nHm.\n"), setting, " Box it.", "finished")
    whole = f"{ASKED}Hm.\n</think>{BOX}{EOS}"
    assert byte_text.hf.decode([*split.prompt, *split.response]) == whole
    assert byte_text.hf.decode(split.prompt) == prompt
    assert (split.opened, split.thought) == (True, setting == "without_reasoning")
