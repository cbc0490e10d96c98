"""Draws what hidden sentences do to the answer, and what length leaves of receiver heads.

params run.models, run.datasets, sentences; data/sentences/ -> data/figures/sentences/
usage: python -m stages.figures_sentences
"""

from r2a_core.figures.sentences import draw_sentences
from r2a_core.infra.files import read_frame
from r2a_core.sentences.summary import RECEIVER_SCHEMA, SUPPRESSION_SCHEMA, points, sentences_summary
from stages._study import open_study, run_stage


def figures_sentences() -> None:
    """Write data/figures/sentences/."""
    study = open_study("figures_sentences")
    paths, run, params = study.paths, study.params.run, study.params.sentences
    paths.figures("sentences").mkdir(parents=True, exist_ok=True)  # an output, also when no trace has a sentence
    for dataset in run.datasets:
        found = {}
        for model in run.models:
            hidden = read_frame(paths.hidden_sentences(model, dataset), SUPPRESSION_SCHEMA, "sentences")
            heads = read_frame(paths.receivers(model, dataset), RECEIVER_SCHEMA, "sentences")
            if hidden.height:
                found[model] = (points(hidden), sentences_summary(hidden, heads, params))
        if found:
            draw_sentences(found, dataset, paths.figures("sentences"))


if __name__ == "__main__":
    run_stage(figures_sentences)
