"""Comparing: whether one checkpoint knows more than another, or was luckier in the items it was asked.

In:  two checkpoints' outcomes over the same items. Out: a `Difference` for each task, and for CORE.
Rule: a paired bootstrap (Efron 1979; Koehn 2004): draw each task's items again, with replacement and as many as there
      are, with both answers to each; take the difference; 10,000 times. The middle 95 % of them is the interval, and
      a difference is more than noise where 0 lies outside of it. Tasks are drawn by themselves, for CORE weighs them
      alike. Of each item only better, equal or worse matters, so three counts are drawn from a multinomial and not n
      items: the same distribution, whatever n is.
Holds: the seed is fixed: asked again, the same interval. It is about other items, not about another training run.
80 items better, 50 worse and 870 equal of 1,000, baseline 0: +0.030, 95 % from 0.008 to 0.052: more than noise.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dataprep.errors import UsageError
from train.core.outcomes import Outcomes
from train.core.scores import CORE_TASK, TaskScore, core_mean

_RESAMPLES, _SEED = 10_000, 1
_MIDDLE_PERCENT = (2.5, 97.5)


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Centered accuracies of both, the second less the first, and its 95 % interval."""

    task: str
    n: int
    before: float
    after: float
    low: float
    high: float

    @property
    def delta(self) -> float:
        """What was gained."""
        return self.after - self.before

    @property
    def is_more_than_noise(self) -> bool:
        """Whether 0 lies outside the interval."""
        return not self.low <= 0 <= self.high

    @property
    def verdict(self) -> str:
        """As a person reads it."""
        return "more than noise" if self.is_more_than_noise else "not more than noise"


def compare_outcomes(before: Outcomes, after: Outcomes) -> list[Difference]:
    """Each task's difference, CORE's last. Raises UsageError where not the same was asked."""
    asked = {
        "bundle": [f"{of.bundle} {of.bundle_sha256[:12]}" for of in (before, after)],
        "max-per-task": [str(of.max_per_task or "all") for of in (before, after)],
    }
    for word, (first, second) in asked.items():
        if first != second:
            raise UsageError(
                f"{before.label} and {after.label} were not asked the same: another {word}",
                seen=f"{first} and {second}",
                wanted=f"one {word} for both",
                fix=f"python -m train.evaluate --compare {before.label} {after.label} --bundle PATH --max-per-task N",
            )
    return compare(before.scores, after.scores)


def compare(before: Sequence[TaskScore], after: Sequence[TaskScore], *, seed: int = _SEED) -> list[Difference]:
    """Each task's difference, CORE's last; both are of the same items in the same order."""
    assert [(score.label, score.items) for score in before] == [(score.label, score.items) for score in after]
    drawing = np.random.default_rng(seed)
    drawn_KR = np.stack([_drawn(*pair, drawing) for pair in zip(before, after, strict=True)])
    ends = [np.percentile(drawn_R, _MIDDLE_PERCENT) for drawn_R in (*drawn_KR, drawn_KR.mean(axis=0))]
    values = [
        *((was.label, was.n, was.centered.value, now.centered.value) for was, now in zip(before, after, strict=True)),
        (CORE_TASK, sum(score.n for score in before), core_mean(before).value, core_mean(after).value),
    ]
    return [
        Difference(task=task, n=n, before=was, after=now, low=float(low), high=float(high))
        for (task, n, was, now), (low, high) in zip(values, ends, strict=True)
    ]


def _drawn(before: TaskScore, after: TaskScore, drawing: np.random.Generator) -> np.ndarray:
    """The difference of one task in each resample, drawn_R."""
    gained = np.array(after.right, dtype=np.int64) - np.array(before.right, dtype=np.int64)
    n_worse, n_equal, n_better = (int((gained == value).sum()) for value in (-1, 0, 1))
    shares = np.array([n_worse, n_equal, n_better]) / before.n
    counts_R3 = drawing.multinomial(before.n, shares, size=_RESAMPLES)
    return (counts_R3[:, 2] - counts_R3[:, 0]) / before.n / (1 - before.baseline)
