"""The two ways in which a model is asked (paper section 3): it reasons, or its reasoning is closed before it begins."""

from typing import Literal, get_args

Setting = Literal["with_reasoning", "without_reasoning"]
SETTINGS: tuple[Setting, ...] = get_args(Setting)
