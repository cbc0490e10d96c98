"""The sections `run`, `report` and `resources`, and the whole: what one section names must stand in another."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from r2a_core.config.attention import AttentionParams, CaptureParams, HeadsParams, MapParams
from r2a_core.config.datasets import PAIR_KINDS, DatasetParams, FileDataset
from r2a_core.config.experiments import InstrumentsParams, KnockoutParams, PerturbParams, SentencesParams, WalksParams
from r2a_core.config.models import EndpointModel, ModelParams, TextsModel
from r2a_core.config.pairs import PairsParams, PatchParams
from r2a_core.config.responses import EvaluateParams, GenerateParams, JudgeParams
from r2a_core.config.values import (
    LARGEST,
    SETTINGS,
    Count,
    Listed,
    Name,
    NonEmpty,
    Positive,
    Record,
    Setting,
    Text,
    Unique,
    format_value,
    refused,
    some_of,
)
from r2a_core.infra.errors import R2AError


class Reader(Record):
    """A model that reads what another one wrote, so that their heads can be compared on the same tokens."""

    model: Text
    texts: Text  # the model that wrote them


class RunParams(Record):
    """What runs: keys of `models` and `datasets`."""

    models: NonEmpty[Text]
    readers: Listed[Reader]
    datasets: NonEmpty[Text]
    settings: Annotated[Unique[Setting], some_of(Setting)]
    pairs: Text  # the dataset of pairs for activation patching

    @field_validator("pairs", mode="before")
    @classmethod
    def one_of_pairs(cls, pairs: Any) -> Any:
        """Refuses null: dvc.yaml names files by the dataset."""
        if pairs is None:
            raise refused("is null", "name a dataset of pairs; pairs.generate.limit: 0 leaves activation patching out")
        return pairs

    @field_validator("settings")
    @classmethod
    def with_reasoning_first(cls, settings: tuple[Setting, ...]) -> tuple[Setting, ...]:
        """Puts the settings in the order of SETTINGS. Refuses them without the one that heads, maps and page show."""
        if SETTINGS[0] not in settings:
            raise refused("is without with_reasoning", "add with_reasoning, which heads, maps and page are about")
        return tuple(setting for setting in SETTINGS if setting in settings)


class ReportParams(Record):
    """The section `report`: how much of the study the page carries."""

    title: Text
    about: dict[str, Text]  # by model: what its line on the first screen says of its size and training
    texts: Count  # items of each model and dataset whose two texts can be read
    traces: Count  # traces of each model and dataset in the trace reader
    heads: Count  # single heads of each trace in the trace reader
    rows: Annotated[int, Field(ge=8, lt=LARGEST)]  # most rows of a trajectory map
    columns: Annotated[int, Field(ge=8, le=512)]  # most columns of a trajectory map
    pairs: Count  # pairs of each model in the patching map
    megabytes: Positive  # MB; a larger page has fewer texts, traces and pairs, and says so


class ResourceParams(Record):
    """The section `resources`: how shards are run, which changes no result."""

    executor: Literal["local", "ray"]
    ray_address: Text | None  # null = start Ray on this machine; auto = the cluster it belongs to; HOST:PORT = another
    workers: Count | None  # null = one per GPU, or one per node where there are none
    start_seconds: Positive  # s to wait for a first worker
    memory_mib: Count | None = None  # MiB for responses growing at a time; null = what is free


class Params(Record):
    """The whole of params.yaml."""

    run: RunParams
    models: dict[Name, ModelParams]
    datasets: dict[Name, DatasetParams]
    generate: GenerateParams
    judge: JudgeParams
    evaluate: EvaluateParams
    capture: CaptureParams
    attention: AttentionParams
    heads: HeadsParams
    maps: MapParams
    pairs: PairsParams
    patch: PatchParams
    knockout: KnockoutParams
    walks: WalksParams
    perturb: PerturbParams
    sentences: SentencesParams
    instruments: InstrumentsParams
    report: ReportParams
    resources: ResourceParams

    @model_validator(mode="after")
    def named_entries(self) -> Self:
        """Raises R2AError where a section names a model or dataset that has no entry."""
        refuse_unknown(self, {"models": self.models, "datasets": self.datasets})
        return self

    @model_validator(mode="after")
    def readers_apart(self) -> Self:
        """Raises R2AError for a reader without weights of its own, and for texts that no model of the run writes."""
        names = [reader.model for reader in self.run.readers]
        for reader in self.run.readers:
            weightless = [
                f"{name!r}, which has no weights (kind {self.models[name].kind})"
                for name in (reader.model, reader.texts)
                if name in self.models and isinstance(self.models[name], TextsModel | EndpointModel)
            ]
            if reader.model in self.run.models:
                wrong, hint = f"{reader.model!r}, which run.models has too", "take it out of one of the two"
            elif names.count(reader.model) > 1:
                wrong, hint = f"{reader.model!r} twice", "give models a second entry of the same content"
            elif reader.texts not in self.run.models:
                wrong, hint = (
                    f"the texts of {format_value(reader.texts)}, which run.models lacks",
                    "add it to run.models",
                )
            elif weightless:
                wrong, hint = weightless[0], "name two models that have weights, and one vocabulary"
            else:
                continue
            raise R2AError(f"params.yaml: run.readers names {wrong}", hint)
        return self

    @model_validator(mode="after")
    def one_dataset_of_pairs(self) -> Self:
        """Raises R2AError when run.pairs is not a dataset of pairs, or is one that run.datasets names too."""
        pairs = self.run.pairs
        kind = self.datasets[pairs].kind
        if kind not in PAIR_KINDS:
            raise R2AError(
                f"params.yaml: run.pairs names {pairs!r}, a dataset of kind {kind}",
                f"name one of kind {', '.join(PAIR_KINDS)}",
            )
        if pairs in self.run.datasets:
            raise R2AError(
                f"params.yaml: {pairs!r} is in run.datasets and in run.pairs", "name it once: two stages would write it"
            )
        return self


def refuse_unknown(params: Params, entries: Mapping[str, Iterable[str]]) -> None:
    """Raises R2AError where a section that was read names a model or dataset that has no entry.

    entries: by `models` and `datasets`, the names that there are.
    """
    for section, place, names in named(params):
        for name in names:
            if name not in entries[section]:
                raise R2AError(
                    f"params.yaml: {place} names {format_value(name)}, which {section} does not have",
                    f"the {section} are {', '.join(entries[section])}",
                )


def named(params: Params) -> Iterator[tuple[str, str, Iterable[str]]]:
    """Yields each key of the sections that were read which names models or datasets: models or datasets, key, names."""
    read = params.model_fields_set
    if "run" in read:
        yield "models", "run.models", params.run.models
        yield "models", "run.readers", [reader.model for reader in params.run.readers]
        yield "datasets", "run.datasets", params.run.datasets
        yield "datasets", "run.pairs", [params.run.pairs]
    if "maps" in read:
        yield "models", "maps.heads", params.maps.heads
        yield "models", "maps.spans", [span.model for span in params.maps.spans]
        yield "datasets", "maps.items", params.maps.items
        yield "datasets", "maps.spans", [span.dataset for span in params.maps.spans]
    if "heads" in read:
        yield "models", "heads.retrieval.models", params.heads.retrieval.models
    if "report" in read:
        yield "models", "report.about", params.report.about
    if "instruments" in read:
        depends = params.instruments.depends
        yield "models", "instruments.depends", depends
        yield "datasets", "instruments.depends", [name for own in depends.values() for name in own]
    for name, entry in params.datasets.items() if "datasets" in read else ():
        if isinstance(entry, FileDataset):
            yield "models", f"datasets.{name}.texts_of", entry.texts_of
