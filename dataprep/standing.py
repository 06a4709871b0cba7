"""Standing: which evaluations and samples are of weights that a run still counts as its own.

In:  a run's journal; its findings, which are evaluations made after training. Out: evals and samples that stand.
Holds: of each, the newest, and of CORE the newest bundle's alone; what a later attempt threw away counts no more, and
       neither does a finding about weights that are not, hash for hash, those that the journal keeps at its step.
Why a second file: the journal has one writer, the trainer; a run can be evaluated by anyone, while it is trained too.

    journal   eval @5, checkpoint @4 aa…, killed; start @4, eval @5, checkpoint @6 bb…   → the second eval @5
    findings  core @4 of aa…; core @6 of aa…, from before another attempt wrote step 6   → core @4 alone
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dataprep.errors import DataError, quoted
from dataprep.ledger import Record
from dataprep.sealed_lines import split_lines

_KINDS = ("eval", "sample")
_OF_WEIGHTS = {"step": int, "rows_done": int, "tokens_done": int, "recipe": str, "weights_sha256": str}
_KEYS = {"eval": {"suite", "task", "n", "value", "stderr"}, "sample": {"prompt", "completion"}}


@dataclass(frozen=True, kw_only=True)
class Findings:
    """A file's whole records, in the order they were written. `torn` is what a crash left of a last line."""

    records: tuple[Record, ...]
    torn: str | None


def read_findings(file: Path) -> Findings:
    """Every whole record; none if there is no file. Raises DataError naming a damaged line."""
    lines, torn = split_lines(file.read_bytes() if file.exists() else b"")
    records = tuple(_parse(file, number, line) for number, line in enumerate(lines, 1))
    return Findings(records=records, torn=torn)


def standing_evals(records: Sequence[Record], findings: Sequence[Record] = ()) -> list[Record]:
    """The newest of each evaluation of the run's own weights."""
    return _standing("eval", records, findings)


def standing_samples(records: Sequence[Record], findings: Sequence[Record] = ()) -> list[Record]:
    """The newest of each text the run's own weights went on with: by step, prompt and temperature."""
    return _standing("sample", records, findings)


def _standing(kind: str, records: Sequence[Record], findings: Sequence[Record]) -> list[Record]:
    standing: dict[tuple[Any, ...], Record] = {}
    trained_on: Record = {}
    for record in (*records, *_of_kept_weights(records, findings)):
        if record["kind"] == "start":
            trained_on = {"recipe": record["recipe"]} if "recipe" in record else {}
            standing = {key: held for key, held in standing.items() if not _thrown_away(held, record)}
        elif record["kind"] == kind:
            standing.pop(_key(record), None)  # so that they stand in the order they were written
            standing[_key(record)] = trained_on | record
    return _of_one_examination(list(standing.values()))


def _of_one_examination(standing: list[Record]) -> list[Record]:
    """Of each step's CORE what was asked last: tasks of another bundle, or of fewer items, have no part in its mean."""
    newest = {record["step"]: _examination(record) for record in standing if "bundle_sha256" in record}
    return [
        record for record in standing if "bundle_sha256" not in record or _examination(record) == newest[record["step"]]
    ]


def _examination(record: Record) -> tuple[Any, ...]:
    return record["bundle_sha256"], record.get("max_per_task")


def _of_kept_weights(records: Sequence[Record], findings: Iterable[Record]) -> list[Record]:
    """Findings about a checkpoint that the journal still counts: one of its step, with these very weights."""
    kept: dict[int, Record] = {}
    for record in records:
        if record["kind"] == "start":
            kept = {step: held for step, held in kept.items() if not _thrown_away(held, record)}
        elif record["kind"] == "checkpoint":
            kept[record["step"]] = record
    sha256_by_step = {step: held["sha256"] for step, held in kept.items()}
    return [record for record in findings if sha256_by_step.get(record["step"]) == record["weights_sha256"]]


def _thrown_away(held: Record, start: Record) -> bool:
    """Whether an attempt that starts there began before these weights. Old samples know their step alone."""
    if "rows_done" in held:
        return held["rows_done"] > start["rows_done"]
    return held["step"] > start.get("step", held["step"])


def _key(record: Record) -> tuple[Any, ...]:
    if record["kind"] == "eval":
        return record["step"], record["suite"], record["task"]
    return record["step"], record["prompt"], record.get("temperature")


def _parse(file: Path, number: int, line: bytes) -> Record:
    try:
        record = json.loads(line)
        wrong = {key for key, kind in _OF_WEIGHTS.items() if type(record.get(key)) is not kind}
        wrong |= _KEYS[record["kind"]] - record.keys()
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        record, wrong = {}, {f"kind ({' or '.join(_KINDS)})"}
    if wrong:
        raise DataError(
            f"line {number} of the findings of run {file.parent.name!r} is damaged",
            seen=repr(line[:60]),
            wanted=f"one JSON record a line, with {', '.join(sorted(wrong))}",
            fix=f"sed -i {number}d {quoted(file)}   # and evaluate those weights again",
        )
    return record
