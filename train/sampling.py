"""Sampling: how the next token is chosen from logits. Pure, and torch is not loaded before there are logits.

In:  logits_BV, one row's settings for all of them, which ids are allowed and seen, one number in [0, 1) per row.
Out: an id per row. Holds: a row's id depends on that row alone; an id that is not allowed is never chosen.
Order: repetition penalty, what is not allowed, temperature (0: the largest, and nothing below matters), top-k, top-p,
       min-p, each over what the one before left; then the draw.
    probabilities 0.5 0.3 0.15 0.05    top_k=3 → 0.53 0.32 0.16 –    top_p=0.6 → 0.62 0.38 – –    0.7 drawn → the second
"""

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from dataprep.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

_NEVER = float("-inf")
_LAST_SEED = 2**63 - 1


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How one answer is drawn. None switches a filter off. Raises UsageError for what cannot be."""

    temperature: float = 0.8  # 0 is greedy
    top_k: int | None = 50
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float = 1.0
    seed: int = 1
    max_tokens: int = 256

    def __post_init__(self) -> None:
        self._insist(0 <= self.temperature < math.inf, "temperature", "0 or more, such as 0.8")
        self._insist(self.top_k is None or self.top_k >= 1, "top_k", "1 or more")
        self._insist(self.top_p is None or 0 < self.top_p <= 1, "top_p", "above 0 and at most 1")
        self._insist(self.min_p is None or 0 <= self.min_p <= 1, "min_p", "from 0 to 1")
        self._insist(0 < self.repetition_penalty < math.inf, "repetition_penalty", "above 0, such as 1.1")
        self._insist(0 <= self.seed <= _LAST_SEED, "seed", f"a whole number from 0 to {_LAST_SEED}")
        self._insist(self.max_tokens >= 1, "max_tokens", "1 or more")

    @property
    def rule(self) -> "Sampling":
        """What decides a step: rows that differ in seed and length alone are decided together."""
        return replace(self, seed=0, max_tokens=1)

    def _insist(self, holds: bool, field: str, wanted: str) -> None:
        if not holds:
            flag = field.replace("_", "-")
            raise UsageError(f"{field} cannot be this", seen=getattr(self, field), wanted=wanted, fix=f"--{flag} N")


def choose(
    logits_BV: "Tensor", sampling: Sampling, *, allowed_BV: "Tensor", seen_BV: "Tensor | None", uniform_B: "Tensor"
) -> "Tensor":
    """The next id of each row, ids_B. `seen_BV` may be None where nothing is penalised."""
    logits_BV = logits_BV.double()
    if seen_BV is not None:
        logits_BV = penalise(logits_BV, seen_BV, sampling.repetition_penalty)
    logits_BV = logits_BV.masked_fill(~allowed_BV, _NEVER)
    if sampling.temperature == 0:
        return logits_BV.argmax(dim=-1)
    logits_BV = cool(logits_BV, sampling.temperature)
    if sampling.top_k is not None:
        logits_BV = keep_top_k(logits_BV, sampling.top_k)
    if sampling.top_p is not None:
        logits_BV = keep_top_p(logits_BV, sampling.top_p)
    if sampling.min_p is not None:
        logits_BV = keep_min_p(logits_BV, sampling.min_p)
    return draw(logits_BV, uniform_B)


def penalise(logits_BV: "Tensor", seen_BV: "Tensor", penalty: float) -> "Tensor":
    """What was seen is less likely by `penalty`: positive logits divided, others multiplied (CTRL, 2019)."""
    lessened_BV = (logits_BV / penalty).where(logits_BV > 0, logits_BV * penalty)
    return lessened_BV.where(seen_BV, logits_BV)


def cool(logits_BV: "Tensor", temperature: float) -> "Tensor":
    """Logits divided by the temperature; the largest is 0, so that no small temperature overflows."""
    return (logits_BV - logits_BV.amax(dim=-1, keepdim=True)) / temperature


def keep_top_k(logits_BV: "Tensor", k: int) -> "Tensor":
    """Only the `k` largest, and what equals the last of them."""
    least_B1 = logits_BV.topk(min(k, logits_BV.shape[-1])).values[:, -1:]
    return logits_BV.masked_fill(logits_BV < least_B1, _NEVER)


def keep_top_p(logits_BV: "Tensor", p: float) -> "Tensor":
    """The fewest of the likeliest whose probabilities reach `p`: always one at least (nucleus, 2020)."""
    sorted_BV, ids_BV = logits_BV.sort(dim=-1, descending=True, stable=True)
    likely_BV = sorted_BV.softmax(dim=-1)
    before_BV = likely_BV.cumsum(dim=-1) - likely_BV
    kept_BV = sorted_BV.masked_fill(before_BV >= p, _NEVER)
    return logits_BV.scatter(-1, ids_BV, kept_BV)


def keep_min_p(logits_BV: "Tensor", p: float) -> "Tensor":
    """What is at least `p` times as likely as the likeliest."""
    likely_BV = logits_BV.softmax(dim=-1)
    return logits_BV.masked_fill(likely_BV < p * likely_BV.amax(dim=-1, keepdim=True), _NEVER)


def draw(logits_BV: "Tensor", uniform_B: "Tensor") -> "Tensor":
    """The first id of each row up to which the probabilities exceed its number in [0, 1)."""
    reached_BV = logits_BV.double().softmax(dim=-1).cumsum(dim=-1)
    aims_B1 = uniform_B.double()[:, None] * reached_BV[:, -1:]
    return (reached_BV <= aims_B1).sum(dim=-1)
