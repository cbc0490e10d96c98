"""What a study of a model would take, stage by stage, before it runs: time, memory on the device, disk.

usage: python -m benchmarks.plan r1_llama_8b --gpu-memory 80            on the GPU that the options describe
       python -m benchmarks.plan r1_llama_8b --lengths 150,2500,450      tokens of question, reasoning, answer
       python -m benchmarks.plan smollm2_reasoner --measured [--run]     on this CPU, once the model is prepared

params.yaml, sizes of a model that need not be at hand -> markdown. A forward pass takes as long as its floating point
operations at a share of the device's peak, and the weights, keys, values and logits that it moves at the same share of
the bandwidth, and a fixed time for each layer that is called; a process takes a fixed time to start and to load the
model. Lengths are those of the model's responses in data/ where there are any, else every response is as long as
generate.max_new_tokens allows. One device, one stage at a time; stages that neither run the model nor read its
activations are left out. --run: first runs the stages in this folder, which has params.yaml, no data/ and no .work/.
"""

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import polars as pl
import torch

from benchmarks.cases import segment_bounds
from benchmarks.gpu_check import commands
from benchmarks.machine import Machine, child, measured
from benchmarks.measuring import Rows, table
from benchmarks.memory_model import RESERVE
from benchmarks.passes import Lengths, StudyOf
from benchmarks.sizes import OTHERS, PUBLISHED
from benchmarks.stage_work import study_work
from r2a_core.builtin.tokenizer import build_tokenizer
from r2a_core.builtin.train import build_model
from r2a_core.config import GgufModel, HubModel, Params, TrainedModel, TrainingRecipe, load_params, read_yaml
from r2a_core.infra.errors import R2AError
from r2a_core.paths import StudyPaths
from r2a_core.trace import SETTINGS

STATISTIC_BYTES = 56  # moved for one attention weight: made, masked, scaled, summed by segment and walk, in float32
DRAWING = ("maps", "instruments", "figures", "report")  # how stages begin that the plan does not have


def model_of(name: str, params: Params) -> Any:
    """Builds a model without weights from the published sizes. Raises R2AError for one whose sizes are not known."""
    from transformers import AutoConfig, AutoModelForCausalLM

    known = {each: found for each, entry in params.models.items() if (found := known_sizes(each, entry))}
    if name not in known:
        raise R2AError(f"the sizes of {name!r} are not known here", f"choose from {', '.join(known)}")
    own, given = known[name]
    dtype = getattr(torch, "bfloat16" if given == "auto" else given)
    if isinstance(own, TrainingRecipe):
        tokenizer = build_tokenizer()
        model = build_model(own, len(tokenizer), tokenizer).to("meta", dtype).eval()
        model.config.dtype = dtype
        return model
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(AutoConfig.for_model(**own), dtype=dtype).eval()


def known_sizes(name: str, entry: Any) -> tuple[TrainingRecipe | dict[str, Any], str] | None:
    """Finds the sizes of an entry of `models` and its dtype: its recipe, or the published ones; None where unknown."""
    recipe = entry.recipe if isinstance(entry, TrainedModel) else None
    if isinstance(recipe, TrainingRecipe):
        return recipe, entry.dtype
    source = entry if recipe is None else recipe.base
    if not isinstance(source, GgufModel | HubModel):
        return None
    key = (source.package or "") if isinstance(source, GgufModel) else name
    own = (PUBLISHED | OTHERS).get(key)
    return None if own is None else (own, entry.dtype)


def check_length(name: str, model: Any, lengths: Lengths) -> None:
    """Raises R2AError for a trace that is longer than the model allows."""
    n_tokens, most = lengths.trace.n_tokens, model.config.max_position_embeddings
    if n_tokens > most:
        raise R2AError(
            f"a trace of {n_tokens} tokens passes the {most} that {name} allows (max_position_embeddings)",
            "give fewer with --lengths, or lower generate.max_new_tokens",
        )


def lengths_of(name: str, params: Params, given: str | None) -> Lengths:
    """Takes lengths from the option, else from the responses in data/, else the longest that are allowed."""
    most, paths = params.generate.max_new_tokens, StudyPaths(Path())
    files = {
        each: [paths.generations(name, data, each) for data in params.run.datasets] for each in params.run.settings
    }
    if given is not None:
        question, reasoning, answer = numbers_of(given)
        if reasoning + answer > most:
            short = f"responses of {reasoning + answer} tokens pass generate.max_new_tokens, which is {most}"
            raise R2AError(short, "raise it in params.yaml, which says what the study is")
        return Lengths(question, reasoning, answer, answer, 2 * (reasoning + answer))
    if all(file.is_file() for some in files.values() for file in some):
        return written_lengths(*([pl.read_parquet(file) for file in files.get(each, ())] for each in SETTINGS))
    bounds = segment_bounds(51 + most)
    question, reasoning, answer = (len(bounds[each]) for each in ("query", "reasoning", "answer"))
    return Lengths(question, reasoning, answer, answer, most)


def numbers_of(given: str) -> list[int]:
    """Reads Q,R,A. Raises R2AError for anything else."""
    parts = given.split(",")
    if len(parts) != 3 or not all(part.strip().isdecimal() and int(part) for part in parts):
        raise R2AError(
            f"--lengths takes three numbers of tokens, found {given!r}", "for example --lengths 150,4000,600"
        )
    return [int(part) for part in parts]


def written_lengths(thinking: Sequence[pl.DataFrame], without: Sequence[pl.DataFrame]) -> Lengths:
    """Measures responses with reasoning and, where these ran, without: a frame of GENERATION_SCHEMA a dataset."""
    opened, closed, length = pl.col("think_open"), pl.col("think_close"), pl.col("response_ids").list.len()
    parts = (opened, closed - opened - 1, pl.col("answer_end") - pl.col("answer_start"))
    whole = pl.concat(thinking).filter(status="ok")
    if whole.is_empty():
        raise R2AError("no response in data/generations is well-formed", "give them: --lengths 150,4000,600")
    means = whole.select(part.mean().alias(str(n)) for n, part in enumerate(parts))
    longest = sum(frame.select(length.max()).item() for frame in thinking) / len(thinking)
    short = pl.concat(without).select(length.mean()).item() if without else means.item(0, "2")
    return Lengths(*map(round, (*means.row(0), short, longest)))


def run_stages() -> dict[str, float]:
    """Runs the stages of the study in this folder but those that only draw; returns CPU seconds by kind of stage."""
    for made in (Path("data/generations"), Path(".work")):
        if made.exists():
            what = f"{made} exists, so that stages would write over a study, or find what they made before"
            raise R2AError(what, "run it in a fresh clone")
    found: dict[str, float] = {}
    for module, *names in commands(read_yaml(Path("params.yaml"))):
        stage = module.removeprefix("stages.")
        if not stage.startswith(DRAWING):
            found[stage] = found.get(stage, 0.0) + child("-m", module, *names)
            print(f"{stage} {' '.join(names)}: {found[stage]:.1f} s of CPU so far", file=sys.stderr, flush=True)
    return found


def rows_of(study: StudyOf, machine: Machine, ran: dict[str, float]) -> Rows:
    """One row a stage, and their sum; `ran`: seconds of those that were run."""
    rows: Rows = []
    for work in study_work(study):
        taken = machine.seconds(study, work)
        row = {"stage": work.stage, "processes": work.runs, "minutes": taken / 60}
        row |= {"device, GB": (study.weight_bytes + work.device) / 1e9 if work.passes else work.device / 1e9}
        row |= {"disk, GB": work.kept / 1e9}
        if own := ran.get(work.stage):
            row |= {"measured": own / 60, "predicted / measured": taken / own}
        rows.append(row)
    total = {
        name: sum(row.get(name, 0.0) for row in rows)
        for name in ("minutes", "disk, GB", *(["measured"] if ran else []))
    }
    return [*rows, {"stage": "together", **total}]


def plan(options: argparse.Namespace) -> str:
    """Writes the plan as markdown. Raises R2AError for what params.yaml or the table of sizes does not know."""
    if not Path("params.yaml").is_file():
        raise R2AError("there is no params.yaml here", "run it in the folder of the project")
    params, memory = load_params(Path("params.yaml")), options.gpu_memory * 1e9
    model = model_of(options.model, params)
    ran = run_stages() if options.run else {}
    lengths = lengths_of(options.model, params, options.lengths)
    check_length(options.model, model, lengths)
    study = StudyOf(options.model, params, model, lengths, memory, "cpu" if options.measured else "cuda")
    rate, bandwidth = (options.efficiency * peak for peak in (options.tflops * 1e12, options.bandwidth * 1e9))
    stated = Machine(rate, bandwidth, bandwidth / STATISTIC_BYTES, 1e-3, 20.0, study.weight_bytes / Machine.disk)
    machine = measured(study) if options.measured else stated
    rows = rows_of(study, machine, ran)
    fits = max(row.get("device, GB", 0) for row in rows) * 1e9 + RESERVE <= memory
    verdict = f"{'fits' if fits else 'does not fit'} into {options.gpu_memory:g} GB"
    first = "" if options.measured else f"It {verdict}, {RESERVE / 1e9:.1f} GB of these for the driver.\n\n"
    return f"{first}{options.model}, tokens: {figures(study.lengths)}\n{figures(machine)}\n\n{table(rows)}"


def figures(record: Any) -> str:
    """Spells the fields of a record."""
    return ", ".join(f"{name} {value:.3g}" for name, value in asdict(record).items())


def above_zero(text: str, most: float = sys.float_info.max) -> float:
    """Reads a number above 0; argparse names the option of another."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value <= most:
        allowed = "a number above 0" + ("" if most > 1 else f", at most {most:g}")
        raise argparse.ArgumentTypeError(f"takes {allowed}, found {text!r}")
    return value


def share(text: str) -> float:
    """Reads a share, at most 1."""
    return above_zero(text, 1)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a key of models in params.yaml")
    parser.add_argument("--gpu-memory", type=above_zero, default=80, help="GB of the device")
    parser.add_argument(
        "--tflops", type=above_zero, default=989, help="peak of the device, bfloat16: H100 989, A100 312"
    )
    parser.add_argument("--bandwidth", type=above_zero, default=3350, help="GB/s of its memory: H100 3350, A100 2039")
    parser.add_argument("--efficiency", type=share, default=0.4, help="share of both peaks that is reached, at most 1")
    parser.add_argument("--lengths", help="tokens of question, reasoning, answer, with commas between")
    parser.add_argument("--measured", action="store_true", help="figures of this CPU in the place of a GPU's")
    parser.add_argument("--run", action="store_true", help="run all stages here, to set their CPU time beside")
    options = parser.parse_args()
    if options.run and not options.measured:
        parser.error("--run takes CPU time, which is set beside figures of this CPU: give --measured too")
    try:
        print(plan(options))
    except R2AError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
