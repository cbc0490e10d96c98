"""The tasks of the stand-in, by name."""

from typing import Any

DATASETS: dict[str, Any] = {}
