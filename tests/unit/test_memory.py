"""Out of memory: the advice is arithmetic over what was measured."""

import pytest
import torch
from torch import nn

from dataprep.batch import Batch
from dataprep.errors import EnvironmentProblem
from train import memory
from train.memory import answering_out_of_memory, largest_fit, out_of_memory

BATCH = Batch(seq_len=2048, world_size=4, micro_batch=32, accumulation=2)


@pytest.mark.parametrize(("capacity", "fits"), [(60, 7), (59, 7), (200, 28), (15, 0), (16, 1)])
def test_the_largest_micro_batch_fits_within_nine_tenths(capacity: int, fits: int) -> None:
    assert largest_fit(of_one=10, of_two=16, more=4, capacity=capacity) == fits


def test_the_advice_divides_the_ranks_rows_and_keeps_tokens_per_step() -> None:
    error = out_of_memory(BATCH, seen="CUDA out of memory", micro_batch=21)
    assert "--micro-batch 16 (accumulation 4" in str(error)
    assert BATCH.rows == 4 * 16 * 4
    assert "at most 21 rows" in str(error)
    assert "smaller --model" in str(out_of_memory(BATCH, seen="CUDA out of memory", micro_batch=0))


def test_an_out_of_memory_error_becomes_advice_that_was_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Linear(4, 4)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(4)).sum().backward()
    monkeypatch.setattr(memory, "_peak", lambda _model, rows, *_, **__: (10 + 6 * (rows - 1)) << 20)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _device: (60 << 20, 0))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _device: 10 << 20)
    answering = answering_out_of_memory(model, optimizer, BATCH, by_document=False)
    with pytest.raises(EnvironmentProblem, match="--micro-batch 8") as raised, answering:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB. …")
    assert "at most 9 rows" in str(raised.value)
    assert all(weight.grad is None for weight in model.parameters()), "the failed pass must leave nothing"


def test_no_other_error_is_taken_for_a_lack_of_memory() -> None:
    model = nn.Linear(4, 4)
    answering = answering_out_of_memory(model, torch.optim.AdamW(model.parameters()), BATCH, by_document=False)
    with pytest.raises(RuntimeError, match="shapes"), answering:
        raise RuntimeError("shapes cannot be multiplied")
