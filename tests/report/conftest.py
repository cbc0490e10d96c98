"""A small study on disk, made by the core's own functions on random models: what the page is built from."""

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from r2a_core.activations.capture import capture_trace
from r2a_core.attention.head_scores import SCORES
from r2a_core.attention.heads import rank_heads
from r2a_core.attention.map_selection import choose_maps
from r2a_core.attention.maps import attention_maps
from r2a_core.attention.tables import concat_tables, tables_from_activations
from r2a_core.builtin.tokenizer import build_tokenizer
from r2a_core.config import (
    CrossingParams,
    EvaluateParams,
    HeadsParams,
    MapParams,
    ReportParams,
    Tags,
    WalkThresholds,
    parse,
)
from r2a_core.data.items import Item, QuestionPair, choice, items_frame
from r2a_core.data.pairs import pair_items
from r2a_core.evaluation.funnel import evaluate
from r2a_core.generation.rows import generation_row
from r2a_core.infra.files import json_text
from r2a_core.models.pointer import ModelPointer
from r2a_core.models.tokenizers import resolve_tags
from r2a_core.patching.metrics import AnswerMetrics, Sweep, patching_frame
from r2a_core.paths import StudyPaths
from r2a_core.prompts import prompt_ids
from r2a_core.report.inputs import ReportInputs
from r2a_core.report.page import build_page, report_data
from r2a_core.tokenizer import LoadedTokenizer, plain_ids, token_pieces
from r2a_core.trace import GENERATION_SCHEMA, SETTINGS, TraceSegments, has_boxed
from tests.evaluation.judged_runs import judged_run
from tests.instruments import cases as instruments
from tests.knockout.cases import cut, params
from tests.perturb import cases as changes
from tests.sentences import cases as sentences
from tests.small_models import kept, stored_reader
from tests.study import PARAMS
from tests.walks import cases as walks

PHRASES = ("wait", "alternatively")
HOSTILE = (
    "\u202e<b>x</b></script><script>document.title='broken'</script><img src=x onerror=alert(1)>\" ' & \x00 "
    "\u05e9\u05dc\u05d5\u05dd \U0001f600 =1+1\r\n"
)
N_LAYERS, N_HEADS = 4, 6
PAIR = ("Considering air, which is heavier: 5 or 6?", "5", "Considering sea, which is heavier: 5 or 6?", "6")
EVALUATE = EvaluateParams(timeout_seconds=10.0, bootstrap_draws=200, seed=0)


@cache
def tokenizer() -> LoadedTokenizer:
    built, tags = build_tokenizer(), Tags()
    return LoadedTokenizer(built, tags, resolve_tags(built, tags))


@cache
def random_model(seed: int) -> Any:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=len(tokenizer().hf),
        hidden_size=48,
        intermediate_size=48,
        num_hidden_layers=N_LAYERS,
        num_attention_heads=N_HEADS,
        num_key_value_heads=2,
        max_position_embeddings=4096,
    )
    model = Qwen2ForCausalLM._from_config(config, attn_implementation="sdpa", dtype=torch.float32).eval()
    for name, weight in model.named_parameters():
        if "norm" not in name:  # wide weights, so that attention is far from uniform
            torch.nn.init.normal_(weight, std=0.25)
    return model


def question(number: int) -> Item:
    a, b = 3 + number, 2 * number + 4
    text = PAIR[2] if number == 5 else f"Ann has {a} pears and finds {b} more. How many pears has Ann now?"
    extra = json.dumps(choice((str(a + b), "999")))
    return Item(f"item/{number:02d}.json", text + (HOSTILE if number == 1 else ""), str(a + b), "math", extra=extra)


def response(item: Item, number: int, setting: str) -> str:
    """A made-up response: right without reasoning for every second item, unfinished for the last."""
    gold = str(item.gold)
    odd = HOSTILE if number == 1 else ""
    steps = f"First we add. Wait, {number} holds.\nThe sum is {gold}. Alternatively, count one by one: {gold}.{odd}\n"
    is_right = number != 3 if setting == "with_reasoning" else number % 2 == 1
    right = gold if is_right else "999"
    answer = f"\nAnn finds more, so the sum is counted.{odd} The answer is \\boxed{{{right}}}."
    return steps + "</think>" + answer if setting == "with_reasoning" else answer


def generations(items: Sequence[Item], setting: Any, tags: Tags) -> pl.DataFrame:
    text, rows = tokenizer(), []
    for number, item in enumerate(items):
        prompt = prompt_ids(text, item.question, "", setting)
        ids: list[int] = []
        for place, part in enumerate(response(item, number, setting).split(tags.think_close)):
            ids += ([text.ids.think_close] if place else []) + plain_ids(text, part)
        if number < len(items) - 1:
            ids.append(text.ids.eos)
        rows.append(generation_row(text, item, 0, prompt, ids, 0, has_boxed))
    return pl.DataFrame(rows, schema=GENERATION_SCHEMA)


def write(frame: pl.DataFrame, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.write_parquet(path)


def write_evaluation(paths: StudyPaths, model: str, dataset: str, items: Sequence[Item]) -> dict[str, pl.DataFrame]:
    frames = {setting: generations(items, setting, Tags()) for setting in SETTINGS}
    for setting, frame in frames.items():
        write(frame, paths.generations(model, dataset, setting))
    result = evaluate(items, frames, 1, EVALUATE, model=model, dataset=dataset, decoding="temperature 0.6")
    write(result.frame, paths.evaluation(model, dataset))
    paths.summary(model, dataset).write_text(json_text(result.summary))
    return frames


def write_attention(paths: StudyPaths, model: str, dataset: str, rows: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Attention, maps, tokens, spans and links of the traces that passed; returns the attention frame."""
    capture = kept("answer_and_reasoning")
    traces, pieces = [], {}
    for row in rows.filter(pl.col("status") == "ok").iter_rows(named=True):
        ids = [*row["prompt_ids"], *row["response_ids"]]
        segments = TraceSegments(row["think_open"], row["think_close"], len(ids))
        traces.append(capture_trace(random_model(seed), ids, segments, capture).record(row["item_id"], ids))
        pieces[row["item_id"]] = token_pieces(tokenizer().hf, ids)
    folder = paths.activations(model, dataset)
    folder.mkdir(parents=True)
    reader = stored_reader(folder, traces)
    frames = concat_tables(tables_from_activations(t.item_id, t, pieces[t.item_id], PHRASES) for t in reader)
    write(frames.attention, paths.attention(model, dataset))
    write(frames.sentences, paths.sentences(model, dataset))
    heads = head_frame({dataset: frames.attention})
    params = MapParams(heads={}, top_heads=3, items={}, traces=3, spans=(), cells=512, links=4)
    walk = WalkThresholds(mass=1, correlation=1)  # no head walks
    shown = choose_maps(params, model, dataset, pieces, frames.attention, heads, walk)
    maps = attention_maps(reader, pieces, shown, params, PHRASES, "cpu")
    write(maps.maps, paths.maps(model, dataset))
    write(maps.tokens, paths.map_tokens(model, dataset))
    write(maps.links, paths.map_links(model, dataset))
    write(maps.lines, paths.map_lines(model, dataset))
    return frames.attention


HEADS = parse(HeadsParams, PARAMS["heads"] | {"top": 5, "rule": "paper"}, "heads")


def head_frame(attention: dict[str, pl.DataFrame]) -> pl.DataFrame:
    generator = np.random.default_rng(3)
    layers, heads = np.divmod(np.arange(N_LAYERS * N_HEADS), N_HEADS)
    scores = pl.DataFrame({"layer": layers, "head": heads}).cast(pl.Int16)
    draws = generator.random((3, len(layers)))
    made_up = {"induction": draws[0] * (draws[0] > 0.7), "induction_match": draws[1]}
    made_up["retrieval"] = draws[2] * (draws[2] > 0.7)
    return rank_heads(attention, scores.with_columns(pl.DataFrame(made_up)), HEADS)


def write_reading(paths: StudyPaths, reader: str, texts: str, dataset: str) -> None:
    """The heads of a model, and those of a reader that are the same with other names: the highest is the lowest."""
    after = pl.read_parquet(paths.heads(texts)).filter(dataset=dataset).drop(SCORES)
    before = pl.concat([after.select("layer", "head"), after.drop("layer", "head").reverse()], how="horizontal")
    sides = [frame.with_columns(model=pl.lit(name)) for name, frame in ((reader, before), (texts, after))]
    write(pl.concat(sides, how="diagonal"), paths.read_heads(reader, texts, dataset))


def sweep(pair: int, probe: str, seed: int, component: str = "resid_pre") -> Sweep:
    """Cells that look like the paper's Figure 8: the flipping token falls with the layer, the last position rises."""
    generator = np.random.default_rng(100 * pair + seed)
    roles = ("probe", "probe", "flip", "probe", "think_close", "answer_end", "answer_end")
    depth = np.linspace(0, 1, N_LAYERS)[:, None]
    flip, last = np.eye(7)[2], np.eye(7)[6]
    nld = 0.45 * (1 - depth) * flip + 0.9 * depth**2 * last + generator.normal(0, 0.01, (N_LAYERS, 7))
    if component == "z":
        nld = np.repeat(nld[:, None], N_HEADS, axis=1) * generator.random((N_LAYERS, N_HEADS, 1))
    logit_diff = -9.5 + nld * 20
    prob = np.tanh(logit_diff / 2)
    metrics = AnswerMetrics(logit_diff, logit_diff, prob, (-3 * prob).astype(np.int64))
    clean = ("Final", " answer", " 5" if pair else " </script>", ".", "</think>", "boxed", "{")
    corrupted = (*clean[:2], " 6", *clean[3:])
    return Sweep(f"pair-{pair}", probe, component, tuple(range(40, 47)), roles, clean, corrupted, metrics, 10.5, -9.5)


def report_inputs(paths: StudyPaths, models: Sequence[str], datasets: Sequence[str], **limits: Any) -> ReportInputs:
    """A study's names and params; limits: of the section `report`."""
    entries = {model: {"kind": "hub", "tags": Tags().model_dump()} for model in models}
    run = {"models": list(models), "datasets": ["math500"], "settings": list(SETTINGS), "pairs": "pairs"}
    return ReportInputs(
        paths=paths,
        models=models,
        readers={"base": "tiny_qwen2"},
        datasets=datasets,
        settings=SETTINGS,
        values={"run": run, "models": entries},
        params=parse(ReportParams, PARAMS["report"] | limits, "report"),
        knockout=params(),
        walks=walks.params(),
        perturb=changes.params(),
        sentences=sentences.params(),
        evaluate=EVALUATE,
        crossing=CrossingParams(bootstrap_draws=200, confidence=0.95, seed=0),
        walk=WalkThresholds(mass=0.3, correlation=0.1),
        without_mode="finished",
    )


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> ReportInputs:
    """Two models, one named as in the paper, on one dataset; a second dataset of which nothing exists."""
    paths, models = StudyPaths(tmp_path_factory.mktemp("study")), ("tiny_qwen2", "r1_qwen_7b")
    items = [question(number) for number in range(6)]
    write(items_frame(items), paths.items("math500"))
    write(items_frame(pair_items([QuestionPair("pair-0", *PAIR, "heavier", "animals")])), paths.items("pairs"))
    for seed, model in enumerate(models):
        frames = write_evaluation(paths, model, "math500", items)
        attention = write_attention(paths, model, "math500", frames["with_reasoning"], seed)
        write(head_frame({"math500": attention}), paths.heads(model))
        sweeps = [sweep(pair, probe, seed) for pair in range(3) for probe in ("plain", "boxed")]
        sweeps.append(sweep(0, "plain", seed, component="z"))
        write(patching_frame(sweeps), paths.patching(model))
        paths.model(model).mkdir(parents=True)
        ModelPointer("hub", "float32", Tags(), "someone/some-model", "0" * 40).write(paths.model(model))
    write_reading(paths, "base", "tiny_qwen2", "math500")
    named = pl.col("item_id").replace({"a": "item/00.json", "b": "item/01.json", "c": "item/02.json"})
    write(cut().with_columns(named), paths.knockout("tiny_qwen2", "math500"))
    write(walks.viewed(), paths.walks("tiny_qwen2", "math500"))
    write(changes.changed().with_columns(named), paths.perturb("tiny_qwen2", "math500"))
    write(sentences.hidden(), paths.hidden_sentences("tiny_qwen2", "math500"))
    write(sentences.heads(), paths.receivers("tiny_qwen2", "math500"))
    for name, table in instruments.tables().items():
        write(table.with_columns(model=pl.lit("tiny_qwen2")) if "model" in table else table, paths.instruments(name))
    return report_inputs(paths, models, ("math500", "wildbench"), texts=4, traces=2, heads=2, pairs=2)


@pytest.fixture(scope="session")
def page_data(inputs: ReportInputs) -> dict[str, Any]:
    return report_data(inputs)


@pytest.fixture(scope="session")
def page(page_data: dict[str, Any]) -> str:
    return build_page(page_data, megabytes=10.0)


@pytest.fixture(scope="session")
def judged_runs() -> dict[str, Any]:
    """Evaluations by an imagined judge, of two models on one dataset."""
    return {
        "r1_llama_8b": judged_run("r1_llama_8b", n=20, repeats=2),
        "tiny_qwen2": judged_run("tiny_qwen2", n=10, seed=4),
    }


@pytest.fixture(scope="session")
def judged_data(
    judged_runs: dict[str, Any], inputs: ReportInputs, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    paths = StudyPaths(tmp_path_factory.mktemp("judged"))
    for model, run in judged_runs.items():
        write(run.frame, paths.evaluation(model, "wildbench"))
        paths.summary(model, "wildbench").write_text(json_text(run.summary), encoding="utf-8")
    return report_data(replace(inputs, paths=paths, models=tuple(judged_runs), datasets=("wildbench",)))
