"""AdamW with decay on matrices only, and the learning rate as a function of tokens.

In:  a model; tokens done and tokens in the plan. Out: an optimizer; a rate.
Holds: the rate depends on nothing but its arguments, so another batch or world size does not make it jump.
learning_rate(25, plan_tokens=1_000, peak=1.0) == 0.5
"""

import math
from fractions import Fraction

import torch
from torch import nn

WARMUP_SHARE = Fraction(1, 20)  # of the plan's tokens
FINAL_SHARE = Fraction(1, 10)  # of the peak
GRAD_NORM_LIMIT = 1.0
_BETAS = (0.9, 0.95)
_WEIGHT_DECAY = 0.1


def learning_rate(tokens_done: int, *, plan_tokens: int, peak: float) -> float:
    """Linear up to `peak` over the first twentieth of the plan, then half a cosine down to a tenth of it."""
    done = Fraction(min(tokens_done, plan_tokens), plan_tokens)
    if done < WARMUP_SHARE:
        return peak * float(done / WARMUP_SHARE)
    way_down = float((done - WARMUP_SHARE) / (1 - WARMUP_SHARE))
    final = peak * float(FINAL_SHARE)
    return final + (peak - final) * (1 + math.cos(math.pi * way_down)) / 2


def make_optimizer(model: nn.Module) -> torch.optim.AdamW:
    """AdamW over `model`; `set_learning_rate` before each step gives it its rate."""
    weights = list(model.parameters())
    groups = [
        {"params": [w for w in weights if w.ndim >= 2], "weight_decay": _WEIGHT_DECAY},  # noqa: PLR2004 -- matrices
        {"params": [w for w in weights if w.ndim < 2], "weight_decay": 0.0},  # noqa: PLR2004 -- norms
    ]
    return torch.optim.AdamW(groups, lr=0.0, betas=_BETAS, fused=True)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every group the same rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate
