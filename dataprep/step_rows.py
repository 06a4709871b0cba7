"""Step rows: which rows of which plan a step of a run took, or takes next.

In:  a journal and a step. Out: `StepRows`: recipe, attempt, row range, and what became of the step.
Holds: the last attempt that began before a step tells it; --attempt asks an earlier one. A step that has no record
       (the one that was not finite, or one still to come) follows from the rows done and that attempt's batch.

    attempt 1 took steps 1–8 of 4 rows and saved step 6; attempt 2 began there and stopped at a loss of NaN
    step 5 → rows 16–19, attempt 1    step 7 → rows 24–27, attempt 2, not taken    step 7 of attempt 1 → lost
"""

from collections.abc import Sequence
from dataclasses import dataclass

from dataprep.errors import UsageError
from dataprep.ledger import Journal, Record, steps_with_weights

IN_WEIGHTS, LOST, NOT_TAKEN = "in the weights", "computed, not in the weights", "not taken"


@dataclass(frozen=True, kw_only=True)
class StepRows:
    """Rows [row_from, row_to) of a recipe's plan, and whether a step has put them into the weights.

    Of a step not taken, `row_to` may lie beyond the plan's end.
    """

    run: str
    step: int
    attempt: int
    state: str
    recipe: str
    recipe_sha256: str
    row_from: int
    row_to: int
    row_tokens: int | None = None  # of a replayed run's supply that is only counted


def find_step(journal: Journal, step: int, *, attempt: int | None = None) -> StepRows:
    """The rows of `step`. Raises UsageError for one that no attempt, or not the attempt asked for, can have taken."""
    began_at = {start["attempt"]: _step_at(journal.records, start) for start in journal.of_kind("start")}
    able = [number for number, began in began_at.items() if began < step and attempt in (None, number)]
    if not able:
        raise _no_such_step(journal.run, step, attempt, began_at)
    start = next(start for start in journal.of_kind("start") if start["attempt"] == max(able))
    taken = [record for record in steps_with_weights(journal.records) if record["attempt"] == max(able)]
    found = next((record for record in taken if record["step"] == step), None)
    if found:
        state, rows = IN_WEIGHTS if found["in_weights"] else LOST, (found["row_from"], found["row_to"])
    else:
        done = (taken[-1]["step"], taken[-1]["row_to"]) if taken else (began_at[max(able)], start["rows_done"])
        row_from = done[1] + (step - done[0] - 1) * start["batch_rows"]
        state, rows = NOT_TAKEN, (row_from, row_from + start["batch_rows"])
    return StepRows(
        run=journal.run,
        step=step,
        attempt=max(able),
        state=state,
        recipe=start["recipe"],
        recipe_sha256=start["recipe_sha256"],
        row_from=rows[0],
        row_to=rows[1],
        row_tokens=start.get("row_tokens"),
    )


def _step_at(records: Sequence[Record], start: Record) -> int:
    """Steps done where an attempt began: as it says, else what was recorded last of the rows it began from."""
    if "step" in start:
        return start["step"]
    before = records[: records.index(start)]
    done = [record["step"] for record in before if start["rows_done"] in (record.get("row_to"), _saved(record))]
    return done[-1] if done and start["rows_done"] else 0


def _saved(record: Record) -> int | None:
    return record["rows_done"] if record["kind"] == "checkpoint" else None


def _no_such_step(run: str, step: int, attempt: int | None, began_at: dict[int, int]) -> UsageError:
    if attempt in began_at:
        where = f"attempt {attempt} began after step {began_at[attempt]}"
        return UsageError(
            f"attempt {attempt} of run {run!r} did not take step {step}",
            seen=where,
            wanted=f"a step from {began_at[attempt] + 1}",
            fix=f"python -m dataprep.explain --run {run} --step {max(step, 1)}",
        )
    return UsageError(
        f"run {run!r} has no step {step}" if attempt is None else f"run {run!r} has no attempt {attempt}",
        seen=f"attempts {', '.join(map(str, began_at))}",
        wanted="a step from 1 of one of them",
        fix=f"python -m dataprep.explain --run {run} --step {max(step, 1)}",
    )
