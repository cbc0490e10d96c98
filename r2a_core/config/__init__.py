"""Every record of params.yaml, one module for some sections each, and the one way to read it.

params.yaml -> `Params`: one frozen pydantic record per section. `load_params` reads the whole file and checks that what
one section names stands in another; `load_sections` reads only the sections that a stage declares.

Values live in params.yaml alone: no field that the study depends on has a default here. Unknown keys, impossible values
and secrets raise an R2AError that names the key, the value found and what is allowed. Others import from here.
"""

from r2a_core.config.attention import (
    CUE,
    CaptureConfig,
    CaptureParams,
    ChosenSpan,
    HeadsParams,
    InductionParams,
    MapParams,
    NeedleParams,
    Rows,
    WalkThresholds,
)
from r2a_core.config.datasets import PAIR_KINDS, BuiltinDataset, DatasetParams, FileDataset, GymDataset, HubDataset
from r2a_core.config.endpoint import EndpointParams, ServedModel
from r2a_core.config.experiments import (
    FreeParams,
    InstrumentsParams,
    KnockoutKind,
    KnockoutParams,
    PerturbFamily,
    PerturbParams,
    SentencesParams,
    ViewName,
    WalksParams,
)
from r2a_core.config.models import (
    AdapterRecipe,
    EndpointModel,
    GgufModel,
    GgufSource,
    HubModel,
    LocalModel,
    ModelParams,
    Tags,
    TaskMix,
    TaskName,
    TextMix,
    TextsModel,
    TrainedModel,
    TrainingRecipe,
)
from r2a_core.config.pairs import (
    AlignmentConfig,
    AlignParams,
    CrossingParams,
    PairCaptureParams,
    PatchingFigureParams,
    ProbeStyle,
    Role,
    SweepParams,
)
from r2a_core.config.reading import adapter, load_params, load_sections, parse, read_yaml
from r2a_core.config.responses import (
    MOST_REPEATS,
    Backends,
    EvaluateParams,
    GenerateParams,
    JudgeParams,
    ResponseParams,
    WithoutMode,
)
from r2a_core.config.study import Params, ReportParams, ResourceParams, RunParams, refuse_unknown
from r2a_core.config.values import SETTINGS, Dtype, Setting
