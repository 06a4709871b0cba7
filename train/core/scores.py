"""Scores: what CORE makes of right and wrong answers, with how far each figure may be off.

In:  for each task, which items were answered rightly. Out: accuracy, centered accuracy, their mean, and records.
Rules: centered = (accuracy - b) / (1 - b), where b is what guessing gets; CORE is the mean of it over tasks.
       Standard errors: of an accuracy √(a(1 - a)/(n - 1)); of a centered one that / (1 - b); of the mean over K tasks,
       whose items are independent, √(Σ se²) / K. They say how another draw of items would differ, not another training.
2 of 4 right where guessing gets 1/4: accuracy 0.5 ± 0.289, centered 0.333 ± 0.385.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from dataprep.bundle import Bundle
from dataprep.ledger import Record
from train.checkpoint import Cursor
from train.validate import Ratio

CORE_SUITE, ACCURACY_SUITE, CLEAN_SUITE, CORE_TASK = "core", "core-accuracy", "core-clean", "CORE"
GPT2_XL = 0.2565  # its CORE, as the reference prints it beside its own


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A value and its standard error; None for a single item."""

    value: float
    stderr: float | None


@dataclass(frozen=True, kw_only=True)
class TaskScore:
    """One task's: `items` are the numbers of the items asked in the bundle's own order, `right` whether each was."""

    label: str
    kind: str
    n_shots: int
    baseline: float
    items: tuple[int, ...]
    right: tuple[bool, ...]
    notes: tuple[str, ...] = ()

    @property
    def n(self) -> int:
        """How many items were asked."""
        return len(self.items)

    @property
    def accuracy(self) -> Estimate:
        """The share of right answers."""
        value = sum(self.right) / self.n
        return Estimate(value=value, stderr=math.sqrt(value * (1 - value) / (self.n - 1)) if self.n > 1 else None)

    @property
    def centered(self) -> Estimate:
        """Accuracy on the scale where guessing is 0 and all right is 1."""
        accuracy, left = self.accuracy, 1 - self.baseline
        stderr = None if accuracy.stderr is None else accuracy.stderr / left
        return Estimate(value=(accuracy.value - self.baseline) / left, stderr=stderr)


def core_mean(scores: Sequence[TaskScore]) -> Estimate:
    """CORE: every task weighs the same, however many items it has."""
    parts = [score.centered for score in scores]
    errors = [part.stderr for part in parts if part.stderr is not None]
    return Estimate(
        value=float(np.mean([part.value for part in parts])),
        stderr=math.hypot(*errors) / len(parts) if len(errors) == len(parts) else None,
    )


def without_items(scores: Sequence[TaskScore], left_out: Mapping[str, Collection[int]]) -> list[TaskScore]:
    """The scores over the items that are not left out, by task; a task of which nothing stays is left out too."""
    kept = []
    for score in scores:
        pairs = [
            pair for pair in zip(score.items, score.right, strict=True) if pair[0] not in left_out.get(score.label, ())
        ]
        if pairs:
            items, right = zip(*pairs, strict=True)
            kept.append(replace(score, items=items, right=right))
    return kept


def core_records(
    cursor: Cursor, scores: Sequence[TaskScore], bundle: Bundle, *, seq_len: int, max_per_task: int | None
) -> list[Record]:
    """The journal's records: centered accuracies and their mean as suite "core", accuracies as "core-accuracy"."""
    where = {"step": cursor.step, "rows_done": cursor.rows_done, "tokens_done": cursor.tokens_done}
    how = {"bundle_sha256": bundle.sha256, "max_per_task": max_per_task, "seq_len": seq_len}
    n_items = sum(score.n for score in scores)
    parts = [
        *((CORE_SUITE, score.label, score.n, score.centered) for score in scores),
        *((ACCURACY_SUITE, score.label, score.n, score.accuracy) for score in scores),
        (CORE_SUITE, CORE_TASK, n_items, core_mean(scores)),
    ]
    return [
        {**where, "suite": suite, "task": task, "n": n, "value": of.value, "stderr": of.stderr, **how}
        for suite, task, n, of in parts
    ]


def clean_record(of_all: Record, clean: Sequence[TaskScore]) -> Record:
    """CORE's record once more, over the items that no plan holds."""
    mean = core_mean(clean)
    n_items = sum(score.n for score in clean)
    return of_all | {"suite": CLEAN_SUITE, "n": n_items, "value": mean.value, "stderr": mean.stderr}


def shown(step: int, scores: Sequence[TaskScore]) -> str:
    """A line for whoever watches a run."""
    mean = core_mean(scores)
    items = sum(score.n for score in scores)
    return f"core step {step} | CORE {with_error(mean)} of {len(scores)} tasks, {items:,} items (GPT-2 XL {GPT2_XL})"


def with_error(of: Estimate | Ratio) -> str:
    """A figure as a person reads it: 0.2565 ± 0.0080."""
    return f"{of.value:.4f}" if of.stderr is None else f"{of.value:.4f} ± {of.stderr:.4f}"
