"""`run.settings: [with_reasoning]` after a run of both: nothing of the other setting is counted, and that is said."""

import json

import polars as pl

from r2a_core.paths import StudyPaths
from tests.study import Study

TINY = ("tiny", "texts")
RUN = {"models": ["tiny"], "readers": [], "datasets": ["texts"], "pairs": "built_in_pairs"}
BOTH = {"settings": ["without_reasoning", "with_reasoning"]}
ALONE = {"settings": ["with_reasoning"]}


def run(study: Study, settings: dict[str, list[str]]) -> dict[str, object]:
    """Runs all stages but those of pairs; returns the summary of the evaluation."""
    study.write_params(run=RUN | settings)
    stages = [("prepare_dataset", "texts")]
    stages += [(stage, *TINY, each) for stage in ("generate", "capture", "attention") for each in settings["settings"]]
    stages += [("judge", *TINY), ("evaluate", *TINY), ("heads", "tiny"), ("maps", *TINY)]
    for stage in [*stages, ("figures_evaluation",), ("figures_attention",), ("report",)]:
        ended = study.run(*stage)
        assert ended.code == 0, ended.err
    return json.loads(study.paths.summary(*TINY).read_text(encoding="utf-8"))


def test_one_setting_alone_is_evaluated_drawn_and_reported(study: Study) -> None:
    both = run(study, BOTH)
    assert (both["paired"]["n"], both["paired"]["difference"]) == (2, 0)  # type: ignore[index]
    alone = run(study, ALONE)
    paired = alone["paired"]
    assert isinstance(paired, dict)
    assert (paired["n"], paired["accuracy_with"]) == (2, 0.5)
    left = [paired[name] for name in ("accuracy_without", "difference", "t", "p", "mcnemar_p", "win", "tie", "loss")]
    assert left == [None] * 8
    assert paired["reason"] == "without reasoning was not run"
    assert list(alone["funnel"]) == ["with_reasoning"]  # type: ignore[call-overload]
    assert alone["funnel"]["with_reasoning"] == both["funnel"]["with_reasoning"]  # type: ignore[index]
    assert set(pl.read_parquet(study.paths.evaluation(*TINY))["setting"]) == {"with_reasoning"}
    assert "Not run" in study.paths.page.read_text(encoding="utf-8")
    funnel = pl.read_csv(study.paths.figures("evaluation") / "table-2-funnel.csv")
    assert funnel["setting"].to_list() == ["with_reasoning"]
    assert not study.paths.generations(*TINY, "without_reasoning").exists()
    unused = StudyPaths(study.paths.unused)
    assert unused.generations(*TINY, "without_reasoning").is_file()
    assert unused.metrics("generate", *TINY, "without_reasoning").is_file()


def test_the_settings_hold_the_one_with_reasoning(study: Study) -> None:
    study.write_params(run=RUN | {"settings": ["without_reasoning"]})
    ended = study.run("generate", *TINY, "without_reasoning")
    assert ended.code == 2
    assert "run.settings is without with_reasoning" in ended.err
