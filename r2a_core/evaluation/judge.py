"""Lets a judge model score open answers (paper section 3, WildBench): responses -> rows of data/judgements.

Each reply is kept in the work store under a digest of the message, the judge and the sampling, so that a stopped run
resumes, more repeats ask for the new ones only, and a changed template or response is judged again. A reply that cannot
be used is asked for again, with a word on what was wrong.
"""

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from r2a_core.config import MOST_REPEATS, EndpointParams, JudgeParams
from r2a_core.data.items import Item
from r2a_core.evaluation.judge_message import JudgeInput, JudgeTemplate, judge_message, read_template
from r2a_core.evaluation.judge_reply import (
    JUDGEMENT_SCHEMA,
    STATUSES,
    JudgeVerdict,
    ReplyFault,
    read_verdict,
    replace_surrogates,
)
from r2a_core.infra.errors import MissingPrerequisite, R2AError
from r2a_core.infra.shards import WorkStore, fingerprint
from r2a_core.models.tokenizers import load_tokenizer
from r2a_core.openai_api.client import Client
from r2a_core.openai_api.reply import Reply, total
from r2a_core.openai_api.stored_replies import Request, ask_all
from r2a_core.trace import SETTINGS

log = logging.getLogger(__name__)


# How servers say that a filter before the judge keeps one request out; other bad requests are the same for all.
FILTERED = ("content management policy", "content_filter", "flagged as potentially violating")

RESPONSE_COLUMNS = ("item_id", "run", "status", "prompt_ids", "response_ids", "answer_start", "answer_end")


@dataclass(frozen=True)
class Response:
    """A response to be judged: its question and the text of its answer, without the reasoning."""

    item: Item
    setting: str
    run: int
    answer: str


@dataclass
class Judgement:
    """One response in one repeat: what the judge said to it so far."""

    response: Response
    repeat: int
    replies: list[Reply] = field(default_factory=list)
    fault: str = ""  # of the last reply
    status: str = ""
    verdict: JudgeVerdict | None = None

    def take(self, reply: Reply) -> None:
        """Reads a further reply."""
        self.replies.append(reply)
        found = read_verdict(reply.text)
        if isinstance(found, JudgeVerdict):
            self.status, self.verdict = "ok", found
        elif is_refusal(reply):
            self.status = "refused"
        else:
            self.status, self.fault = "bad_reply", describe_fault(found, reply)

    def row(self) -> dict[str, Any]:
        """Returns a row of JUDGEMENT_SCHEMA."""
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
            "reply": replace_surrogates(last.text),
        }


def judge_dataset(
    config: JudgeParams,
    items: Sequence[Item],
    generations: Mapping[str, pl.DataFrame],
    model_folder: Path,
    store: WorkStore,
) -> pl.DataFrame:
    """Judges the open answers of one model to one dataset; without any, no rows, and no judge is asked.

    generations: by setting. model_folder: of the model that wrote the answers, for its tokenizer.
    """
    if not any(item.kind == "open" for item in items):
        return pl.DataFrame(schema=JUDGEMENT_SCHEMA)
    tokenizer = load_tokenizer(model_folder).hf
    responses = open_responses(
        items, generations, lambda ids: tokenizer.decode(ids, clean_up_tokenization_spaces=False)
    )
    if not responses:
        return pl.DataFrame(schema=JUDGEMENT_SCHEMA)
    return judge_all(connect(config), store, config, read_template(), responses)


def open_responses(
    items: Sequence[Item], generations: Mapping[str, pl.DataFrame], decode: Callable[[list[int]], str]
) -> list[Response]:
    """Selects the well-formed responses to items of kind `open`, in the order setting, run, item.

    decode: token ids -> text.
    """
    place = {item.item_id: number for number, item in enumerate(items)}
    found = []
    for setting in (setting for setting in SETTINGS if setting in generations):
        rows = generations[setting].select(RESPONSE_COLUMNS).filter(pl.col("status") == "ok")
        ordered = sorted(rows.iter_rows(named=True), key=lambda row: (row["run"], place[row["item_id"]]))
        for row in ordered:
            item = items[place[row["item_id"]]]
            if item.kind == "open":
                ids = [*row["prompt_ids"], *row["response_ids"]][row["answer_start"] : row["answer_end"]]
                found.append(Response(item, setting, row["run"], decode(ids)))
    return found


def connect(config: JudgeParams) -> Client:
    """Returns the judge's client. Raises MissingPrerequisite without its key."""
    try:
        return Client(config.endpoint)
    except MissingPrerequisite as error:
        raise MissingPrerequisite(error.message, f"{error.hint}; or name a local judge in judge.endpoint") from None


def judge_all(
    client: Client, store: WorkStore, config: JudgeParams, template: JudgeTemplate, responses: Sequence[Response]
) -> pl.DataFrame:
    """Returns the rows of JUDGEMENT_SCHEMA for all responses and repeats, from the store or asked now.

    Raises R2AError when another model than the expected one answers, and what `ask_all` raises.
    """
    judgements = [Judgement(response, repeat) for response in responses for repeat in range(config.repeats)]
    left = judgements
    for attempt in range(config.attempts):
        requests = [request(config, template, each, attempt) for each in left]
        replies = ask_all(client, requests, store, "judge")
        for judgement, reply in zip(left, replies, strict=True):
            judgement.take(reply)
        left = [each for each in left if each.status == "bad_reply"]
        if not left:
            break
        log.info("%d of %d replies cannot be used: %s", len(left), len(replies), "; ".join(faults(left)))
    frame = pl.DataFrame([each.row() for each in judgements], schema=JUDGEMENT_SCHEMA)
    log_summary(client.endpoint, frame)
    return frame


def request(config: JudgeParams, template: JudgeTemplate, judgement: Judgement, attempt: int) -> Request:
    """Builds one request to the judge, with a digest of all that its reply depends on."""
    response, extra = judgement.response, json.loads(judgement.response.item.extra)
    material = JudgeInput(extra.get("history", []), response.item.question, response.answer, extra.get("checklist", []))
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
    """Raises R2AError when another model answered than the one whose scores are wanted."""
    if reply.model is not None and reply.model != config.expected_model:
        raise R2AError(
            f"the judge at {config.endpoint.base_url} answers as {reply.model!r}, not as {config.expected_model!r}",
            "name a pinned version in judge.endpoint.model; if this is the judge you mean, put the name it gives "
            "itself into judge.reported_model",
        )


def is_refusal(reply: Reply) -> bool:
    """Tells whether the judge, or a filter before it, declined to judge."""
    message = (reply.raw.get("choices") or [{}])[0].get("message") or {}
    refusal = message.get("refusal")
    return reply.finish == "content_filter" or (isinstance(refusal, str) and refusal != "")


def describe_fault(fault: ReplyFault, reply: Reply) -> str:
    """Says what was wrong with a reply; an incomplete one was cut off."""
    return "it was cut off before its end" if reply.finish == "length" else fault.reason


def faults(judgements: Sequence[Judgement]) -> Iterator[str]:
    """Yields each fault with its count, the most frequent first."""
    for fault, count in Counter(each.fault for each in judgements).most_common():
        yield f"{fault} ({count})"


def log_summary(endpoint: EndpointParams, frame: pl.DataFrame) -> None:
    """Logs the outcomes of the judgements, their tokens and their price."""
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
