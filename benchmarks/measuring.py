"""Time and peak memory of a piece of work on a device, and rows of numbers as a table."""

import platform
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import torch

Rows = list[dict[str, Any]]


def seconds(
    device: str, work: Callable[[], Any], rounds: int = 1, clock: Callable[[], float] = time.perf_counter
) -> float:
    """The shortest time of some rounds, after one that is not counted where there are several."""
    times = []
    for _ in range(rounds + (rounds > 1)):
        synchronize(device)
        start = clock()
        work()
        synchronize(device)
        times.append(clock() - start)
    return min(times[rounds > 1 :])


def synchronize(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


def peak_gigabytes(device: str, work: Callable[[], Any]) -> float | None:
    """Most memory that torch had allocated on the device, weights included; None on the CPU."""
    if device == "cpu":
        work()
        return None
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    work()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() / 1e9


def hardware(device: str) -> dict[str, str]:
    """What the numbers were measured on, and when."""
    import transformers

    name = platform.processor() or platform.machine() if device == "cpu" else torch.cuda.get_device_name()
    versions = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    return {"device": name, **versions, "date": datetime.now(UTC).strftime("%Y-%m-%d")}


def table(rows: Rows) -> str:
    """Rows as a markdown table; numbers with three digits."""
    names = list(dict.fromkeys(name for row in rows for name in row))

    def cell(value: Any) -> str:
        return "" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)

    lines = [names, ["---"] * len(names), *([cell(row.get(name)) for name in names] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
