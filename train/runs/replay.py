"""Replay: a training history becomes journals, as if it had been trained here; nothing is trained.

In:  a history. Out: runs/<run>/journal.jsonl for each of its runs; for a deleted one, in the trash.
Holds: every entry is checked before the first file is written; a run that exists is never written over;
       killed half-way, the same command writes the runs that are missing.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from dataprep.errors import UsageError, quoted
from dataprep.flocks import locked
from dataprep.ledger import TRASH, TRASH_RECEIPT, Journal, read_journals, steps_with_weights, trace_lineage
from dataprep.paths import JOURNAL, Paths
from dataprep.publish import publishing_folder
from dataprep.temps import sweep
from train.journal import now
from train.runs.history import History
from train.runs.retrace import Retrace, Retraced
from train.runs.row_supply import RowSupplies
from train.runs.trash import trash_folder


@dataclass(frozen=True, kw_only=True)
class Replayed:
    """One run of a history, and what the ledger says of it. `written` is false where it was there already."""

    run: str
    written: bool
    deleted: bool
    steps: int
    tokens_in_weights: int
    own_tokens: int
    tokens_lost: int
    reseen_tokens: int | None


def replay(paths: Paths, history: History) -> list[Replayed]:
    """Check the whole history, then write its journals. Raises UsageError or DataError before anything is written."""
    with locked(paths.runs / ".runs.lock"):
        existing = read_journals(paths.runs)
        there = _written_before(paths, history, existing)
        others = {run: journal for run, journal in existing.items() if run not in there}
        supplies = RowSupplies(paths, history.supplies)
        retrace = Retrace(history, supplies, others, now())
        for number, entry in enumerate(history.entries, 1):
            retrace.add(f"entry {number}", entry)
        for folder in (paths.runs, paths.runs / TRASH):
            sweep(folder)
        for run, retraced in retrace.runs.items():
            if run not in there:
                _publish(paths, run, retraced)
    journals = retrace.journals()
    return [_replayed(journals, supplies, run, r, written=run not in there) for run, r in retrace.runs.items()]


def _written_before(paths: Paths, history: History, existing: Mapping[str, Journal]) -> set[str]:
    """Runs that this very file was replayed into before. Raises UsageError for any other run of these names."""
    there = set()
    for run in dict.fromkeys(entry.run for entry in history.entries):
        starts = existing[run].of_kind("start") if run in existing else []
        if starts and starts[0].get("replayed") == history.sha256:
            there.add(run)
        elif run in existing or (paths.runs / run).exists() or trash_folder(paths, run).exists():
            raise UsageError(
                f"run {run!r} exists and is not written over; nothing was written",
                seen="trained here" if starts and "replayed" not in starts[0] else "not replayed from this file",
                wanted="a name that is free",
                fix=f"another name in {history.file.name}; or, if it was a trial, rm -r {quoted(paths.runs / run)}",
            )
    return there


def _publish(paths: Paths, run: str, retraced: Retraced) -> None:
    """The journal, whole or not at all; a deleted run goes straight to the trash, empty as after a purge."""
    place = trash_folder(paths, run) if retraced.deleted else paths.runs / run
    with publishing_folder(place) as part:
        with (part / JOURNAL).open("w", encoding="utf-8") as out:
            out.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in retraced.records)
        if retraced.deleted:
            time = now()
            receipt = {"run": run, "bytes": 0} | dict.fromkeys(("trashed_at", "purge_began_at", "purged_at"), time)
            (part / TRASH_RECEIPT).write_text(json.dumps(receipt, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _replayed(
    journals: Mapping[str, Journal], supplies: RowSupplies, run: str, retraced: Retraced, *, written: bool
) -> Replayed:
    lineage = trace_lineage(journals, run).rows
    steps = steps_with_weights(retraced.records)
    return Replayed(
        run=run,
        written=written,
        deleted=retraced.deleted,
        steps=len(steps),
        tokens_in_weights=sum(rows.tokens for rows in lineage),
        own_tokens=sum(rows.tokens for rows in lineage if rows.ancestor == run),
        tokens_lost=sum(step["tokens"] for step in steps if not step["in_weights"]),
        reseen_tokens=supplies.reseen_tokens(lineage),
    )
