"""Stages: a label, and what it takes of a model's defaults. There is one code path for all of them.

In:  a stage's name. Out: its share of the model's peak rate, its schedule, its warm-up.
Holds: a stage decides nothing that a flag cannot; what a run was begun with stays.
STAGES["sft"].rate_factor == 0.1
"""

from dataclasses import dataclass
from fractions import Fraction

OPTIMIZERS = ("adamw", "muon")
SCHEDULES = ("cosine", "wsd")
HEADS = ("tied", "untied")
TRACKERS = ("none", "trackio", "wandb")


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Defaults of one stage."""

    rate_factor: float  # of the model's peak rate
    schedule: str
    warmup_share: Fraction  # of the plan's tokens


STAGES = {
    "pretrain": Stage(rate_factor=1.0, schedule="cosine", warmup_share=Fraction(1, 20)),
    "midtrain": Stage(rate_factor=0.5, schedule="cosine", warmup_share=Fraction(1, 20)),
    "sft": Stage(rate_factor=0.1, schedule="cosine", warmup_share=Fraction(1, 20)),
}
