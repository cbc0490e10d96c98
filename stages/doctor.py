"""Reports what this machine has for the study and what it lacks, with hints. Also checks the whole of params.yaml, and
that what runs from outside the project is what it pins.

usage: python -m stages.doctor [--params-only]        (or: make doctor)
"""

import importlib.metadata
import os
import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import typer

from r2a_core.config import AdapterRecipe, GgufModel, LocalModel, Params, TrainedModel, load_params, read_yaml
from r2a_core.data.prepare import check_file
from r2a_core.infra.errors import MissingPrerequisite
from r2a_core.models.adapter import AdapterPointer, adapter_folder
from r2a_core.models.gguf import checked_file
from r2a_core.models.pointer import check_local
from r2a_core.paths import StudyPaths
from stages._guard import leftovers
from stages._plan import outputs
from stages._study import run_stage

GIGABYTE = 1e9
PACKAGES = ("dvc", "torch", "transformers", "safetensors", "polars", "typer", "mpmath", "peft", "gguf")


def report(name: str, value: str, hint: str = "") -> None:
    """Print one line of the report, and a hint below it if something is missing."""
    print(f"{'ok ' if not hint else 'NO '} {name:14} {value}")
    if hint:
        print(f"    hint: {hint}")


def check_pins(params: Params, imports: Path) -> None:
    """Raises R2AError when what runs is not what params.yaml pins. What is absent is reported: results may be here."""
    datasets = {name: params.datasets[name] for name in (*params.run.datasets, params.run.pairs)}
    checks: dict[str, Callable[[], object]] = {
        name: partial(check_file, entry, imports, name) for name, entry in datasets.items()
    }
    for name in (*params.run.models, *(reader.model for reader in params.run.readers)):
        model, places = params.models[name], {}
        if isinstance(model, TrainedModel) and isinstance(model.recipe, AdapterRecipe):
            places["recipe.start"] = model.recipe.start
            model = model.recipe.base
        if isinstance(model, LocalModel):
            checks[name] = partial(check_local, model.path, model.sha256, name)
        elif isinstance(model, GgufModel) and model.hub_id is None:
            checks[name] = partial(checked_file, model)
        places["adapter"] = getattr(model, "adapter", None)
        for key, place in places.items():
            if place is not None and place.path is not None:
                pointer = AdapterPointer(place.path, sha256=place.sha256)
                checks[f"{name}.{key}"] = partial(adapter_folder, pointer, Path(name), key)
    for name, check in checks.items():
        try:
            check()
        except MissingPrerequisite as error:
            report(name, error.message, error.hint)


def check_gpu(root: Path) -> None:
    import torch  # takes seconds, which --params-only need not wait for

    if torch.cuda.is_available():
        memory = torch.cuda.get_device_properties(0).total_memory / GIGABYTE
        report("GPU", f"{torch.cuda.get_device_name(0)}, {memory:.0f} GB")
    elif shutil.which("nvidia-smi"):
        report("GPU", "present, but this torch cannot use it", "rm -rf .venv && make install, with the driver loaded")
    else:
        report("GPU", "none: the built-in models run on the CPU, the paper's models need one")


def check_disk(root: Path) -> None:
    free = shutil.disk_usage(root).free / GIGABYTE
    report("disk", f"{free:.0f} GB free", "" if free > 5 else "the built-in study needs 5 GB; free some space")


def check_cache(root: Path) -> None:
    folder = root / ".dvc" / "cache"
    writable = os.access(folder if folder.exists() else root / ".dvc", os.W_OK)
    report("DVC cache", str(folder.relative_to(root)), "" if writable else "permit writing to .dvc/cache")


def check_hub(root: Path) -> None:
    from huggingface_hub import HfApi, get_token

    if os.environ.get("HF_HUB_OFFLINE") == "1":
        report("Hub", "switched off by HF_HUB_OFFLINE=1")
        return
    try:
        HfApi().model_info("deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B", timeout=5)
    except Exception as error:  # any failure to reach it is the finding itself
        hint = "only built-in and local models and imported texts run without it"
        report("Hub", f"not reached ({type(error).__name__})", hint)
        return
    report(
        "Hub", "reached, " + ("with a token" if get_token() else "without a token (gated models need hf auth login)")
    )


def doctor(params_only: bool = typer.Option(False, help="Check params.yaml and its pins only.")) -> None:
    """Report versions, GPU, disk, cache and Hub access, and check params.yaml and its pins."""
    root = Path.cwd()
    params = load_params(root / "params.yaml")
    made = outputs(read_yaml(root / "dvc.yaml")["stages"], read_yaml(root / "params.yaml"))
    check_pins(params, StudyPaths(root).imports)
    run = params.run
    what = f"{len(run.models)} models on {len(run.datasets)} datasets, {' and '.join(run.settings)}"
    report("params.yaml", f"{what.replace('_', ' ')}; all keys known")
    if params_only:
        return
    report("python", sys.version.split()[0])
    for package in PACKAGES:
        report(package, importlib.metadata.version(package))
    for check in (check_gpu, check_disk, check_cache, check_hub):
        check(root)
    report("data", f"{sum(1 for path in StudyPaths(root).data.rglob('*') if path.is_file())} files in data/")
    for name in leftovers(root, "data", made):
        print(f"    {name} is no longer part of the run; a stage that would read it moves it to .work/unused")


if __name__ == "__main__":
    run_stage(doctor)
