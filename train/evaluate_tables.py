"""How evaluations read: tables of scores, of answers and of differences.

In:  scores, records, differences. Out: text.
Holds: every figure stands with its standard error or its interval, and with the number of items it is of.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from dataprep.console import table
from dataprep.errors import as_typed
from dataprep.ledger import Record
from train.core import TaskScore, core_mean
from train.core.compare import Difference
from train.core.scores import GPT2_XL, with_error
from train.evaluation import Core
from train.validate import Score

_SHOWN_CHARACTERS = 80


def held_out_table(scores: Sequence[Score]) -> str:
    """A line per source."""
    rows = [(score.source, score.n_rows, with_error(score.loss), with_error(score.bits_per_byte)) for score in scores]
    return table(["held out", "rows", "loss ±", "bits per byte ±"], rows)


def core_table(scores: Sequence[TaskScore]) -> str:
    """A line per task, and CORE."""
    rows: list[list[Any]] = [
        [score.label, score.n_shots, score.n, with_error(score.accuracy), with_error(score.centered)]
        for score in scores
    ]
    rows.append(["CORE", None, sum(score.n for score in scores), "", with_error(core_mean(scores))])
    return f"{table(['task', 'shots', 'n', 'accuracy ±', 'centered ±'], rows)}\nGPT-2 XL's CORE is {GPT2_XL}"


def seen_lines(made: Core, bundle: Path | str) -> Iterator[str]:
    """CORE without the items that the weights may have been trained on; or how that would be known."""
    n_clean = {score.label: score.n for score in made.clean}
    out = {score.label: score.n - n_clean.get(score.label, 0) for score in made.scores}
    if made.seen.checked:
        plans = ", ".join(made.seen.checked)
        value = with_error(core_mean(made.clean)) if made.clean else "unknown"
        yield f"CORE without the {sum(out.values()):,} items that stand in the plans of {plans}: {value}"
    if any(out.values()):
        yield "left out: " + ", ".join(f"{n:,} of {label}" for label, n in out.items() if n)
    if len(n_clean) < len(out):
        emptied = ", ".join(label for label in out if label not in n_clean)
        yield f"note: no item is left of {emptied}, and that figure is without it"
    for recipe in made.seen.unchecked:
        command = as_typed(f"python -m dataprep.contamination --bundle {bundle} --recipe {recipe}")
        yield f"note: whether items stand in the plan of {recipe} was not looked up: {command}"
    if made.seen.gap:
        yield f"note: {made.seen.gap}"


def samples_table(records: Sequence[Record]) -> str:
    """A line per answer."""
    marks = {None: "", True: "right", False: "wrong"}
    rows = [
        [record["prompt"], f"{record['temperature']:g}", marks[record["hit"]], _short(record["completion"])]
        for record in records
    ]
    return table(["prompt", "temperature", "", "completion"], rows)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN_CHARACTERS else f"{line[: _SHOWN_CHARACTERS - 1]}…"


def compared(before: str, after: str, differences: Sequence[Difference]) -> str:
    """A line per task and for CORE, and what came of it."""
    rows = [
        [of.task, of.n, f"{of.before:.4f}", f"{of.after:.4f}", f"{of.delta:+.4f}", _interval(of), of.verdict]
        for of in differences
    ]
    core = differences[-1]
    header = ["centered", "n", before, after, "delta", "95 %", "verdict"]
    said = f"CORE from {before} to {after}: {core.delta:+.4f}, 95 % {_interval(core)}: {core.verdict}"
    return f"{table(header, rows)}\n{said}"


def _interval(of: Difference) -> str:
    return f"{of.low:+.4f} to {of.high:+.4f}"
