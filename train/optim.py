"""AdamW, or Muon with it, and the learning rate as a function of tokens.

In:  a model and what --optimizer says; tokens done and tokens in the plan. Out: an optimizer; a rate.
Holds: the rate depends on nothing but its arguments, so another batch or world size does not make it jump;
       one rate serves both optimizers: Muon's updates are scaled to the size of AdamW's.
learning_rate(25, plan_tokens=1_000, peak=1.0, schedule="cosine", warmup_share=Fraction(1, 20)) == 0.5
"""

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from dataprep.errors import EnvironmentProblem, as_typed

GRAD_NORM_LIMIT = 1.0
_FINAL_SHARE = Fraction(1, 10)  # of the peak, whatever the schedule: a last step at 0 would be work for nothing
# Of the plan's tokens. A fall over the last fifth matched a full cosine: Hägele et al. 2024, arXiv 2405.18392, which
# also found 1 - sqrt to be a better way down than a line. The idea is MiniCPM's, arXiv 2404.06395.
_WSD_FALL_SHARE = Fraction(1, 5)
_BETAS = (0.9, 0.95)
_WEIGHT_DECAY = 0.1


class Optimizer(Protocol):
    """What the loop and checkpoints need of one."""

    @property
    def param_groups(self) -> list[dict[str, Any]]: ...  # noqa: D102 -- torch's own names and meanings
    @property
    def state(self) -> Mapping[Any, Any]: ...  # noqa: D102 -- empty before the first step
    def step(self) -> Any: ...  # noqa: D102
    def zero_grad(self) -> None: ...  # noqa: D102
    def state_dict(self) -> dict[str, Any]: ...  # noqa: D102
    def load_state_dict(self, state_dict: dict[str, Any]) -> None: ...  # noqa: D102


def learning_rate(tokens_done: int, *, plan_tokens: int, peak: float, schedule: str, warmup_share: Fraction) -> float:
    """Linear up to `peak`, then by `schedule` down to a tenth of it.

    cosine  half a cosine over all that is left      wsd  stay at the peak, then 1 - sqrt over the last fifth
    """
    done = Fraction(min(tokens_done, plan_tokens), plan_tokens)
    if done < warmup_share:
        return peak * float(done / warmup_share)
    final = peak * float(_FINAL_SHARE)
    if schedule == "cosine":
        way_down = float((done - warmup_share) / (1 - warmup_share))
        return final + (peak - final) * (1 + math.cos(math.pi * way_down)) / 2
    way_down = float(max(Fraction(0), 1 - (1 - done) / _WSD_FALL_SHARE))
    return final + (peak - final) * (1 - math.sqrt(way_down))


def make_optimizer(model: nn.Module, kind: str) -> Optimizer:
    """An optimizer over `model`; `set_learning_rate` before each step gives it its rate."""
    hidden = [weight for name, weight in model.named_parameters() if name.startswith("blocks.") and _is_matrix(weight)]
    if kind == "adamw":
        return _adamw(list(model.parameters()))
    if not hasattr(torch.optim, "Muon"):
        raise EnvironmentProblem(
            "this torch has no Muon optimizer",
            seen=f"torch {torch.__version__}",
            wanted="torch.optim.Muon",
            fix=as_typed("python -m pip install 'torch>=2.11'; or --optimizer adamw"),
        )
    # match_rms_adamw: 0.2 sqrt(longer side), so that rate and decay tuned for AdamW serve: arXiv 2502.16982.
    muon = torch.optim.Muon(hidden, lr=0.0, weight_decay=_WEIGHT_DECAY, adjust_lr_fn="match_rms_adamw")
    mine = set(hidden)
    return MuonWithAdamW(muon, _adamw([weight for weight in model.parameters() if weight not in mine]))


def set_learning_rate(optimizer: Optimizer, rate: float) -> None:
    """Give every group the same rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def moment_names(group: Mapping[str, Any]) -> tuple[str, ...]:
    """What an optimizer of ours remembers of each weight of a group, once it has made a step."""
    return ("step", "exp_avg", "exp_avg_sq") if "betas" in group else ("momentum_buffer",)


class MuonWithAdamW:
    """Muon for the blocks' matrices, AdamW for embedding, head and norms, handled as one.

    With several ranks each makes the same update from the same gradients. A matrix m x n, m <= n, costs 5 rounds of
    4 m² n + 2 m³ FLOPs a step whatever the batch: for 500m 1.3e13, 0.8% of a step of 524,288 tokens on one GPU.
    """

    def __init__(self, muon: Optimizer, adamw: Optimizer) -> None:
        self._parts = {"muon": muon, "adamw": adamw}

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Both parts' groups."""
        return [group for part in self._parts.values() for group in part.param_groups]

    @property
    def state(self) -> dict[Any, Any]:
        """Both parts' moments, by weight."""
        return {weight: moments for part in self._parts.values() for weight, moments in part.state.items()}

    def step(self) -> None:
        """Update every weight."""
        for part in self._parts.values():
            part.step()

    def zero_grad(self) -> None:
        """Drop every gradient."""
        for part in self._parts.values():
            part.zero_grad()

    def state_dict(self) -> dict[str, Any]:
        """Both parts' states, by name."""
        return {name: part.state_dict() for name, part in self._parts.items()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Put both parts' states back."""
        for name, part in self._parts.items():
            part.load_state_dict(state_dict[name])


def _adamw(weights: list[Tensor]) -> torch.optim.AdamW:
    groups = [
        {"params": [weight for weight in weights if _is_matrix(weight)], "weight_decay": _WEIGHT_DECAY},
        {"params": [weight for weight in weights if not _is_matrix(weight)], "weight_decay": 0.0},  # norms
    ]
    return torch.optim.AdamW(groups, lr=0.0, betas=_BETAS, fused=True)


def _is_matrix(weight: Tensor) -> bool:
    return weight.ndim >= 2  # noqa: PLR2004 -- norms are vectors
