"""Gradients of one step: micro-batches and ranks added up to those of the mean loss over all that counts.

In:  the model (in DDP where there are several ranks), this rank's arrays_AMT, how many targets count on all ranks.
Out: the mean loss; the gradients are in the weights.
Holds: they are the gradients of one pass over the whole step in one process, however it was split
       (tests/unit/test_gradients.py: to 1e-6 in float64).
"""

import contextlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from dataprep.batch import Batch
from train.head import UNCOUNTED
from train.ranks import Ranks


def accumulate_gradients(trained: nn.Module, arrays: Sequence[np.ndarray], *, loss_tokens: int, ranks: Ranks) -> float:
    """Add up the gradients of this rank's micro-batches; returns the mean loss over every rank's counted targets.

    DDP averages gradients over ranks, so each rank's share is multiplied by their number. Micro-batches with
    nothing in them take part too: a rank that stayed away would leave the others waiting.
    """
    n_counted = max(loss_tokens, 1)  # where nothing counts the loss is 0, not 0/0
    micro_batches = list(zip(*(torch.from_numpy(array_AMT).to(ranks.device) for array_AMT in arrays), strict=True))
    total = torch.zeros((), device=ranks.device)
    for i, micro_batch in enumerate(micro_batches, 1):
        with _exchange(trained, is_last=i == len(micro_batches)):
            with precision(ranks.device):
                summed = trained(*micro_batch)
            (summed * (ranks.world_size / n_counted)).backward()
        total += summed.detach()
    return ranks.sum_scalar(total) / n_counted


def among_ranks(model: nn.Module, ranks: Ranks, batch: Batch, *, by_document: bool) -> nn.Module:
    """`model`, and the gradients of several ranks averaged by DDP.

    DDP lays its buckets anew after its first backward pass, in the order the gradients came; with them changes the
    order in which three ranks or more are summed. A pass over nothing comes first, whose gradients are dropped: else
    the first step after a resume is summed as no step of the run that was never killed was.
    """
    if ranks.world_size == 1:
        return model
    trained = DistributedDataParallel(model, gradient_as_bucket_view=True)
    shape = (1, batch.micro_batch, batch.seq_len)
    nothing = (np.zeros(shape, np.int64), np.full(shape, UNCOUNTED), *([np.zeros(shape, np.int64)] * by_document))
    accumulate_gradients(trained, nothing, loss_tokens=0, ranks=ranks)
    trained.zero_grad()
    return trained


def precision(device: torch.device) -> torch.autocast:
    """On a GPU products are in bf16 over weights kept in fp32; a CPU computes in what the weights are."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda")


def _exchange(trained: nn.Module, *, is_last: bool) -> contextlib.AbstractContextManager[None]:
    """Gradients of all but a step's last micro-batch stay on their rank."""
    if isinstance(trained, DistributedDataParallel) and not is_last:
        return trained.no_sync()
    return contextlib.nullcontext()
