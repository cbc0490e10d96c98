"""Asks of every instrument whether it tells answers that depend on the trace from others, and which instruments agree.

params run, instruments, heads.top, heads.walk, walks; data/attention/, data/heads/,
data/walks/, data/knockout/, data/sentences/, data/perturb/, data/patching/
-> data/instruments/ (values, truth, auc, agreement), data/metrics/instruments.json
usage: python -m stages.instruments
"""

from r2a_core.infra.files import write_frame, write_json
from r2a_core.instruments.stage import all_values, perturb_tables
from r2a_core.instruments.tables import agreement_table, auc_table, summary, truth_table
from stages._study import open_study, run_stage


def instruments() -> None:
    """Write data/instruments/ and the metrics file."""
    study = open_study("instruments")
    paths, params = study.paths, study.params.instruments
    perturb = perturb_tables(paths, study.params.run)
    values = all_values(paths, study.params, perturb)
    truth = truth_table(perturb, params)
    found, agreement = auc_table(values, truth), agreement_table(values, params)
    for name, table in {"values": values, "truth": truth, "auc": found, "agreement": agreement}.items():
        write_frame(paths.instruments(name), table)
    write_json(paths.metrics("instruments"), summary(truth, found, agreement))


if __name__ == "__main__":
    run_stage(instruments)
