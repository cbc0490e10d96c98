"""What is written on from known keys and values is what whole passes write, token by token; each is run once."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch

from r2a_core.config import FreeParams, Tags
from r2a_core.generation.batch import DecodingBatch
from r2a_core.models.load import LoadedModel
from r2a_core.perturb.run import trace_cache
from r2a_core.perturb.writing import Start, Written, continue_texts
from r2a_core.tokenizer import LoadedTokenizer, TagIds
from tests.knockout.test_run import made_up_trace
from tests.perturb.test_run import made_up_arms, reading_of
from tests.small_models import EVERY_KIND, tiny_model

STOP, CLOSE = 9, 8  # what ends a text, and what ends the reasoning
TRACE = made_up_trace()
STARTS = [arm.ids for arm in made_up_arms(TRACE)]


def written(model: Any, starts: Sequence[tuple[int, ...]], batch_size: int = 6) -> list[Written]:
    reading, ids = reading_of(TRACE, [11]), TagIds(None, STOP, 7, CLOSE, 0)
    cache, loaded = trace_cache(model, reading), LoadedModel(model, LoadedTokenizer(None, Tags(), ids))
    free = FreeParams(traces=1, mistakes=1, max_new_tokens=12, batch_size=batch_size)
    return continue_texts(loaded, [Start(reading, cache, each) for each in starts], free, 1e-3, (CLOSE,))


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_every_start_is_gone_on_with_as_whole_passes_would(kind: str) -> None:
    model = tiny_model(kind)
    for start, found in zip(STARTS, written(model, STARTS), strict=True):
        ids = list(start)
        with torch.no_grad():
            while len(ids) < len(start) + 12 and ids[-1] not in (STOP, CLOSE):
                ids.append(int(model(torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
        assert found.ids == tuple(ids[len(start) :])


def test_what_is_shared_with_the_trace_is_not_run_again(monkeypatch: pytest.MonkeyPatch) -> None:
    model, starts, own, ran = tiny_model("qwen2"), STARTS[:5], len(STARTS[1]), []
    forward = DecodingBatch.forward
    monkeypatch.setattr(
        DecodingBatch, "forward", lambda self, ids, places: ran.append(ids.shape) or forward(self, ids, places)
    )
    found = written(model, starts)
    new = [1, 1, 3 + own - 14, 20, own]  # behind what each shares; the last token is always run
    assert [each.n_run - len(each.ids) + 1 for each in found] == new
    assert ran[:3] == [(2, own), (1, own - 11), (2, 1)]  # those alike in size enter together
    assert [each.ids for each in written(model, starts, 2)] == [each.ids for each in found]
