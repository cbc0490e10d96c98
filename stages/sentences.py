"""Hides each sentence of the reasoning from all that follows, and looks for heads that gather attention on few of them.

params sentences; data/models/<model>/, data/generations/<model>/<dataset>/with_reasoning.parquet,
data/activations/<model>/<dataset>/with_reasoning/, data/attention/<model>/<dataset>/with_reasoning-sentences.parquet
-> data/sentences/<model>/<dataset>.parquet, data/sentences/<model>/<dataset>-heads.parquet (empty with
capture.store: false), data/metrics/sentences-<model>-<dataset>.json
usage: python -m stages.sentences MODEL DATASET
"""

from r2a_core.activations.capture import first_traces
from r2a_core.attention.tables import SENTENCE_SCHEMA
from r2a_core.infra.files import read_frame, write_frame, write_json
from r2a_core.sentences.stage import ReceiverJob, SuppressionJob, hide_sentences, receiver_table, with_masses
from r2a_core.sentences.summary import sentences_summary
from r2a_core.trace import GENERATION_SCHEMA
from stages._study import open_study, run_stage


def sentences(model: str, dataset: str) -> None:
    """Write both tables of data/sentences/MODEL/ for DATASET, and the metrics file."""
    study = open_study("sentences", model=model, dataset=dataset)
    paths, params = study.paths, study.params.sentences
    generations = read_frame(paths.generations(model, dataset), GENERATION_SCHEMA, "generate")
    masses = read_frame(paths.sentences(model, dataset), SENTENCE_SCHEMA, "attention")
    traces = first_traces(generations, params.traces, study.item)
    folder = paths.model(model)
    with study.work(model) as work:
        hidden = hide_sentences(SuppressionJob(folder, study.device, params, traces), work)
        hidden = with_masses(hidden, masses)
        heads = receiver_table(ReceiverJob(folder, study.device, paths.activations(model, dataset), (), params), work)
        write_frame(paths.hidden_sentences(model, dataset), hidden)
        write_frame(paths.receivers(model, dataset), heads)
        write_json(paths.metrics("sentences", study.item), sentences_summary(hidden, heads, params))


if __name__ == "__main__":
    run_stage(sentences)
