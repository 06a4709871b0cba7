"""The output head and its loss in one pass: a chunk's logits become gradients at once and are dropped.

In:  hidden_ND, the head's weight_VD, targets_N (int64; -1 does not count). Out: cross-entropy, summed or by target.
Holds: no more than one chunk of logits exists, whatever the batch; where nothing counts, loss and gradients are 0.
Cost: three products of the head instead of the four that recomputing takes: 1.2x the whole step at V=8,192 on a CPU.
Not F.linear_cross_entropy (torch >= 2.13): on a CPU it is as fast at V=8,192 and 3 to 7 times slower at V=50,304.
Suffixes: N positions, D width, V vocabulary, C positions of one chunk.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 -- torch's own name for it
from torch import Tensor

UNCOUNTED = -1
# Logits of one chunk. A CPU wants them in its cache (8 MiB in fp32), a GPU wants large products (512 MiB).
_CHUNK_LOGITS = {"cpu": 1 << 21, "cuda": 1 << 27}
# hidden_CD, head_VD, targets_C, the weights' dtype -> the chunk's summed loss, and its gradient by the logits.
OfChunk = Callable[[Tensor, Tensor, Tensor, torch.dtype], tuple[Tensor, Tensor]]


def loss_and_gradient(
    hidden_CD: Tensor, head_VD: Tensor, targets_C: Tensor, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """One chunk's summed loss in `dtype` and its gradient_CV by the logits: softmax minus the target, where it counts.

    On a GPU this is bound by memory, a dozen passes over the logits: train.kernels has it compiled into few.
    """
    counted_C1 = (targets_C != UNCOUNTED).to(dtype)[:, None]
    targets_C1 = targets_C.clamp(min=0)[:, None]
    grad_CV = F.log_softmax(F.linear(hidden_CD, head_VD).to(dtype), dim=-1)
    loss = -(grad_CV.gather(1, targets_C1) * counted_C1).sum()
    grad_CV.exp_().scatter_add_(1, targets_C1, -torch.ones_like(counted_C1))
    return loss, grad_CV.mul_(counted_C1).to(hidden_CD.dtype)


def summed_loss(
    hidden_ND: Tensor, weight_VD: Tensor, targets_N: Tensor, of_chunk: OfChunk = loss_and_gradient
) -> Tensor:
    """Cross-entropy summed over the targets that count, a scalar in fp32 or wider."""
    return _HeadLoss.apply(hidden_ND, weight_VD, targets_N, of_chunk)  # pyright: ignore[reportReturnType] -- untyped


class _HeadLoss(torch.autograd.Function):
    """Both gradients are ready after the forward pass; the backward pass only scales them."""

    @staticmethod
    def forward(ctx: Any, hidden_ND: Tensor, weight_VD: Tensor, targets_N: Tensor, of_chunk: OfChunk) -> Tensor:
        kind = hidden_ND.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight_VD.dtype
        # With fewer positions than the width, adding to the weight's gradient would cost more than the products.
        n_chunk = max(weight_VD.shape[1], _CHUNK_LOGITS[kind] // weight_VD.shape[0])
        grad_hidden_ND, grad_weight_VD = torch.empty_like(hidden_ND), torch.zeros_like(weight_VD)
        total = weight_VD.new_zeros(())
        with torch.autocast(kind, enabled=False):
            head_VD = weight_VD.to(dtype)
            for first in range(0, hidden_ND.shape[0], n_chunk):
                chunk = slice(first, first + n_chunk)
                hidden_CD = hidden_ND[chunk].to(dtype)
                loss, grad_CV = of_chunk(hidden_CD, head_VD, targets_N[chunk], weight_VD.dtype)
                total += loss
                grad_hidden_ND[chunk] = grad_CV @ head_VD
                grad_weight_VD += grad_CV.t() @ hidden_CD
        ctx.save_for_backward(grad_hidden_ND, grad_weight_VD)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None]:
        grad_hidden_ND, grad_weight_VD = ctx.saved_tensors
        return grad_hidden_ND * grads[0], grad_weight_VD * grads[0], None, None


@torch.no_grad()
def token_losses(hidden_ND: Tensor, weight_VD: Tensor, targets_N: Tensor) -> Tensor:
    """Cross-entropy of each target, losses_N in fp32 or wider; 0 where it does not count. Without gradients."""
    kind = hidden_ND.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight_VD.dtype
    n_chunk = max(1, _CHUNK_LOGITS[kind] // weight_VD.shape[0])
    losses_N = weight_VD.new_empty(targets_N.shape)
    with torch.autocast(kind, enabled=False):
        head_VD = weight_VD.to(dtype)
        for first in range(0, len(targets_N), n_chunk):
            chunk = slice(first, first + n_chunk)
            logits_CV = F.linear(hidden_ND[chunk].to(dtype), head_VD).to(weight_VD.dtype)
            losses_N[chunk] = F.cross_entropy(logits_CV, targets_N[chunk], ignore_index=UNCOUNTED, reduction="none")
    return losses_N
