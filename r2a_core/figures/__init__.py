"""Figures and tables as PNG and PDF. Each has the look of style.py, whichever module is imported first."""

import r2a_core.figures.style  # noqa: F401
