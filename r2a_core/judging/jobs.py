"""Asking the judge: responses -> rows of data/judgements/<model>/<dataset>.parquet.

Each reply is kept in the work store as one JSON file, under a digest of the whole message, the judge and how it was
asked. So a run that was stopped goes on where it was, more repeats ask for the new ones only, and a changed template or
response is judged again. A reply that cannot be used is asked for again, with a word on what was wrong.
"""

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import polars as pl
from pydantic import Field

from r2a_core.data.items import Item
from r2a_core.errors import MissingPrerequisite, R2AError
from r2a_core.judging.judgements import JUDGEMENT_SCHEMA, STATUSES
from r2a_core.judging.template import JudgeTemplate, Material, judge_message
from r2a_core.judging.verdict import Fault, Verdict, read_verdict
from r2a_core.provenance import fingerprint
from r2a_core.remote.client import Client, EndpointParams, Reply, Request, ask_all, progress_log
from r2a_core.remote.reply import total
from r2a_core.settings import SETTINGS
from r2a_core.store import WorkStore

log = logging.getLogger(__name__)
MOST_REPEATS = 100
# How servers say that a filter before the judge keeps one request out; other bad requests are the same for all.
FILTERED = ("content management policy", "content_filter", "flagged as potentially violating")
COLUMNS = ("item_id", "run", "status", "prompt_ids", "response_ids", "answer_start", "answer_end")
Decode = Callable[[list[int]], str]


@dataclass(frozen=True)
class JudgeParams:
    """The section `judge` of params.yaml."""

    endpoint: EndpointParams
    reported_model: str | None  # the only model that may answer, as the server names it; null = endpoint.model
    reply_format: Literal["json_object", "text"]  # json_object: the server is told to hold the judge to JSON
    max_tokens: Annotated[int, Field(gt=0)]  # tokens of a reply
    temperature: Annotated[float, Field(ge=0, le=2)] | None  # null = not sent
    seed: Annotated[int, Field(ge=0)] | None  # null = not sent
    repeats: Annotated[int, Field(gt=0, le=MOST_REPEATS)]  # judgements of each response
    attempts: Annotated[int, Field(gt=0, le=10)]  # times to ask until a reply can be used

    @property
    def expected_model(self) -> str:
        return self.reported_model or self.endpoint.model


@dataclass(frozen=True)
class Response:
    """A response to be judged: its question and the text of its answer, without the reasoning."""

    item: Item
    setting: str
    run: int
    answer: str


@dataclass
class Judgement:
    """One response in one repeat, while the judge is asked and after that."""

    response: Response
    repeat: int
    replies: list[Reply] = field(default_factory=list)
    fault: str = ""  # of the last reply
    status: str = ""
    verdict: Verdict | None = None

    def take(self, reply: Reply) -> None:
        """Reads a reply."""
        self.replies.append(reply)
        found = read_verdict(reply.text)
        if isinstance(found, Verdict):
            self.status, self.verdict = "ok", found
        elif is_refusal(reply):
            self.status = "refused"
        else:
            self.status, self.fault = "bad_reply", told(found, reply)

    def row(self) -> dict[str, Any]:
        """A row of JUDGEMENT_SCHEMA."""
        verdict, last = self.verdict, self.replies[-1]
        return {
            "item_id": self.response.item.item_id,
            "setting": self.response.setting,
            "run": self.response.run,
            "repeat": self.repeat,
            "status": self.status,
            "score": verdict.score if verdict else None,
            "judge_model": last.model,
            "strengths": verdict.strengths if verdict else None,
            "weaknesses": verdict.weaknesses if verdict else None,
            "attempts": len(self.replies),
            "prompt_tokens": total(reply.prompt_tokens for reply in self.replies),
            "completion_tokens": total(reply.completion_tokens for reply in self.replies),
            "reply": last.text.encode("utf-8", errors="replace").decode("utf-8"),
        }


def open_responses(items: Sequence[Item], generations: Mapping[str, pl.DataFrame], decode: Decode) -> list[Response]:
    """The responses to judge, in the order setting, run, item: to items of kind `open`, well-formed ones only.

    decode: token ids -> text. Raises R2AError for a response to no item of the dataset.
    """
    place = {item.item_id: number for number, item in enumerate(items)}
    found = []
    for setting in SETTINGS:
        rows = generations[setting].select(COLUMNS).filter(pl.col("status") == "ok")
        if lost := [item_id for item_id in rows["item_id"] if item_id not in place]:
            raise R2AError(
                f"{setting}: a response to {lost[0]!r}, which is no item", "generate again: dvc repro generate"
            )
        ordered = sorted(rows.iter_rows(named=True), key=lambda row: (row["run"], place[row["item_id"]]))
        for row in ordered:
            item = items[place[row["item_id"]]]
            if item.kind == "open":
                ids = [*row["prompt_ids"], *row["response_ids"]][row["answer_start"] : row["answer_end"]]
                found.append(Response(item, setting, row["run"], decode(ids)))
    return found


def connect(config: JudgeParams) -> Client:
    """The judge. Raises MissingPrerequisite without its key."""
    try:
        return Client(config.endpoint)
    except MissingPrerequisite as error:
        raise MissingPrerequisite(error.message, f"{error.hint}; or name a local judge in judge.endpoint") from None


def judge_all(
    client: Client, store: WorkStore, config: JudgeParams, template: JudgeTemplate, responses: Sequence[Response]
) -> pl.DataFrame:
    """Rows of JUDGEMENT_SCHEMA for all responses and repeats, from the store or asked now.

    Raises R2AError when another model than the expected one answers, and what `ask_all` raises.
    """
    judgements = [Judgement(response, repeat) for response in responses for repeat in range(config.repeats)]
    left = judgements
    for attempt in range(config.attempts):
        requests = [request(config, template, each, attempt) for each in left]
        replies = ask_all(client, requests, store, progress=progress_log("judge"))
        for judgement, reply in zip(left, replies, strict=True):
            judgement.take(reply)
        left = [each for each in left if each.status == "bad_reply"]
        if not left:
            break
        log.info("%d of %d replies cannot be used: %s", len(left), len(replies), "; ".join(faults(left)))
    frame = pl.DataFrame([each.row() for each in judgements], schema=JUDGEMENT_SCHEMA)
    tell_outcome(client.endpoint, frame)
    return frame


def request(config: JudgeParams, template: JudgeTemplate, judgement: Judgement, attempt: int) -> Request:
    """The question to the judge and the digest of all that its reply depends on."""
    response, extra = judgement.response, json.loads(judgement.response.item.extra)
    material = Material(extra.get("history", []), response.item.question, response.answer, extra.get("checklist", []))
    content = judge_message(template, material, judgement.fault)
    how: dict[str, Any] = {
        "max_tokens": config.max_tokens,
        "temperature": config.temperature,
        "seed": None if config.seed is None else config.seed + MOST_REPEATS * attempt + judgement.repeat,
        "response_format": {"type": "json_object"} if config.reply_format == "json_object" else None,
    }

    def ask(client: Client) -> Reply:
        try:
            reply = client.chat([{"role": "user", "content": content}], **how)
        except R2AError as error:
            if not any(words in error.message for words in FILTERED):
                raise
            return Reply("", None, "content_filter", 0, 0, None, {"error": error.message})
        check_model(reply, config)
        return reply

    key = {"item_id": response.item.item_id, "setting": response.setting, "run": response.run}
    key |= {"repeat": judgement.repeat, "attempt": attempt}
    judge = {"model": config.endpoint.model, "reported": config.expected_model, "template": template.version}
    return Request(fingerprint(**key, **judge, **how, content=content), ask)


def check_model(reply: Reply, config: JudgeParams) -> None:
    """Raises R2AError when another model answered than the one the scores shall be of."""
    if reply.model is not None and reply.model != config.expected_model:
        raise R2AError(
            f"the judge at {config.endpoint.base_url} answers as {reply.model!r}, not as {config.expected_model!r}",
            "name a pinned version in judge.endpoint.model; if this is the judge you mean, put the name it gives "
            "itself into judge.reported_model",
        )


def is_refusal(reply: Reply) -> bool:
    """Whether the judge, or a filter before it, declined to judge."""
    message = (reply.raw.get("choices") or [{}])[0].get("message") or {}
    return reply.finish == "content_filter" or bool(message.get("refusal"))


def told(fault: Fault, reply: Reply) -> str:
    return "it was cut off before its end" if reply.finish == "length" else fault.reason


def faults(judgements: Sequence[Judgement]) -> Iterator[str]:
    """Each fault with how often it came, the most frequent first."""
    for fault, count in Counter(each.fault for each in judgements).most_common():
        yield f"{fault} ({count})"


def tell_outcome(endpoint: EndpointParams, frame: pl.DataFrame) -> None:
    """Logs how many judgements came out how, and what they took."""
    counts = {status: int((frame["status"] == status).sum()) for status in STATUSES}
    prompt, completion = (total(frame[f"{name}_tokens"].to_list()) for name in ("prompt", "completion"))
    cost = endpoint.cost(prompt, completion)
    spent = "" if prompt is None else f"; {prompt} tokens read, {completion} written"
    spent += "" if cost is None else f", {cost:.2f} in money"
    lost = frame.height - counts["ok"]
    log.log(
        logging.WARNING if lost else logging.INFO,
        "%d judgements: %s%s",
        frame.height,
        ", ".join(f"{count} {status}" for status, count in counts.items()),
        spent,
    )
    if frame.filter(pl.col("status") == "ok")["judge_model"].null_count():
        log.warning("%s does not say which model judged: the column judge_model is empty", endpoint.base_url)
    if frame.height and lost == frame.height:
        log.warning("no reply of the judge could be used: choose another judge, or a larger judge.max_tokens")
