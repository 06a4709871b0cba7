"""Ledger: which rows of which plans are in a run's weights, read from its journal and its ancestors'.

In:  runs/<run>/journal.jsonl (append-only records: start, step, checkpoint, eval, sample, end), of the trash too.
Out: the records; for every step whether its rows are in the weights that are kept; the lineage of any weights.
Holds: rows computed after the last checkpoint and lost in a crash are counted apart, never twice;
       what a parent did after its child began is not the child's.

    attempt 1  steps to row 40, checkpoint at 30, killed   → rows 0–30 in the weights, 30–40 lost
    attempt 2  starts at row 30, checkpoint at 60, end     → rows 30–60 in the weights
    a child that began from the checkpoint at 30           → rows 0–30 of attempt 1, then its own
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dataprep.errors import DataError, quoted
from dataprep.passes import split_passes
from dataprep.paths import JOURNAL
from dataprep.sealed import read_json
from dataprep.sealed_lines import split_lines

Record = dict[str, Any]
TRASH = ".trash"  # runs/.trash/<run>/: what `python -m train.runs trash` took away
TRASH_RECEIPT = "trashed.json"
# What the manifest reads of each kind of record; the trainer writes more.
_KEYS = {
    "start": {
        *("time", "stage", "recipe", "recipe_sha256", "parent_run", "parent_step", "params", "world_size"),
        *("batch_rows", "micro_batch", "accumulation", "rows_done"),
    },
    "step": {"step", "row_from", "row_to", "tokens", "loss_tokens", "loss", "lr"},
    "checkpoint": {"step", "rows_done", "tokens_done", "path", "bytes", "sha256"},
    "sample": {"step", "prompt", "completion"},
    "eval": {"step", "rows_done", "tokens_done", "suite", "task", "n", "value", "stderr"},
    "end": {"status", "time"},
}
# Of these, what is counted with: whole numbers. A line edited by hand is found here, not where it is added up.
_WHOLE = {
    "start": ("attempt", "rows_done", "batch_rows"),
    "step": ("attempt", "step", "row_from", "row_to", "tokens"),
    "checkpoint": ("attempt", "step", "rows_done", "tokens_done"),
    "eval": ("attempt", "step", "rows_done"),
}


@dataclass(frozen=True, kw_only=True)
class Journal:
    """One run's records, in the order they were written. `torn` is what a crash left of a last line."""

    run: str
    records: tuple[Record, ...]
    torn: str | None

    def of_kind(self, kind: str) -> list[Record]:
        """The records of one kind."""
        return [record for record in self.records if record["kind"] == kind]


@dataclass(frozen=True, kw_only=True)
class RowRange:
    """Rows [row_from, row_to) of the plan, put into the weights by one attempt."""

    attempt: int
    row_from: int
    row_to: int


@dataclass(frozen=True, kw_only=True)
class AncestorRows:
    """Rows [row_from, row_to) of a recipe's plan, put into the weights by one attempt of a run or of an ancestor.

    `row_tokens` is what each row holds where there is no plan to count in: a replayed run's abstract supply.
    """

    ancestor: str
    recipe: str
    recipe_sha256: str
    attempt: int
    row_from: int
    row_to: int
    tokens: int
    row_tokens: int | None = None


@dataclass(frozen=True, kw_only=True)
class Lineage:
    """Everything in a run's weights, oldest first. `gap` says where the ancestry cannot be followed further."""

    rows: tuple[AncestorRows, ...]
    gap: str | None


def find_journals(runs: Path) -> dict[str, Path]:
    """Every run's journal, by name. A run in the trash still tells what it saw; a living one of its name wins."""
    found = [*(runs / TRASH).glob(f"*/{JOURNAL}"), *runs.glob(f"*/{JOURNAL}")]
    by_run = {file.parent.name: file for file in found if not file.parent.name.startswith(".")}
    return dict(sorted(by_run.items()))


def read_journals(runs: Path) -> dict[str, Journal]:
    """Every run's journal, read. Raises DataError naming a damaged line."""
    return {run: read_journal(file) for run, file in find_journals(runs).items()}


def read_trashed_at(journal: Path) -> str | None:
    """When a journal's run was moved to the trash, as its receipt says; None for a living run."""
    if journal.parents[1].name != TRASH:
        return None
    receipt = read_json(journal.with_name(TRASH_RECEIPT))
    return receipt.get("trashed_at") if receipt else None


def read_journal(file: Path) -> Journal:
    """Every whole record of a journal; none if there is no file. Raises DataError naming a damaged line."""
    lines, torn = split_lines(file.read_bytes() if file.exists() else b"")
    records = tuple(_parse(file, number, line) for number, line in enumerate(lines, 1))
    return Journal(run=file.parent.name, records=records, torn=torn)


def _parse(file: Path, number: int, line: bytes) -> Record:
    try:
        record = json.loads(line)
        missing = {"attempt", *_KEYS.get(record["kind"], ())} - record.keys()
        missing = missing or {key for key in _WHOLE.get(record["kind"], ()) if type(record[key]) is not int}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        record, missing = {}, {"kind"}
    if missing:
        raise DataError(
            f"line {number} of the journal of run {file.parent.name!r} is damaged",
            seen=repr(line[:60]),
            wanted=f"one JSON record a line, unchanged, with {', '.join(sorted(missing))}",
            fix=f"sed -n {number}p {quoted(file)}   # look at it; bring back a copy, or train under another --run-name",
        )
    return record


def rows_in_weights(records: Sequence[Record]) -> list[RowRange]:
    """Per attempt, the rows it put into the weights that are kept now.

    An attempt's rows count up to its last checkpoint, and no further than any later attempt began:
    a later attempt that began earlier threw the rest away. A replayed attempt may read on from another row
    than its weights had reached, which is then its `weights_row`.
    """
    starts: dict[int, int] = {}
    begun_at: dict[int, int] = {}
    saved: dict[int, int] = {}
    for record in records:
        attempt = record.get("attempt", 0)
        if record["kind"] == "start":
            starts[attempt] = saved[attempt] = record["rows_done"]
            begun_at[attempt] = record.get("weights_row", record["rows_done"])
        elif record["kind"] == "checkpoint":
            saved[attempt] = record["rows_done"]
    ranges, kept_to = [], None
    for attempt in sorted(starts, reverse=True):
        row_to = saved[attempt] if kept_to is None else min(saved[attempt], kept_to)
        if row_to > starts[attempt]:
            ranges.append(RowRange(attempt=attempt, row_from=starts[attempt], row_to=row_to))
        kept_to = begun_at[attempt] if kept_to is None else min(kept_to, begun_at[attempt])
    return ranges[::-1]


def steps_with_weights(records: Sequence[Record]) -> list[Record]:
    """Every step record with `in_weights`: whether its rows are in the weights that are kept."""
    kept = {row_range.attempt: row_range.row_to for row_range in rows_in_weights(records)}
    return [
        record | {"in_weights": record["row_to"] <= kept.get(record["attempt"], 0)}
        for record in records
        if record["kind"] == "step"
    ]


def trace_lineage(
    journals: Mapping[str, Journal], run: str, step: int | None = None, sha256: str | None = None
) -> Lineage:
    """What weights of `run` hold (now, or saved last at `step`, or then with `sha256`): its rows, after its ancestors'.

    A journal up to a checkpoint's record is the journal as it was then: what its run did later is not looked at.
    """
    rows: list[AncestorRows] = []
    passed: set[str] = set()
    while True:
        records = _as_saved(journals.get(run), step, sha256)
        if not records or run in passed:
            of_step = "" if step is None else f" of step {step}"
            gap = f"what {run} saw is not known: no journal of that name holds these weights{of_step}"
            return Lineage(rows=tuple(rows), gap=gap)
        rows = [*_with_tokens(run, records), *rows]
        passed.add(run)
        start = next(record for record in records if record["kind"] == "start")
        if start["parent_run"] is None:
            return Lineage(rows=tuple(rows), gap=None)
        run, step, sha256 = start["parent_run"], start["parent_step"], start.get("parent_sha256")


def _as_saved(journal: Journal | None, step: int | None, sha256: str | None) -> Sequence[Record]:
    """The records up to the checkpoint of `step` (the one with these weights); none where there is no such thing."""
    if journal is None or not journal.of_kind("start"):
        return ()
    if step is None:
        return journal.records
    saved = [
        place
        for place, record in enumerate(journal.records, 1)
        if record["kind"] == "checkpoint" and record["step"] == step and sha256 in (None, record["sha256"])
    ]
    return journal.records[: saved[-1]] if saved else ()


def _with_tokens(run: str, records: Sequence[Record]) -> list[AncestorRows]:
    """Each attempt's rows in the weights, pass by pass, with their recipe and the tokens its steps counted."""
    starts = {record["attempt"]: record for record in records if record["kind"] == "start"}
    tokens: Counter[tuple[int, int]] = Counter()
    for step in steps_with_weights(records):
        if step["in_weights"]:
            attempt, first, n_rows = step["attempt"], step["row_from"], step["row_to"] - step["row_from"]
            for number, row_from, row_to in split_passes(first, step["row_to"], starts[attempt].get("plan_rows")):
                until = [step["tokens"] * (row - first) // n_rows for row in (row_from, row_to)]
                tokens[attempt, number] += until[1] - until[0]
    return [
        AncestorRows(
            ancestor=run,
            recipe=start["recipe"],
            recipe_sha256=start["recipe_sha256"],
            attempt=rows.attempt,
            row_from=row_from - number * plan_rows,
            row_to=row_to - number * plan_rows,
            tokens=tokens[rows.attempt, number],
            row_tokens=start.get("row_tokens"),
        )
        for rows in rows_in_weights(records)
        for start in [starts[rows.attempt]]
        for plan_rows in [start.get("plan_rows") or 0]
        for number, row_from, row_to in split_passes(rows.row_from, rows.row_to, plan_rows)
    ]
