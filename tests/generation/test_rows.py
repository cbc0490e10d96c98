"""Existing texts as generations: forms a text may come in, and the published ones from file to accuracy."""

from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from r2a_core.config import EvaluateParams, FileDataset, Tags, TextsModel
from r2a_core.data.imported_texts import ImportedText, load_traces
from r2a_core.data.items import Item
from r2a_core.evaluation.funnel import evaluate
from r2a_core.generation.rows import generation_row, split_imported
from r2a_core.generation.stage import GenerationJob, finish_shard, plan_shards, read_shards
from r2a_core.infra.shards import open_store
from r2a_core.models.pointer import read_pointer
from r2a_core.models.prepare import prepare
from r2a_core.tokenizer import LoadedTokenizer
from r2a_core.trace import has_boxed
from tests.small_models import GREEDY as BASE_PARAMS

BOS, EOS = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"
ITEM = Item("q", "What is 2+3?", "5", "math")
ASKED = f"{BOS}What is 2+3? Box it. <think>\n"
CLOSED = "Okay, I think I have finished thinking.\n</think>"
REASONED = "Hm, What is 2+3? It is 5.\n</think>\n\nIt is \\boxed{5}."
BOX = "\\boxed{5}"
TWICE, MIDDLE = f"a</think>b</think>{BOX}{EOS}", f"a{EOS}b</think>{BOX}{EOS}"
OTHER = f"{BOS}User: What is 2+3? Assistant:<think>"
CASES = {  # setting, text, finish -> prompt, response, status
    "full": ("with", f"{ASKED}{REASONED}{EOS}", None, ASKED, REASONED + EOS, "ok"),
    "full, closed": ("without", f"{ASKED}{CLOSED} {BOX}{EOS}", None, ASKED + CLOSED, f" {BOX}{EOS}", "ok"),
    "another prompt": ("with", f"{OTHER}{REASONED}{EOS}", None, OTHER, REASONED + EOS, "ok"),
    "no BOS": ("with", f"{ASKED.removeprefix(BOS)}{REASONED}{EOS}", None, ASKED, REASONED + EOS, "ok"),
    "response alone": ("with", REASONED + EOS, None, ASKED, REASONED + EOS, "ok"),
    "response alone with its tag": ("with", f"<think>\n{REASONED}{EOS}", None, ASKED, REASONED + EOS, "ok"),
    "response alone, tag and no line": ("with", f"<think>{REASONED}{EOS}", None, ASKED[:-1], REASONED + EOS, "ok"),
    "answer alone": ("without", f"\n\n{BOX}{EOS}", None, ASKED + CLOSED, f"\n\n{BOX}{EOS}", "ok"),
    "empty thoughts": ("without", f"<think>\n\n</think>{BOX}{EOS}", None, f"{ASKED}\n</think>", BOX + EOS, "ok"),
    "line after the end": ("with", f"{ASKED}{REASONED}{EOS}\n", None, ASKED, REASONED + EOS, "ok"),
    "end cut off": ("with", REASONED, None, ASKED, REASONED, "unfinished"),
    "end cut off, but said": ("with", REASONED, "stop", ASKED, REASONED + EOS, "ok"),
    "ended by length": ("with", REASONED, "length", ASKED, REASONED, "unfinished"),
    "end both there and said": ("with", REASONED + EOS, "stop", ASKED, REASONED + EOS, "ok"),
    "end in the middle": ("with", MIDDLE, None, ASKED, MIDDLE, "ok"),
    "closed twice": ("with", f"{ASKED}{TWICE}", None, ASKED, TWICE, "bad_think"),
    "never closed": ("with", f"{ASKED}a {BOX}{EOS}", None, ASKED, f"a {BOX}{EOS}", "bad_think"),
    "no box": ("with", f"{ASKED}{BOX}</think>5{EOS}", None, ASKED, f"{BOX}</think>5{EOS}", "no_answer"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_text_is_cut_into_prompt_and_response(tokenizer: LoadedTokenizer, case: str) -> None:
    setting, content, finish, prompt, response, status = CASES[case]
    found = ImportedText(content, finish)
    split = split_imported(tokenizer, ITEM, found, f"{setting}_reasoning", " Box it.", "finished")  # type: ignore[arg-type]
    row = generation_row(tokenizer, ITEM, 0, split.prompt, split.response, None, has_boxed)
    assert (row["prompt"], row["response"], row["status"]) == (prompt, response, status)


def test_a_question_that_holds_tags_is_text(tokenizer: LoadedTokenizer) -> None:
    item = Item("q", "What does <think>a</think> mean?", "5", "math")
    content = f"{BOS}{item.question} <think>\nb</think>c{EOS}"
    split = split_imported(tokenizer, item, ImportedText(content), "with_reasoning", "", "finished")
    row = generation_row(tokenizer, item, 0, split.prompt, split.response, None, bool)
    assert (row["status"], row["response"]) == ("ok", f"b</think>c{EOS}")
    assert [*split.prompt, *split.response].count(tokenizer.ids.think_close) == 1


def test_other_tags_fit_by_params(tmp_path: Path) -> None:
    tags = Tags(bos=None, eos="<|im_end|>", think_open="[THINK]", think_close="[/THINK]")
    prepare(TextsModel(kind="texts", tags=tags), tmp_path / "m")
    job = GenerationJob(
        "m", tmp_path / "m", "with_reasoning", FileDataset(kind="traces", instruction="", file="f"), PARAMS, "cpu"
    )
    found = ImportedText("What is 2+3? [THINK]a[/THINK]\\boxed{5}<|im_end|>")
    split = split_imported(job.tokenizer, ITEM, found, "with_reasoning", "", "finished")
    row = generation_row(job.tokenizer, ITEM, 0, split.prompt, split.response, None, has_boxed)
    assert (row["status"], row["prompt"]) == ("ok", "What is 2+3? [THINK]")
    assert row["think_open"] == len(split.prompt) - 1


PARAMS = BASE_PARAMS.model_copy(
    update={"max_new_tokens": 1, "retry": True, "batch_size": 1, "tie_margin": 0.0, "shard_items": 1}
)
TEXTS_OF = {"r1_llama_8b": "r1-llama-8b", "r1_qwen_7b": "r1-qwen-7b", "r1_qwen_1b5": "r1-qwen-1.5b"}
# Questions with a text in each setting, and right answers with and without reasoning.
QUESTIONS = 108
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
    assert (len(loaded.items), loaded.rejected) == (QUESTIONS, [])
    prepare(TextsModel(kind="texts"), tmp_path / "m")
    assert read_pointer(tmp_path / "m").kind == "texts"
    frames = {}
    originals = pl.read_parquet(file).filter(model=TEXTS_OF[model])
    n, right_with, right_without = PUBLISHED[model]
    for setting in ("with_reasoning", "without_reasoning"):
        job = GenerationJob(model, tmp_path / "m", setting, source, PARAMS, "cpu")
        frames[setting] = rows = imported(job, loaded.items, tmp_path / "work")
        texts = dict(originals.filter(setting=setting).select("unique_id", "response").iter_rows())
        assert rows.height == n
        for row in rows.iter_rows(named=True):
            assert row["prompt"] + row["response"] == texts[row["item_id"]]  # not a byte is lost
            tokens = [*row["prompt_ids"], *row["response_ids"]]
            answer = job.tokenizer.hf.decode(tokens[row["answer_start"] : row["answer_end"]])
            assert answer == texts[row["item_id"]].partition("</think>")[2].removesuffix(EOS)
            assert row["prompt"].endswith("<think>\n" if setting == "with_reasoning" else "</think>")
    summary = evaluate(
        loaded.items,
        frames,
        1,
        EvaluateParams(timeout_seconds=10.0, bootstrap_draws=100, seed=0),
        model=model,
        dataset="r1",
        decoding="imported",
    ).summary
    counts = dict.fromkeys(("all", "finished", "think_format", "answer_format", "common"), n)
    for setting in frames:
        assert summary["funnel"][setting] == {"once": counts, "twice": counts}
    assert summary["paired"]["n"] == n
    assert summary["paired"]["accuracy_with"] == pytest.approx(right_with / n)
    assert summary["paired"]["accuracy_without"] == pytest.approx(right_without / n)


def test_a_model_without_texts_in_the_file_has_no_rows_and_a_warning(tokenizer, tmp_path, caplog) -> None:
    item = Item("q", "Hm?", "5", "math", extra='{"texts": {"r1-a": {"with_reasoning": {"content": "x"}}}}')
    job = GenerationJob(
        "tiny", tmp_path, "with_reasoning", FileDataset(kind="traces", instruction="", file="f"), PARAMS, "cpu"
    )
    assert imported(job, [item], tmp_path).is_empty()
    assert "'tiny'" in caplog.text
    assert "r1-a" in caplog.text


def test_texts_that_all_lack_their_end_are_reported(tokenizer, tmp_path, caplog) -> None:
    item = Item("q", "Hm?", "5", "math", extra='{"texts": {"m": {"with_reasoning": {"content": "x</think>y"}}}}')
    job = GenerationJob(
        "m", tmp_path, "with_reasoning", FileDataset(kind="traces", instruction="", file="f"), PARAMS, "cpu"
    )
    job.__dict__["tokenizer"] = tokenizer
    assert imported(job, [item], tmp_path)["status"].to_list() == ["unfinished"]
    assert "none of the 1 texts of 'm' ends in" in caplog.text
    assert "column finish" in caplog.text


PARTS = st.sampled_from([BOS, EOS, "<think>", "</think>", "<", "</", "<｜", "▁of▁", "｜>", "\n", " ", "Otter", "12"])
ANY_TEXT = st.lists(PARTS | st.text(max_size=4), max_size=8).map("".join)


@settings(derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(question=ANY_TEXT.filter(str.strip), content=ANY_TEXT, reasoning=st.booleans(), stop=st.booleans())
def test_an_imported_text_holds_one_think_tag_and_one_bos(
    tokenizer: LoadedTokenizer, question: str, content: str, reasoning: bool, stop: bool
) -> None:
    setting = "with_reasoning" if reasoning else "without_reasoning"
    found = ImportedText(content, "stop" if stop else None)
    item = Item("q", question, "1", "math")
    split = split_imported(tokenizer, item, found, setting, "", "finished")
    ids = [*split.prompt, *split.response]
    assert ids.count(tokenizer.ids.think_open) == 1
    assert [place for place, token in enumerate(ids) if token == tokenizer.ids.bos] == [0]
    assert tokenizer.ids.eos not in ids[:-1]
    row = generation_row(tokenizer, item, 0, split.prompt, split.response, None, lambda answer: True)
    assert row["status"] in ("ok", "unfinished", "bad_think", "no_answer")
    assert (row["status"] == "unfinished") == (ids[-1] != tokenizer.ids.eos)
    if stop:
        assert row["status"] != "unfinished"
