"""Rows of one batch have the logits that each has alone, whoever joins and leaves."""

import torch

from r2a_core.generation.batch import DecodingBatch
from r2a_core.models.load import LoadedModel


def test_rows_join_and_leave_without_a_trace_in_the_logits(loaded: LoadedModel) -> None:
    prompts = [[loaded.ids.bos, *range(10, 10 + length)] for length in (3, 9, 5, 14)]
    later = [[7], [8], [9], [11]]

    def alone(ids: list[int]) -> torch.Tensor:
        return loaded.model(torch.tensor([ids]), use_cache=False).logits[0, -1]

    with torch.no_grad():
        rows = DecodingBatch.start(loaded.model, prompts[:3], loaded.ids.pad)
        rows.step(torch.tensor([7, 8, 9]))
        rows.keep([0, 2])
        assert rows.mask.shape[1] == 7  # the longest left is BOS, 5 tokens and the new one
        rows.join(DecodingBatch.start(loaded.model, prompts[3:], loaded.ids.pad))
        rows.step(torch.tensor([20, 21, 22]))
        expected = [prompts[0] + later[0] + [20], prompts[2] + later[2] + [21], prompts[3] + [22]]
        for found, ids in zip(rows.logits, expected, strict=True):
            torch.testing.assert_close(found, alone(ids), atol=2e-5, rtol=1e-5)
