"""Logistic regression against scipy's optimiser and the sandwich written out."""

import numpy as np
import pytest
from scipy.optimize import minimize

from r2a_core.walks.logistic import fit_logistic


def test_coefficients_are_the_maximum_and_errors_the_sandwich() -> None:
    generator = np.random.default_rng(5)
    design = np.column_stack([generator.normal(size=(60, 2)), np.ones(60)])
    outcomes = (generator.random(60) < 1 / (1 + np.exp(-design @ [1.0, -0.5, 0.3]))).astype(float)

    def loss(beta: np.ndarray) -> float:
        return float((np.logaddexp(0, design @ beta) - outcomes * (design @ beta)).sum())

    best = minimize(loss, np.zeros(3), method="BFGS", options={"gtol": 1e-9}).x
    found = fit_logistic(design, outcomes)
    assert found is not None
    assert found.coefficients == pytest.approx(best, abs=1e-5)
    p = 1 / (1 + np.exp(-design @ best))
    bread = np.linalg.inv(sum(p[i] * (1 - p[i]) * np.outer(design[i], design[i]) for i in range(60)))
    meat = sum((outcomes[i] - p[i]) ** 2 * np.outer(design[i], design[i]) for i in range(60))
    assert found.errors == pytest.approx(np.sqrt(np.diag(60 / 59 * bread @ meat @ bread)), abs=1e-5)


@pytest.mark.parametrize(
    "design",
    [
        np.column_stack([[-2.0, -1.0, 1.0, 2.0], np.ones(4)]),  # separates the outcomes
        np.column_stack([[1.0, 3.0, 2.0, 1.0], np.ones(4), np.ones(4)]),  # a column twice
    ],
)
def test_without_a_finite_estimate_there_is_none(design: np.ndarray) -> None:
    assert fit_logistic(design, np.array([0.0, 0.0, 1.0, 1.0])) is None
