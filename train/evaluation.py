"""Evaluation: a run's weights judged after training, suite by suite, every rank taking part.

In:  an opened model, the ranks. Out: records as the journal has them, and what was asked and how it went.
Holds: heldout, CORE and samples are the trainer's own, by the same functions; nothing here changes the weights.
"""

from collections.abc import Callable
from dataclasses import dataclass

from dataprep.bundle import Bundle
from dataprep.contaminated import LineageContamination, read_lineage
from dataprep.ledger import Record
from dataprep.paths import Paths
from dataprep.recipe import load_recipe
from dataprep.seen import trained_recipe
from train.core import TaskScore, core_records, judge_core
from train.core.outcomes import Outcomes, keep_outcomes, read_outcomes
from train.core.scores import clean_record, without_items
from train.engine import Engine
from train.heldout import HeldOutRows, open_held_out
from train.prompts import Prompts, ask
from train.ranks import Ranks
from train.routine import Routine
from train.validate import Score, eval_records, validate
from train.weights import Opened, open_model

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """The held-out suite's: a score per source, and what could not be judged."""

    scores: list[Score]
    notes: tuple[str, ...]
    records: list[Record]


@dataclass(frozen=True, kw_only=True)
class Core:
    """The core suite's: a score per task, what is known of items in the plans, and the scores without those."""

    scores: tuple[TaskScore, ...]
    seen: LineageContamination
    clean: tuple[TaskScore, ...]
    records: list[Record]


def open_together(paths: Paths, ranks: Ranks, run: str, step: int | None) -> Opened:
    """Open RUN[@STEP] on every rank: the first one chooses the step, which a run in training may move meanwhile."""
    chosen = ranks.agree(lambda: open_model(paths, run, step, device=ranks.device) if ranks.is_first else None)
    step = ranks.gather(chosen.checkpoint.cursor.step if chosen else None)[0]
    return ranks.agree(lambda: chosen or open_model(paths, run, step, device=ranks.device))


def evaluate_held_out(paths: Paths, opened: Opened, ranks: Ranks, *, batch_size: int) -> HeldOut:
    """The weights by the held-out rows of their last recipe: the rows that training judged them by."""
    rows = ranks.agree(lambda: _open_held_out(paths, opened))
    scores = validate(opened.model, rows, ranks, micro_batch=batch_size) if rows.sources else []
    return HeldOut(scores=scores, notes=rows.notes, records=eval_records(opened.checkpoint.cursor, scores))


def evaluate_core(
    paths: Paths, opened: Opened, bundle: Bundle, ranks: Ranks, *, max_per_task: int | None, batch_size: int, say: Say
) -> Core:
    """The weights by the bundle's tasks; which items were right is kept beside the run."""
    scores = judge_core(
        opened.model,
        opened.vocab,
        bundle,
        ranks,
        seq_len=opened.seq_len,
        max_per_task=max_per_task,
        batch_size=batch_size,
        say=say,
    )
    if ranks.is_first:
        keep_outcomes(paths, opened, scores, bundle, max_per_task=max_per_task)
    cursor = opened.checkpoint.cursor
    seen = read_lineage(paths, opened.run, cursor.step, bundle.sha256)
    clean = without_items(scores, seen.items)
    records = core_records(cursor, scores, bundle, seq_len=opened.seq_len, max_per_task=max_per_task)
    if clean and not seen.unchecked and not seen.gap:
        records.append(clean_record(records[-1], clean))
    return Core(scores=tuple(scores), seen=seen, clean=tuple(clean), records=records)


def known_outcomes(
    paths: Paths, opened: Opened, bundle: Bundle, ranks: Ranks, *, max_per_task: int | None
) -> Outcomes | None:
    """What these weights answered before, as the first rank finds it."""
    found = read_outcomes(paths, opened, bundle, max_per_task=max_per_task) if ranks.is_first else None
    return ranks.gather(found)[0]


def evaluate_samples(paths: Paths, opened: Opened, prompts: Prompts) -> list[Record]:
    """What the weights say to each prompt, put as in training: a chat is asked as one."""
    chat = load_recipe(paths, opened.recipe).loss == "assistant"
    engine, seed = Engine(opened.model, opened.vocab), opened.checkpoint.identity["seed"]
    return ask(engine, opened.vocab, prompts, opened.checkpoint.cursor, chat=chat, seed=seed)


def _open_held_out(paths: Paths, opened: Opened) -> HeldOutRows:
    recipe = trained_recipe(paths, opened.recipe, opened.start["recipe_sha256"], where=opened.label)
    n_rows = opened.start.get("routine", {}).get("validate_rows", Routine.validate_rows)
    return open_held_out(paths, recipe, opened.vocab, n_rows)
