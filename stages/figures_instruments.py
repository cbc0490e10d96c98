"""Draws which measure tells answers that depend on the trace from others, and how far measures agree.

data/instruments/ -> data/figures/instruments/
usage: python -m stages.figures_instruments
"""

from r2a_core.figures.instruments import draw_instruments
from r2a_core.infra.files import read_frame
from r2a_core.instruments.catalogue import AGREEMENT_SCHEMA, AUC_SCHEMA
from stages._study import open_study, run_stage


def figures_instruments() -> None:
    """Write data/figures/instruments/."""
    paths = open_study("figures_instruments").paths
    folder = paths.figures("instruments")
    folder.mkdir(parents=True, exist_ok=True)  # an output, also when nothing was measured
    auc = read_frame(paths.instruments("auc"), AUC_SCHEMA, "instruments")
    draw_instruments(auc, read_frame(paths.instruments("agreement"), AGREEMENT_SCHEMA, "instruments"), folder)


if __name__ == "__main__":
    run_stage(figures_instruments)
