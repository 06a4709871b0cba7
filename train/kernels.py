"""Kernels: what a GPU gets besides plain torch: compiled blocks and head, and attention by document bounds.

In:  a model on its device, the shape of a micro-batch. Out: the model, set; a line for what could not be had.
Holds: both are rehearsed before a row is trained. What fails, or computes other values than the mask, is left to plain
       torch and said; an error that plain torch makes as well, or a lack of memory, passes through.
Compiled is each block in place, not the model: one block's code serves all, DDP's hooks and the weights' names stay.
"""

from functools import partial
from textwrap import shorten

import torch
from torch import Tensor

from dataprep.batch import Batch
from train.attention import attend, document_view
from train.gradients import precision
from train.head import loss_and_gradient, summed_loss
from train.model import GPT
from train.ranks import Ranks

_BF16_ERROR = 0.02  # of the largest value: two orders of summing in bf16 differ by less


def choose_kernels(model: GPT, ranks: Ranks, batch: Batch, *, compiled: bool, by_document: bool) -> None:
    """Set what this device does better than plain torch. All ranks do the same, or none does."""
    if ranks.device.type != "cuda":
        return
    if by_document:
        trouble = _first_trouble(ranks, varlen_trouble(model, ranks.device))
        model.varlen = trouble is None
        if trouble:
            ranks.say(f"attention inside documents goes by a mask, which is slower: {trouble}")
    if compiled:
        ranks.say("compiling, a minute or so (--no-compile begins at once)")
        trouble = _first_trouble(ranks, compile_trouble(model, batch, by_document=by_document))
        if trouble:
            torch.compiler.set_stance("force_eager")
            ranks.say(f"not compiled, training goes on without: {trouble}")


def compile_trouble(model: GPT, batch: Batch, *, by_document: bool, backend: str = "inductor") -> str | None:
    """Compile `model` for its micro-batches; why not, where only the compiler fails. It is then left eager."""
    # One shape for the whole run: dynamic shapes would cost speed and memory for nothing.
    compiled = partial(torch.compile, backend=backend, dynamic=False)
    for block in model.blocks:
        block.compile(backend=backend, dynamic=False)
    model.head_loss = partial(summed_loss, of_chunk=compiled(loss_and_gradient))
    rehearse = partial(_rehearse, model, batch, by_document=by_document)
    try:
        rehearse()
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # noqa: BLE001 -- compilers fail in every way; what is not theirs fails again below
        model.zero_grad()
        with torch.compiler.set_stance("force_eager"):
            rehearse()
        return _first_line(getattr(error, "inner_exception", error))  # what the backend said, not that it said it
    return None


def varlen_trouble(model: GPT, device: torch.device) -> str | None:
    """Why attention by document bounds is not to be used here; None where it gives the mask's values and gradients."""
    try:
        masked, by_bounds = (_attended(model, device, varlen=varlen) for varlen in (False, True))
    except torch.OutOfMemoryError:
        raise
    except (ImportError, TypeError, RuntimeError) as error:  # no such kernel, another signature, not on this device
        return _first_line(error)
    off = max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(by_bounds, masked, strict=True))
    return None if off < _BF16_ERROR else f"the varlen kernel is {off:.1%} off the mask's values"


def _attended(model: GPT, device: torch.device, *, varlen: bool) -> list[Tensor]:
    """Attention's values over a few documents, and their gradients."""
    shape = model.shape
    n_positions = min(256, model.cos_TE.shape[0])
    drawing = torch.Generator().manual_seed(0)

    def draw(n_heads: int) -> Tensor:
        drawn = torch.randn(2, n_heads, n_positions, shape.head_dim, generator=drawing)
        return drawn.to(device, torch.bfloat16).requires_grad_()

    q, k, v = draw(shape.n_heads), draw(shape.n_kv_heads), draw(shape.n_kv_heads)
    documents_BT = torch.arange(n_positions, device=device).div(n_positions // 3, rounding_mode="floor").expand(2, -1)
    y = attend(q, k, v, document_view(model.cos_TE, model.sin_TE, documents_BT, varlen=varlen))
    gradients = torch.autograd.grad(y.float().square().sum(), (q, k, v))
    return [each.float() for each in (y.detach(), *gradients)]


def _rehearse(model: GPT, batch: Batch, *, by_document: bool) -> None:
    """A forward and a backward pass over a micro-batch of nothing; the gradients are dropped."""
    device = model.embedding.weight.device
    rows_BT = torch.zeros(batch.micro_batch, batch.seq_len, dtype=torch.int64, device=device)
    with precision(device):
        loss = model(rows_BT, rows_BT, *([rows_BT] if by_document else []))
    loss.backward()
    model.zero_grad()


def _first_trouble(ranks: Ranks, trouble: str | None) -> str | None:
    return next((each for each in ranks.gather(trouble) if each), None)


def _first_line(error: Exception) -> str:
    return shorten(f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}", 160)
