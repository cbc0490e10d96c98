"""The built-in study's pretrained model, which benchmarks measure beside random ones.

Bench -> Shapes of a model that lies in a folder where both sides can read it, with tokens of real traces beside it.
"""

from dataclasses import replace

from benchmarks.cases import Shape
from benchmarks.turns import Bench

NAME = "smollm2_reasoner"
SIZES = Shape("llama", 30, 576, 9, 3, 1536)
DTYPES = ("float32", "bfloat16")


def pretrained(bench: Bench) -> dict[str, Shape]:
    """The model in both dtypes, by dtype; saved once."""
    folder = bench.scratch / NAME
    if not folder.is_dir():
        unfinished = folder.with_suffix(".unfinished")
        with bench.workers("ours") as (ours,):
            ours.ask(do="run", way="save_model", case={"name": NAME, "folder": str(unfinished)}, times=1)
        unfinished.rename(folder)
    return {dtype: replace(SIZES, folder=str(folder), dtype=dtype) for dtype in DTYPES}


def model_name(shape: Shape) -> str:
    return NAME if shape.folder else "random"
