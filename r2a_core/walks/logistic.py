"""Logistic regression by Newton's method, with standard errors that need no model of the variance.

design (n, k), outcomes (n,) of 0 and 1 -> Fit, or None where no finite estimate exists.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

STEPS = 50

DONE = 1e-10  # of the largest change of a coefficient

LARGEST = 15.0  # log-odds: beyond it the classes are separated and the estimate runs away


@dataclass(frozen=True)
class Fit:
    """Coefficients, log-odds per unit, and their standard errors; both (k,)."""

    coefficients: NDArray[np.float64]
    errors: NDArray[np.float64]


def fit_logistic(design: NDArray[np.float64], outcomes: NDArray[np.float64]) -> Fit | None:
    """Fit outcomes by maximum likelihood; None where the outcomes are separated or the columns not independent.

    Errors are those of the sandwich, its middle times n / (n - 1).
    """
    beta = np.zeros(design.shape[1])
    for _ in range(STEPS):
        p = 1 / (1 + np.exp(-design @ beta))
        information = design.T @ (design * (p * (1 - p))[:, None])
        if np.linalg.cond(information) > 1e12:
            return None
        step = np.linalg.solve(information, design.T @ (outcomes - p))
        beta = beta + step
        if np.abs(design @ beta).max() > LARGEST:
            return None
        if np.abs(step).max() < DONE:
            return Fit(beta, robust_errors(design, outcomes, beta))
    return None


def robust_errors(
    design: NDArray[np.float64], outcomes: NDArray[np.float64], beta: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Compute the standard errors of the coefficients by the sandwich, each outcome for itself."""
    p = 1 / (1 + np.exp(-design @ beta))
    bread = np.linalg.inv(design.T @ (design * (p * (1 - p))[:, None]))
    scores = design * (outcomes - p)[:, None]
    factor = len(outcomes) / max(1, len(outcomes) - 1)
    return np.sqrt(np.diag(factor * bread @ (scores.T @ scores) @ bread))
