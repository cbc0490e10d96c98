"""The sections `generate`, `judge` and `evaluate`: responses, their scores, their grades."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from r2a_core.config.endpoint import EndpointParams
from r2a_core.config.values import ByModel, Count, Positive, Record, Text, Whole, refused

WithoutMode = Literal["finished", "empty"]
BackendName = Literal["transformers", "vllm"]
Backends = ByModel[BackendName]  # what runs the models that have weights


class ResponseParams(Record):
    """How responses are generated: the keys that `generate` and `pairs.generate` share."""

    max_new_tokens: Count  # tokens of a response
    batch_size: Count  # responses that grow at a time; changes no text of a float32 model
    tie_margin: Annotated[float, Field(ge=0, lt=1)]  # logits over temperature: nearer decisions are made on one item
    shard_items: Count  # questions per shard: what a killed run may lose
    limit: Whole | None = None  # first selected pairs; null = all, 0 = no activation patching
    backend: Backends = Backends(default="transformers")

    def sampled(self, temperature: float = 0.0, seed: int = 0) -> "GenerateParams":
        """Returns the same params with one response per question, greedy unless a temperature is given."""
        shared: dict[str, Any] = dict(self) | {
            "limit": self.limit or None
        }  # of pairs, 0 has left all of them out before
        return GenerateParams(
            **shared, temperature=temperature, seed=seed, runs=1, retry=False, without_mode="finished"
        )


LEAST_TEMPERATURE = 0.05  # logits differ by 3e-5 between float32 batches, so leads over a smaller one pass tie_margin


def hot_enough(temperature: float) -> float:
    """Refuses a temperature so small that rounding would choose tokens."""
    if 0 < temperature < LEAST_TEMPERATURE:
        raise refused(
            "is so small that rounding would choose tokens", f"take 0, greedy, or {LEAST_TEMPERATURE} or more"
        )
    return temperature


class GenerateParams(ResponseParams):
    """The section `generate`."""

    limit: Count | None = None  # first questions of the dataset; null = all
    temperature: Annotated[float, Field(ge=0, le=10), AfterValidator(hot_enough)]  # 0 = greedy
    seed: Whole
    runs: Count  # responses to each question
    retry: bool  # a second attempt at what left the funnel
    without_mode: WithoutMode  # how the prompt without reasoning closes the thinking

    @property
    def decoding(self) -> str:
        """Names how tokens are chosen, as a label for tables."""
        return "greedy" if self.temperature == 0 else f"temperature {self.temperature:g}"


MOST_REPEATS = 100


class JudgeParams(Record):
    """The section `judge`: how a judge model scores open answers."""

    endpoint: EndpointParams
    reported_model: Text | None  # the only model that may answer, as the server names it; null = endpoint.model
    reply_format: Literal["json_object", "text"]  # json_object: the server constrains the judge to JSON
    max_tokens: Count  # tokens of a reply
    temperature: Annotated[float, Field(ge=0, le=2)] | None  # null = not sent
    seed: Whole | None  # null = not sent
    repeats: Annotated[int, Field(gt=0, le=MOST_REPEATS)]  # judgements of each response
    attempts: Annotated[int, Field(gt=0, le=10)]  # times to ask until a reply can be used

    @property
    def expected_model(self) -> str:
        return self.reported_model or self.endpoint.model


class EvaluateParams(Record):
    """The section `evaluate`."""

    timeout_seconds: Positive  # s, wall time to grade one answer
    bootstrap_draws: Annotated[int, Field(ge=100, le=1_000_000)]  # resamples for the 95% interval
    seed: Whole  # of the bootstrap
