"""docs/library.md and examples/explore.ipynb: every snippet runs and prints what the page shows."""

import doctest
import json
import re
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from r2a_core.attention.tables import concat_tables, tables_in_forward
from r2a_core.config import AlignmentConfig, SweepParams, Tags
from r2a_core.data.pairs import QuestionPair
from r2a_core.generation.rows import tagged_ids
from r2a_core.infra.files import write_frame
from r2a_core.models.load import load_hf
from r2a_core.pairs.align import Response, align
from r2a_core.patching.metrics import patching_frame
from r2a_core.patching.runs import capture_clean
from r2a_core.patching.sweep import sweep_pair
from r2a_core.paths import StudyPaths
from r2a_core.prompts import prompt_ids
from r2a_core.tokenizer import LoadedTokenizer, token_pieces
from r2a_core.trace import token_trace
from tests.small_models import byte_tokenizer

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "library.md"
NOTEBOOK = ROOT / "examples" / "explore.ipynb"
PAIRS = [
    QuestionPair(
        name, f"Which is larger, 1 or {clean}?", clean, f"Which is larger, 1 or {corrupted}?", corrupted, "larger", ""
    )
    for name, clean, corrupted in (("a", "7", "9"), ("b", "6", "8"), ("c", "4", "5"))
]


def write_model(folder: Path) -> None:
    """A tiny random Llama over bytes, its weights wide enough that attention is far from uniform."""
    tokenizer = byte_tokenizer()
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=False,
        initializer_range=0.3,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def respond(tokenizer: LoadedTokenizer, question: str, answer: str) -> Response:
    prompt = prompt_ids(tokenizer, question, "", "with_reasoning")
    text = f"It is {answer}.\n</think>\n\nIt is clear.\n\n\\boxed{{{answer}}}{tokenizer.tags.eos}"
    return Response(prompt, tagged_ids(tokenizer, text))


def write_study(paths: StudyPaths, model_folder: Path) -> None:
    """The two tables that the page reads, of three questions and the model in `model_folder`."""
    loaded, tables, sweeps = load_hf(str(model_folder), Tags(), "float32"), [], []
    config = AlignmentConfig(padding="visible", probe_in="reasoning", keep_reasoning=True, ending_tokens=1)
    params = SweepParams(components=("resid_pre",), restored_roles=(), memory_mib=64)
    for pair in PAIRS:
        clean = respond(loaded.tokenizer, pair.clean_question, pair.clean_answer)
        corrupted = respond(loaded.tokenizer, pair.corrupted_question, pair.corrupted_answer)
        trace = token_trace(pair.pair_id, clean.prompt_ids, clean.response_ids, loaded.ids)
        pieces = token_pieces(loaded.tokenizer.hf, trace.token_ids)
        tables.append(tables_in_forward(loaded.model, trace, pieces, ["wait"]))
        aligned = align(loaded.tokenizer, pair, (clean, corrupted), "plain", config)
        sweeps += sweep_pair(loaded.model, aligned, capture_clean(loaded.model, aligned), params, params.memory_mib)
    write_frame(paths.attention("smollm2_reasoner", "comparisons"), concat_tables(tables).attention)
    write_frame(paths.patching("smollm2_reasoner"), patching_frame(sweeps))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the page's names point at: a model and a study."""
    folder = tmp_path_factory.mktemp("reader")
    write_model(folder / "path/to/model")
    write_study(StudyPaths(folder / "path/to/study"), folder / "path/to/model")
    return folder


@pytest.fixture(autouse=True)
def inside(prepared: Path) -> Iterator[None]:
    with chdir(prepared):
        yield


class RoundedNumbers(doctest.OutputChecker):
    """Takes decimals for equal that differ by one in the second place: another machine may round otherwise."""

    def check_output(self, want: str, got: str, optionflags: int) -> bool:
        decimal = re.compile(r"-?\d+\.\d+")
        words = [decimal.sub("0.0", text).split() for text in (want, got)]
        numbers = [[float(each) for each in decimal.findall(text)] for text in (want, got)]
        return words[0] == words[1] and numbers[1] == pytest.approx(numbers[0], rel=0, abs=0.011)


def snippets() -> list[list[doctest.Example]]:
    blocks = [part.split("```")[0] for part in PAGE.read_text(encoding="utf-8").split("```python\n")[1:]]
    return [doctest.DocTestParser().get_examples(block) for block in blocks]


def test_every_snippet_is_short_and_prints_what_the_page_shows() -> None:
    assert max(sum(example.source.count("\n") for example in block) for block in snippets()) <= 10
    examples = [example for block in snippets() for example in block]
    test = doctest.DocTest(examples, {}, PAGE.name, str(PAGE), 0, None)
    assert doctest.DebugRunner(RoundedNumbers()).run(test).attempted == len(examples) > 0


def lines_of(source: str) -> list[str]:
    return [line for line in source.splitlines() if line]


def test_the_notebook_runs_the_cells_of_the_page() -> None:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] for cell in code)
    sources = ["".join(cell["source"]).removeprefix("%matplotlib inline\n") for cell in code]
    page = ["".join(example.source for example in block) for block in snippets()]
    assert [lines_of(source) for source in sources] == [lines_of(source) for source in page]
    namespace: dict[str, Any] = {}
    for source in sources:
        exec(compile(source, NOTEBOOK.name, "exec"), namespace)  # what a notebook's kernel does
    assert Path("walk.pdf").read_bytes().startswith(b"%PDF")
    assert isinstance(namespace["cells"], pl.DataFrame)
