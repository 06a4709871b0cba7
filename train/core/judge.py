"""The judge: every task of a bundle put to a model, each rank answering its share of the items.

In:  a model in evaluation, its vocabulary, a bundle, the ranks. Out: a `TaskScore` per task, the same on every rank.
Holds: weights, gradients, mode and random numbers stay as they were; a chunk of items is in memory at a time.
Rule: rank r of W answers the items at places r, r + W, …; what is right is counted, so no sum depends on W.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from dataprep.bundle import Bundle, Task
from dataprep.vocab import Vocab
from train.core.prompts import asked_items, refuse_few_items
from train.core.questions import Question, ask
from train.core.scores import TaskScore
from train.core.scoring import Foreteller, answer
from train.ranks import Ranks

BATCH_ROWS = 16
_CHUNK_ITEMS = 256  # encoded together, sorted by length together
_MINUTE_S = 60


def judge_core(
    model: Foreteller,
    vocab: Vocab,
    bundle: Bundle,
    ranks: Ranks,
    *,
    seq_len: int,
    max_per_task: int | None = None,
    batch_size: int = BATCH_ROWS,
    say: Callable[[str], None] | None = None,
) -> list[TaskScore]:
    """Judge the model as it is. Every rank takes part. Raises DataError where an item cannot be asked."""
    started, scores = time.monotonic(), []
    refuse_few_items(bundle.tasks, max_per_task)
    work = [min(len(task.items), max_per_task or len(task.items)) * (1 + task.n_shots) for task in bundle.tasks]
    for i, task in enumerate(bundle.tasks):
        asked = asked_items(len(task.items), max_per_task)
        right, notes = _right(model, vocab, task, asked, ranks, seq_len=seq_len, batch_size=batch_size)
        score = TaskScore(
            label=task.label,
            kind=task.kind,
            n_shots=task.n_shots,
            baseline=task.baseline,
            items=tuple(asked),
            right=right,
            notes=notes,
        )
        scores.append(score)
        if say:
            seconds_left = (time.monotonic() - started) / sum(work[: i + 1]) * sum(work[i + 1 :])
            say(_progress(i + 1, len(bundle.tasks), score, seconds_left))
    return scores


def check_core(vocab: Vocab, bundle: Bundle, *, seq_len: int, max_per_task: int | None = None) -> None:
    """Ask every item of no one: what cannot be asked is told before a run begins, not in its middle."""
    refuse_few_items(bundle.tasks, max_per_task)
    for task in bundle.tasks:
        asked = asked_items(len(task.items), max_per_task)
        for _ in _chunks(vocab, task, asked, range(len(asked)), seq_len):
            pass


def _right(
    model: Foreteller, vocab: Vocab, task: Task, asked: Sequence[int], ranks: Ranks, *, seq_len: int, batch_size: int
) -> tuple[tuple[bool, ...], tuple[str, ...]]:
    """Whether each item asked was answered rightly, and what is to be said about the prompts."""
    places = range(ranks.rank, len(asked), ranks.world_size)

    def mine() -> tuple[list[bool], int, int]:
        own, n_cut, n_empty = [], 0, 0
        for questions in _chunks(vocab, task, asked, places, seq_len):
            own += answer(model, questions, batch_size=batch_size)
            n_cut += sum(question.is_cut for question in questions)
            n_empty += sum(question.has_empty_span for question in questions)
        return own, n_cut, n_empty

    parts = ranks.gather(ranks.agree(mine))
    right = [False] * len(asked)
    for rank, (own, _, _) in enumerate(parts):
        right[rank :: ranks.world_size] = own
    n_cut, n_empty = sum(part[1] for part in parts), sum(part[2] for part in parts)
    notes = [f"{n_cut:,} items longer than {seq_len:,} tokens: their beginning is cut off"] if n_cut else []
    notes += [f"{n_empty:,} items have a choice that another begins with: it is never chosen"] if n_empty else []
    return tuple(right), tuple(notes)


def _chunks(vocab: Vocab, task: Task, asked: Sequence[int], places: range, seq_len: int) -> Iterator[list[Question]]:
    make = partial(ask, vocab, task, asked, seq_len=seq_len)
    for first in range(0, len(places), _CHUNK_ITEMS):
        yield make(places[first : first + _CHUNK_ITEMS])


def _progress(n_done: int, n_tasks: int, score: TaskScore, seconds_left: float) -> str:
    left = f", about {seconds_left / _MINUTE_S:.1f} min left" if n_done < n_tasks else ""
    return f"core: {n_done} of {n_tasks} tasks, {score.label} {score.accuracy.value:.3f} of {score.n:,}{left}"
