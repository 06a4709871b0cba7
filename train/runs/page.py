"""The page of one run: attempts, lineage, checkpoints, children, and the command that goes on with it.

In:  the journals and the run's folder. Out: lines for a person, or one value for machines.
Holds: nothing is computed anew: rows and tokens are the ledger's.
"""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dataprep.console import size, table
from dataprep.errors import as_typed
from dataprep.ledger import Journal, Record, rows_in_weights, steps_with_weights, trace_lineage
from dataprep.paths import CHECKPOINTS
from dataprep.quantity import at_step
from train.config import command_again
from train.runs.overview import overview, status_of
from train.runs.trash import bytes_of
from train.step_folders import list_checkpoints


def run_page(journals: Mapping[str, Journal], file: Path) -> dict[str, Any]:
    """Everything `show` tells, as plain values."""
    journal = journals[file.parent.name]
    lineage = trace_lineage(journals, journal.run)
    checkpoints = list_checkpoints(file.with_name(CHECKPOINTS))
    return {
        **asdict(overview(journals, file)),
        "attempts": _attempts(journal, file),
        "lineage": [asdict(rows) for rows in lineage.rows],
        "checkpoints": [{"name": made.name, "bytes": bytes_of(made)} for made in checkpoints],
        "children": _children(journals, journal.run),
        "resume": _resume(journal, in_trash=file.parent.parent.name.startswith(".")),
    }


def print_page(page: dict[str, Any]) -> None:
    """The page for a person."""
    where = f"in the trash since {page['trashed_at']}" if page["trashed_at"] else page["status"]
    print(f"run {page['run']}: {page['stage']} on recipe {page['recipe']}, {where}")
    own = f"{page['own_tokens']:,} of them its own"
    print(f"in the weights: {page['tokens_in_weights']:,} tokens, {own}; computed in vain: ", end="")
    print(f"{page['tokens_not_in_weights']:,}")
    if page["gap"]:
        print(f"note: {page['gap']}")
    _print_table("attempts", page["attempts"])
    _print_table("lineage, oldest first", [_without(rows, "recipe_sha256", "row_tokens") for rows in page["lineage"]])
    _print_table("checkpoints", [made | {"bytes": size(made["bytes"])} for made in page["checkpoints"]])
    print(f"\nchildren: {', '.join(page['children']) or 'none'}")
    print(
        f"go on with: {as_typed(page['resume'])}" if page["resume"] else "replayed from a file: nothing to go on with"
    )


def _attempts(journal: Journal, file: Path) -> list[dict[str, Any]]:
    kept = {rows.attempt: (rows.row_from, rows.row_to) for rows in rows_in_weights(journal.records)}
    steps = steps_with_weights(journal.records)
    return [_attempt(start, kept.get(start["attempt"]), steps, journal, file) for start in journal.of_kind("start")]


def _attempt(
    start: Record, kept: tuple[int, int] | None, steps: list[Record], journal: Journal, file: Path
) -> dict[str, Any]:
    own = [step for step in steps if step["attempt"] == start["attempt"]]
    factors = (start["world_size"], start["micro_batch"], start["accumulation"], start.get("seq_len", "?"))
    return {
        "attempt": start["attempt"],
        "began": start["time"],
        "world × micro × accumulation × seq_len": " × ".join(map(str, factors)),
        "steps": len(own),
        "rows in weights": "none" if kept is None else f"{kept[0]:,} to {kept[1]:,}",
        "tokens in weights": sum(step["tokens"] for step in own if step["in_weights"]),
        "tokens lost": sum(step["tokens"] for step in own if not step["in_weights"]),
        "ended": status_of(journal, start["attempt"], file),
    }


def _children(journals: Mapping[str, Journal], run: str) -> list[str]:
    starts = {child: journal.of_kind("start")[0] for child, journal in journals.items()}
    return [f"{child} (from {at_step(run, s['parent_step'])})" for child, s in starts.items() if s["parent_run"] == run]


def _resume(journal: Journal, *, in_trash: bool) -> str | None:
    """The command of the last attempt once more; None where nothing was ever trained."""
    start = journal.of_kind("start")[-1]
    if "argv" not in start:
        return None
    if in_trash:
        return f"python -m train.runs restore {journal.run}"
    return command_again(start["argv"], world_size=start["world_size"])


def _print_table(title: str, lines: list[dict[str, Any]]) -> None:
    print(f"\n{title}: {'' if lines else 'none'}")
    if lines:
        print(table(list(lines[0]), [list(line.values()) for line in lines]))


def _without(line: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in line.items() if key not in keys}
