"""CPU kernels for torch's varlen attention, which has none: slow, one document and head at a time. For tests only.

Importing this registers them; `varlen_attn` itself, its arguments and its autograd stay torch's own.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.attention import varlen


@varlen._varlen_attn.register_kernel("cpu")
def _forward(q: Tensor, k: Tensor, v: Tensor, bounds: Tensor, _: Tensor, *rest: object) -> tuple[Tensor, ...]:
    longest, is_causal = rest[0], rest[2]
    assert is_causal
    assert bounds.dtype == torch.int32
    assert int(bounds.diff().min()) > 0
    assert int(bounds.diff().max()) <= longest  # pyright: ignore[reportOperatorIssue]
    y = torch.empty_like(q)
    for of_one, seen in _attentions(q, k, bounds):
        y[of_one] = (seen @ v[of_one].float()).to(y.dtype)
    return y, q.new_zeros(q.shape[1], q.shape[0], dtype=torch.float), torch.zeros(2, dtype=torch.uint64)


@varlen._varlen_attn_backward.register_kernel("cpu")
def _backward(grad: Tensor, q: Tensor, k: Tensor, v: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
    bounds, scale = rest[2], q.shape[-1] ** -0.5
    of_q, of_k, of_v = (torch.empty_like(x) for x in (q, k, v))
    for of_one, seen in _attentions(q, k, bounds):
        g = grad[of_one].float()
        of_seen = g @ v[of_one].float().t()
        of_score = scale * seen * (of_seen - (of_seen * seen).sum(-1, keepdim=True))
        of_q[of_one] = (of_score @ k[of_one].float()).to(q.dtype)
        of_k[of_one] = (of_score.t() @ q[of_one].float()).to(q.dtype)
        of_v[of_one] = (seen.t() @ g).to(q.dtype)
    return of_q, of_k, of_v


def _attentions(q: Tensor, k: Tensor, bounds: Tensor) -> Iterator[tuple[tuple[slice, int], Tensor]]:
    """Each document's and head's place, and how much each of its positions sees of each."""
    edges = bounds.tolist()
    for document in map(slice, edges, edges[1:]):
        for head in range(q.shape[1]):
            place = (document, head)
            scores = q[place].float() @ k[place].float().t() * q.shape[-1] ** -0.5
            later = torch.ones_like(scores, dtype=torch.bool).triu(1)
            yield place, scores.masked_fill(later, float("-inf")).softmax(-1)
