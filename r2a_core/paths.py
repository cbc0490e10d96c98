"""Where everything a study reads and writes lies: the only place that spells a path below data/.

project folder -> paths. dvc.yaml names the same files (tests/pipeline compares the two); docs/data.md says what is in
them. Nothing here touches the disk.
"""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class StudyPaths:
    """The files of one study. Arguments are names in params.yaml: model, dataset (or the set of pairs) and setting."""

    root: Path  # the project: dvc.yaml, params.yaml, data/, imports/, .work/

    @property
    def data(self) -> Path:
        """Everything that stages write."""
        return self.root / "data"

    @property
    def work(self) -> Path:
        """Finished shards of unfinished stages, outside DVC."""
        return self.root / ".work"

    @property
    def unused(self) -> Path:
        """Parts that the run no longer makes, under their paths in the project."""
        return self.work / "unused"

    @property
    def imports(self) -> Path:
        """The user's own files."""
        return self.root / "imports"

    def items(self, dataset: str) -> Path:
        """Questions of a dataset, or of a set of pairs."""
        return self.data / "datasets" / f"{dataset}.parquet"

    def model(self, model: str) -> Path:
        """Folder of a prepared model: pointer (model.json), and weights and tokenizer where it keeps them."""
        return self.data / "models" / model

    def generations(self, model: str, dataset: str, setting: str = "with_reasoning") -> Path:
        """Responses of one model to one dataset."""
        return self.data / "generations" / model / dataset / f"{setting}.parquet"

    def judgements(self, model: str, dataset: str) -> Path:
        """A judge's scores of the responses."""
        return self.data / "judgements" / model / f"{dataset}.parquet"

    def evaluation(self, model: str, dataset: str) -> Path:
        """Funnel status and grade of every response."""
        return self.data / "evaluation" / model / f"{dataset}.parquet"

    def summary(self, model: str, dataset: str) -> Path:
        """Counts, accuracies and tests of one evaluation (JSON)."""
        return self.data / "evaluation" / model / f"{dataset}.json"

    def activations(self, model: str, dataset: str, setting: str = "with_reasoning") -> Path:
        """Folder of stored queries, keys and streams: shards and their index."""
        return self.data / "activations" / model / dataset / setting

    def clean_runs(self, model: str, pairs: str) -> Path:
        """Folder of the clean residual streams of the aligned pairs: shards and their index."""
        return self.data / "activations" / model / pairs / "clean"

    def attention(self, model: str, dataset: str, setting: str = "with_reasoning") -> Path:
        """Attention masses of every trace and head."""
        return self.data / "attention" / model / dataset / f"{setting}.parquet"

    def sentences(self, model: str, dataset: str, setting: str = "with_reasoning") -> Path:
        """Attention from answer sentences to reasoning sentences."""
        return self.data / "attention" / model / dataset / f"{setting}-sentences.parquet"

    def reading(self, reader: str, texts: str, dataset: str) -> Path:
        """Attention masses of a reader on the traces of another model."""
        return self.data / "attention" / reader / texts / f"{dataset}.parquet"

    def read_heads(self, reader: str, texts: str, dataset: str) -> Path:
        """The heads of a reader, and of the model whose traces it read."""
        return self.data / "heads" / reader / texts / f"{dataset}.parquet"

    def heads(self, model: str) -> Path:
        """Reasoning-Focus, induction and retrieval scores of every head."""
        return self.data / "heads" / f"{model}.parquet"

    def maps(self, model: str, dataset: str) -> Path:
        """Pooled attention maps of chosen traces."""
        return self.data / "maps" / model / f"{dataset}.parquet"

    def map_tokens(self, model: str, dataset: str) -> Path:
        """Tokens of the traces that have maps."""
        return self.data / "maps" / model / f"{dataset}-tokens.parquet"

    def map_spans(self, model: str, dataset: str) -> Path:
        """Attention from chosen spans to every token."""
        return self.data / "maps" / model / f"{dataset}-spans.parquet"

    def map_links(self, model: str, dataset: str) -> Path:
        """The most attended tokens of each token of reasoning and answer."""
        return self.data / "maps" / model / f"{dataset}-links.parquet"

    def map_lines(self, model: str, dataset: str) -> Path:
        """Which line of a trace reads which."""
        return self.data / "maps" / model / f"{dataset}-lines.parquet"

    @property
    def selected_pairs(self) -> Path:
        """Pairs that every model of the run can use."""
        return self.data / "pairs" / "selected.parquet"

    def pairs(self, model: str) -> Path:
        """Graded, filtered and aligned pairs of one model."""
        return self.data / "pairs" / f"{model}.parquet"

    def patching(self, model: str) -> Path:
        """NLD of every pair, layer and patched position."""
        return self.data / "patching" / f"{model}.parquet"

    def knockout(self, model: str, dataset: str) -> Path:
        """What cutting sets of heads costs the answer of each trace."""
        return self.data / "knockout" / model / f"{dataset}.parquet"

    def walks(self, model: str, dataset: str) -> Path:
        """What each head makes of the reasoning of each trace: excess, shape and ends of its walk."""
        return self.data / "walks" / model / f"{dataset}.parquet"

    def perturb(self, model: str, dataset: str) -> Path:
        """What becomes of the answer of each trace when its reasoning changes."""
        return self.data / "perturb" / model / f"{dataset}.parquet"

    def hidden_sentences(self, model: str, dataset: str) -> Path:
        """What hiding each sentence of the reasoning costs what follows."""
        return self.data / "sentences" / model / f"{dataset}.parquet"

    def receivers(self, model: str, dataset: str) -> Path:
        """How heads gather the attention of later sentences on few earlier ones."""
        return self.data / "sentences" / model / f"{dataset}-heads.parquet"

    def instruments(self, table: str) -> Path:
        """What every instrument says of every item, and how they compare: values, truth, auc or agreement."""
        return self.data / "instruments" / f"{table}.parquet"

    def figures(self, kind: str) -> Path:
        """Folder of the figures of one kind, as evaluation, attention or perturb."""
        return self.data / "figures" / kind

    @property
    def report(self) -> Path:
        """Folder of the page."""
        return self.data / "report"

    @property
    def page(self) -> Path:
        """The study as one page."""
        return self.report / "index.html"

    @property
    def pages(self) -> Path:
        """Folder of further pages, one a model and dataset, where one does not hold all: MODEL-DATASET.html."""
        return self.report / "pages"

    @property
    def against(self) -> Path:
        """The study as one page, beside another run; outside DVC."""
        return self.report / "against.html"

    @property
    def plots(self) -> Path:
        """Folder of the CSV files of dvc plots."""
        return self.report / "plots"

    def metrics(self, stage: str, *names: str) -> Path:
        """Metrics of one stage (JSON, in git): stage evaluate, names model, dataset -> evaluate-M-D.json."""
        return self.data / "metrics" / f"{'-'.join([stage, *names])}.json"
