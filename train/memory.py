"""Memory: the answer to a GPU that cannot hold the micro-batch asked for, in numbers that were tried.

In:  a model, its batch, torch's out-of-memory error. Out: an EnvironmentProblem that names the micro-batch that fits.
Holds: the advice keeps tokens per step; it comes from forward and backward passes that did fit on this very device.
largest_fit(of_one=10, of_two=16, more=4, capacity=60) == 7: 10 + 6·6 + 4 = 50 is within nine tenths of 60, 56 is not
"""

import contextlib
import traceback
from collections.abc import Iterator

import torch
from torch import nn

from dataprep.batch import Batch, divisors
from dataprep.errors import EnvironmentProblem
from train.optim import Optimizer

_MARGIN = 0.9  # the allocator loses some to fragments, and rows differ in their documents


@contextlib.contextmanager
def answering_out_of_memory(
    model: nn.Module, optimizer: Optimizer, batch: Batch, *, by_document: bool
) -> Iterator[None]:
    """Turn torch's error inside the block into advice. Raises EnvironmentProblem."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        # The frames of the failed pass still hold its tensors: without this nothing smaller fits either.
        traceback.clear_frames(error.__traceback__)
        seen = str(error).partition(".")[0]
    else:
        return
    optimizer.zero_grad()
    raise out_of_memory(batch, seen=seen, micro_batch=_probe(model, optimizer, batch, by_document=by_document))


def largest_fit(*, of_one: int, of_two: int, more: int, capacity: int) -> int:
    """Rows per micro-batch within `capacity` bytes, by the peaks of one and of two rows; 0 where not even one fits.

    `more` is what a step needs beside that peak: an optimizer's moments, before there are any.
    """
    room = _MARGIN * capacity - more - of_one
    return 0 if room < 0 else 1 + int(room // max(of_two - of_one, 1))


def out_of_memory(batch: Batch, *, seen: str, micro_batch: int) -> EnvironmentProblem:
    """The error for people. `micro_batch` is what fits at most; the advice divides this rank's rows."""
    fits = max((divisor for divisor in divisors(batch.rank_rows) if divisor <= micro_batch), default=0)
    accumulation = batch.rank_rows // fits if fits else 0
    return EnvironmentProblem(
        f"the GPU cannot hold micro-batch {batch.micro_batch} of {batch.seq_len:,} tokens",
        seen=seen,
        wanted=f"at most {micro_batch} rows at once" if fits else "memory for one row of this model",
        fix=f"--micro-batch {fits} (accumulation {accumulation}: tokens per step stay the same)"
        if fits
        else "a smaller --model, a recipe with a smaller --seq-len, or a GPU with more memory",
    )


def _probe(model: nn.Module, optimizer: Optimizer, batch: Batch, *, by_document: bool) -> int:
    """Run one row, then two, and see what they take."""
    device = next(model.parameters()).device
    try:
        of_one = _peak(model, 1, batch.seq_len, device, by_document=by_document)
        of_two = _peak(model, 2, batch.seq_len, device, by_document=by_document) if batch.micro_batch > 1 else of_one
    except torch.OutOfMemoryError:
        return 0
    free, _ = torch.cuda.mem_get_info(device)
    capacity = free + torch.cuda.memory_reserved(device)  # other processes' share is not ours
    trained = sum(weight.numel() * weight.element_size() for weight in model.parameters())
    return largest_fit(of_one=of_one, of_two=of_two, more=0 if optimizer.state else 2 * trained, capacity=capacity)


def _peak(model: nn.Module, n_rows: int, seq_len: int, device: torch.device, *, by_document: bool) -> int:
    """Bytes at the height of a forward and backward pass; eager, which takes more than compiled and no minute."""
    rows_BT = torch.zeros(n_rows, seq_len, dtype=torch.int64, device=device)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    with torch.compiler.set_stance("force_eager"), torch.autocast(device.type, dtype=torch.bfloat16):
        model(rows_BT, rows_BT, *([rows_BT] if by_document else [])).backward()
    model.zero_grad(set_to_none=True)
    return torch.cuda.max_memory_allocated(device)
