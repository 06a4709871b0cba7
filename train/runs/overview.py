"""Overview: what is known of every run, from journals and folders alone.

In:  runs/*/journal.jsonl, those of the trash too, and the checkpoints' folders. Out: an `Overview` per run.
Holds: no torch and no database: it answers beside a training, and for runs whose files are long gone;
       tokens are those of the ledger, own and along the lineage.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dataprep.errors import DataError
from dataprep.ledger import (
    Journal,
    find_journals,
    read_journal,
    read_trashed_at,
    rows_in_weights,
    steps_with_weights,
    trace_lineage,
)
from dataprep.paths import CHECKPOINTS
from dataprep.quantity import at_step
from train.runs.trash import bytes_of, is_locked
from train.step_folders import list_checkpoints


@dataclass(frozen=True, kw_only=True)
class Overview:
    """One run. Tokens in the weights are along the lineage; `own_tokens` are this run's part of them."""

    run: str
    stage: str
    recipe: str
    parent: str | None
    status: str
    rows_done: int
    plan_rows: int | None
    tokens_in_weights: int
    own_tokens: int
    tokens_not_in_weights: int
    last_loss: float | None
    checkpoints: int
    bytes_on_disk: int
    trashed_at: str | None
    gap: str | None


def read_all(runs: Path) -> dict[str, Journal]:
    """Every journal that can be read; a damaged one is said on stderr and hides nothing else."""
    journals = {}
    for run, file in find_journals(runs).items():
        try:
            journals[run] = read_journal(file)
        except DataError as damage:
            print(f"warning: left out: {damage.what} ({damage.seen})", file=sys.stderr)
    return {run: journal for run, journal in journals.items() if journal.of_kind("start")}


def overview(journals: Mapping[str, Journal], file: Path) -> Overview:
    """What is known of the run whose journal is `file`."""
    journal = journals[file.parent.name]
    start = journal.of_kind("start")[-1]
    steps = steps_with_weights(journal.records)
    kept = [step for step in steps if step["in_weights"]]
    ranges = rows_in_weights(journal.records)
    lineage = trace_lineage(journals, journal.run)
    return Overview(
        run=journal.run,
        stage=start["stage"],
        recipe=start["recipe"],
        parent=start["parent_run"] and at_step(start["parent_run"], start["parent_step"]),
        status=status_of(journal, start["attempt"], file),
        # Counted, not where the last one ends: a replayed run may have read on from another row, or another recipe.
        rows_done=sum(rows.row_to - rows.row_from for rows in ranges),
        plan_rows=start.get("plan_rows"),
        tokens_in_weights=sum(rows.tokens for rows in lineage.rows),
        own_tokens=sum(rows.tokens for rows in lineage.rows if rows.ancestor == journal.run),
        tokens_not_in_weights=sum(step["tokens"] for step in steps if not step["in_weights"]),
        last_loss=kept[-1]["loss"] if kept else None,
        checkpoints=len(list_checkpoints(file.with_name(CHECKPOINTS))),
        bytes_on_disk=bytes_of(file.parent),
        trashed_at=read_trashed_at(file),
        gap=lineage.gap,
    )


def status_of(journal: Journal, attempt: int, file: Path) -> str:
    """How an attempt ended; without an end it was killed, or it is the last one and a process still writes."""
    ended = [end["status"] for end in journal.of_kind("end") if end["attempt"] == attempt]
    if ended:
        return ended[0]
    is_last = attempt == journal.of_kind("start")[-1]["attempt"]
    return "training" if is_last and is_locked(file) else "killed"
