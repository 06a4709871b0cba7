"""Allowance: how many tokens a ratio, FLOPs, steps, hours or dollars pay for; and the three classic estimates.

In:  one thing that was asked for, and what it is measured in. Out: tokens D; `Comparison` lines.
Holds: integers where the question is of integers; hours and dollars buy whole steps, so what they buy never costs more.

With N parameters and D tokens: direct is D itself, FLOPs are C = 6·N·D, the ratio is D / N (Chinchilla: 20 is where
a given C trains best, so C is best spent on √(C / 120) parameters; Hoffmann et al. 2022, tables 2 and 3).
tokens_by_ratio(Fraction(20), parameters=500) == 10_000; tokens_by_flops(30_000_000, parameters=500) == 10_000
"""

import math
from dataclasses import dataclass
from fractions import Fraction

from dataprep.estimate import Model, RunEstimate

CHINCHILLA = 20  # tokens per parameter


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The three estimates of one choice of N and D: tokens are D, FLOPs 6·N·D, the ratio D / N."""

    what: str
    parameters: int
    tokens: int
    flops: int
    tokens_per_parameter: float
    hours: float | None
    usd: float | None


def tokens_by_ratio(ratio: Fraction, *, parameters: int) -> int:
    """D = ratio · N, rounded down."""
    return int(ratio * parameters)


def tokens_by_flops(flops: Fraction, *, parameters: int) -> int:
    """D = C / 6N, rounded down."""
    return int(flops / (6 * parameters))


def tokens_by_hours(hours: Fraction, *, tokens_per_s: float, step_tokens: int) -> int:
    """The whole steps that so many hours hold."""
    return int(hours * 3600 * Fraction(tokens_per_s)) // step_tokens * step_tokens


def compare(model: Model, run: RunEstimate) -> tuple[Comparison, ...]:
    """The run; its model at Chinchilla's tokens per parameter; its FLOPs where they would train best by that ratio."""
    n_parameters, ratio = model.parameters, CHINCHILLA
    best_parameters = max(1, math.isqrt(run.flops // (6 * ratio)))
    return (
        _comparison("this run", n_parameters, run.targets, run),
        _comparison(f"this model at {ratio} per parameter", n_parameters, ratio * n_parameters, run),
        _comparison(f"these FLOPs at {ratio} per parameter", best_parameters, run.flops // (6 * best_parameters), run),
    )


def _comparison(what: str, parameters: int, tokens: int, run: RunEstimate) -> Comparison:
    """Hours and dollars are the run's, in proportion to FLOPs: the same GPUs, as well used."""
    flops = 6 * parameters * tokens
    share = flops / run.flops
    return Comparison(
        what=what,
        parameters=parameters,
        tokens=tokens,
        flops=flops,
        tokens_per_parameter=tokens / parameters,
        hours=None if run.hours is None else run.hours * share,
        usd=None if run.usd is None else run.usd * share,
    )
