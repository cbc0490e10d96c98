"""What changes the bytes a model computes and is no part of the study: versions of libraries, and the device.

R2A_DEVICE -> the name of the environment, such as "torch_2.13.0+cpu,transformers_5.24.0,tokenizers_0.23.3,cpu_AVX512".
It is a folder of the work store (see r2a_core.infra.shards), so shards of two environments lie side by side.

A version's local label (+cpu, +cu130) names the build. A GPU is named as its driver names it: kernels are chosen by its
kind and size. A CPU is named by its vector instructions: with AVX2 for AVX512 the last bits of activations differ, in
bfloat16 as in float32. Two CPUs of one capability may still differ (another maker, AMX), and the number of threads may;
the name of a processor is no better, as virtual machines hide it. The dtype is one of the study's params: it is in
the prepared model's folder, whose digest every fingerprint holds.
"""

import os
import re
from importlib.metadata import version

from r2a_core.infra.errors import R2AError

LIBRARIES = ("torch", "transformers", "tokenizers")

BETWEEN = ","


def versions() -> dict[str, str]:
    """Returns the installed versions of the libraries that compute; imports none of them."""
    return {name: version(name) for name in LIBRARIES}


def environment(device: str) -> str:
    """Names this process's environment for work on `device`, a value of R2A_DEVICE."""
    parts = [f"{name} {number}" for name, number in versions().items()]
    return BETWEEN.join(re.sub(r"[^\w.+-]", "_", part) for part in [*parts, processor(device)])


def parts_of(name: str) -> list[str]:
    """Returns the parts of an environment's name as a person reads them."""
    return [part.replace("_", " ") for part in name.split(BETWEEN)]


def device_type(name: str) -> str:
    """Returns the kind of device that an environment computes on: cpu, cuda or mps."""
    return parts_of(name)[-1].split()[0]


def cores_from(variable: str, most: int) -> int | None:
    """Reads how many of the machine's `most` cores an environment variable asks for; None where it is not set.

    Raises R2AError for anything but a whole number from 1 to `most`.
    """
    given = os.environ.get(variable)
    if given is None:
        return None
    if not (given.isascii() and given.isdecimal() and len(given) < 10 and 1 <= int(given) <= most):
        raise R2AError(
            f"{variable} must be a whole number from 1 to {most}, this machine's cores, found {given[:20]!r}",
            f"for example {variable}=1",
        )
    return int(given)


def chosen(device: str) -> str:
    """Returns the device that a value of R2A_DEVICE stands for: auto is CUDA where present, else the CPU."""
    import torch

    return device if device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"


def dtype_here(dtype: str, device: str) -> str:
    """Returns a dtype of params.yaml; for auto bfloat16 where `device`, a value of R2A_DEVICE, has instructions for it.

    Else float32: a CPU without them takes several times longer in bfloat16.
    """
    import torch

    if dtype != "auto":
        return dtype
    kind = chosen(device).partition(":")[0]
    if kind == "cuda" and torch.cuda.is_available():
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        fast = kind == "cpu" and processor(kind) == "cpu AVX512" and torch.cpu._is_avx512_bf16_supported()
    return "bfloat16" if fast else "float32"


def processor(device: str) -> str:
    """Names what computes on `device`. One that is not here keeps its name; the model's loading refuses it."""
    import torch

    name = chosen(device)
    kind = name.partition(":")[0]
    if kind == "cpu":
        return f"cpu {torch.backends.cpu.get_cpu_capability()}"
    if re.fullmatch(r"cuda(:\d+)?", name) and int(name[5:] or 0) < torch.cuda.device_count():
        return f"cuda {torch.cuda.get_device_name(name)}"
    return kind
