"""The output head's loss on this machine: ours in chunks, torch's F.linear_cross_entropy, and full logits.

In:  positions, width, vocabulary. Out: milliseconds forward and backward, logits kept at once, distance from float64.
Run: python tests/bench/head_loss.py --vocab 8192 --width 128   (median of rounds that take turns)
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812 -- torch's own name for it
from torch import Tensor

from train.head import UNCOUNTED, summed_loss

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


def full_logits(hidden_ND: Tensor, weight_VD: Tensor, targets_N: Tensor) -> Tensor:
    """What everybody writes first: every logit at once."""
    return F.cross_entropy(F.linear(hidden_ND, weight_VD), targets_N, ignore_index=UNCOUNTED, reduction="sum")


def torchs_own(hidden_ND: Tensor, weight_VD: Tensor, targets_N: Tensor) -> Tensor:
    """Torch's chunked loss (torch >= 2.13). Without options it keeps every logit, so they are given."""
    options, kind = torch.nn.LinearCrossEntropyOptions(), hidden_ND.device.type
    if torch.is_autocast_enabled(kind):  # which does not reach in there
        dtype = torch.get_autocast_dtype(kind)
        hidden_ND, weight_VD = hidden_ND.to(dtype), weight_VD.to(dtype)
    return F.linear_cross_entropy(
        hidden_ND, weight_VD, targets_N, ignore_index=UNCOUNTED, reduction="sum", options=options
    )


def main() -> None:
    """Time each loss with its gradients, and hold it to float64."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--positions", type=int, default=1_024)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--vocab", type=int, default=8_192)
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    torch.manual_seed(0)
    hidden_ND = torch.randn(args.positions, args.width, requires_grad=True)
    weight_VD = (torch.randn(args.vocab, args.width) * 0.02).requires_grad_()
    targets_N = torch.randint(args.vocab, (args.positions,))
    targets_N[::7] = UNCOUNTED
    losses: dict[str, Loss] = {"full logits": full_logits, "ours, in chunks": summed_loss}
    if hasattr(F, "linear_cross_entropy"):
        losses["F.linear_cross_entropy"] = torchs_own

    wanted = gradients(full_logits, hidden_ND.double(), weight_VD.double(), targets_N)
    milliseconds: dict[str, list[float]] = {name: [] for name in losses}
    for _ in range(args.rounds):
        for name, loss in losses.items():
            started = time.perf_counter()
            gradients(loss, hidden_ND, weight_VD, targets_N)
            milliseconds[name].append(1e3 * (time.perf_counter() - started))
    for name, loss in losses.items():
        found = gradients(loss, hidden_ND, weight_VD, targets_N)
        off = max(float((a - b).norm() / b.norm()) for a, b in zip(found, wanted, strict=True))
        print(f"{name:24s} {statistics.median(milliseconds[name]):8.1f} ms   {off:.1e} from float64")


def gradients(loss: Loss, hidden_ND: Tensor, weight_VD: Tensor, targets_N: Tensor) -> tuple[Tensor, ...]:
    """By the hidden states and by the head, of the mean over what counts."""
    mean = loss(hidden_ND, weight_VD, targets_N) / int((targets_N != UNCOUNTED).sum())
    return torch.autograd.grad(mean, (hidden_ND, weight_VD))


if __name__ == "__main__":
    main()
