"""Retrace: a history's entries become the records a training would have written.

In:  entries in order, the rows of their recipes, the journals that exist. Out: a journal per run, and who was deleted.
Holds: an entry begins from weights that exist at that moment: a saved step of its own run or of its parent, neither
       deleted nor thrown away by a rewind; where its rows go on, the ledger says.

    base  steps 0–4, saved 2 and 4      rows 0–40
    base  steps 2–3 (a rewind)          rows 20–30 once more; rows 20–40 of before are computed in vain
    fork  parent base@2, reread         rows 0–… of the recipe again: seen twice
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dataprep.ledger import Journal, Record, trace_lineage
from dataprep.paths import CHECKPOINTS
from dataprep.quantity import at_step, run_at_step
from train.runs.history import Entry, History, refusal
from train.runs.row_supply import RowSupplies, RowSupply
from train.step_folders import step_folder

_MOST_PASSES = 10**4  # in one entry: more are a slip of the keyboard in the supply's size


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Where a run's weights stood: steps, the row counted through, own tokens. `sha256` stands for their bytes."""

    step: int
    rows_done: int
    tokens_done: int
    sha256: str | None

    @property
    def done(self) -> Record:
        """As a record of the journal says it."""
        return {"step": self.step, "rows_done": self.rows_done, "tokens_done": self.tokens_done}


@dataclass(kw_only=True)
class Retraced:
    """One run as far as it was retraced. `saved`: the checkpoints that exist at this moment of the history."""

    parent: tuple[str, int, str | None] | None
    records: list[Record] = field(default_factory=list)
    saved: dict[int, Weights] = field(default_factory=dict)
    attempt: int = 0
    origin: Weights | None = None  # before its first own step
    deleted: bool = False


class Retrace:
    """Retraces entries one after another, over the journals that exist."""

    def __init__(self, history: History, supplies: RowSupplies, existing: Mapping[str, Journal], time: str) -> None:
        self.runs: dict[str, Retraced] = {}
        self._history, self._supplies, self._time = history, supplies, time
        self._existing = existing

    def journals(self) -> dict[str, Journal]:
        """The journals that exist and those retraced so far."""
        made = {run: Journal(run=run, records=tuple(r.records), torn=None) for run, r in self.runs.items()}
        return {**self._existing, **made}

    def add(self, where: str, entry: Entry) -> None:
        """Retrace one entry. Raises UsageError where its weights or rows cannot be."""
        supply = self._supplies.of(where, entry)
        retraced = self.runs.get(entry.run) or self._begin_run(where, entry)
        weights = self._weights(where, entry, retraced)
        row = self._first_row(where, entry, supply, weights, retraced)
        self.runs[entry.run] = retraced
        retraced.attempt += 1
        self._train(entry, supply, retraced, weights, row)
        self._delete(where, entry, retraced)

    # ---- what it begins from

    def _begin_run(self, where: str, entry: Entry) -> Retraced:
        if entry.parent is None:
            return Retraced(parent=None)
        run, step = run_at_step(entry.parent)
        assert step is not None, "a history names the parent's step"
        made = self.runs.get(run)
        of_others = self._existing[run].of_kind("checkpoint") if made is None and run in self._existing else []
        saved: dict[int, str | None] = {record["step"]: record["sha256"] for record in of_others}
        if made:
            saved = {kept: weights.sha256 for kept, weights in made.saved.items()}
        if step not in saved:
            seen = "it was deleted before" if made and made.deleted else f"saved: {_listed(saved)}"
            raise refusal(where, f"there are no weights {entry.parent}", seen=seen, wanted=f"a saved step {step}")
        return Retraced(parent=(run, step, saved[step]))

    def _weights(self, where: str, entry: Entry, retraced: Retraced) -> Weights:
        """The weights an entry begins with; later checkpoints of its run are gone from then on."""
        parent = at_step(*retraced.parent[:2]) if retraced.parent else None
        if entry.parent not in (None, parent):
            raise refusal(
                where, f"run {entry.run} began with another parent", seen=entry.parent, wanted=parent or "no parent"
            )
        if retraced.origin is None:
            begins = {0, retraced.parent[1]} if retraced.parent else {0}
            if entry.from_step not in begins:
                raise refusal(where, "a run's first step", seen=entry.from_step, wanted=" or ".join(map(str, begins)))
            retraced.origin = Weights(step=entry.from_step, rows_done=0, tokens_done=0, sha256=None)
        held = {retraced.origin.step: retraced.origin, **retraced.saved}
        if entry.from_step not in held:
            problem = f"run {entry.run} has no weights of step {entry.from_step}"
            raise refusal(
                where, problem, seen=f"steps {_listed(held)}", wanted="one of those, or an earlier saved = […]"
            )
        retraced.saved = {step: kept for step, kept in retraced.saved.items() if step <= entry.from_step}
        return held[entry.from_step]

    def _first_row(self, where: str, entry: Entry, supply: RowSupply, weights: Weights, retraced: Retraced) -> int:
        """The first row it reads, counted through: at or after where the weights stand, at the asked row of a pass."""
        asked = 0 if entry.reread else entry.from_row
        if asked is None:
            asked = self._row_after(entry, supply, weights, retraced)
        n_passes = (entry.to_step - entry.from_step) * entry.batch_rows // supply.plan_rows
        if n_passes > _MOST_PASSES:
            size = f"{supply.recipe} has {supply.plan_rows:,} rows"
            raise refusal(where, "its supply is too small", seen=f"{n_passes:,} passes: {size}", wanted="up to 10,000")
        if asked >= supply.plan_rows:
            wanted = f"below {supply.plan_rows}, the rows of {supply.recipe}"
            raise refusal(where, "there is no such row", seen=f"from-row {asked}", wanted=wanted)
        return weights.rows_done + (asked - weights.rows_done) % supply.plan_rows

    def _row_after(self, entry: Entry, supply: RowSupply, weights: Weights, retraced: Retraced) -> int:
        """The row of this recipe after the last one that the weights hold, along the ancestry."""
        run, step = (entry.run, weights.step) if weights.sha256 else (retraced.parent or (None, None))[:2]
        if run is None:
            return 0
        lineage = trace_lineage(self.journals(), run, step)
        held = [rows.row_to for rows in lineage.rows if rows.recipe_sha256 == supply.sha256]
        return held[-1] % supply.plan_rows if held else 0

    # ---- what it did

    def _train(self, entry: Entry, supply: RowSupply, retraced: Retraced, weights: Weights, row: int) -> None:
        start = self._start(entry, supply, retraced) | {"rows_done": row, "step": weights.step}
        if row != weights.rows_done:
            start["weights_row"] = weights.rows_done
        self._write(retraced, "start", start)
        saved_steps = set(entry.saved_steps)
        first, tokens_done = row, weights.tokens_done
        for step in range(entry.from_step + 1, entry.to_step + 1):
            row_to = row + entry.batch_rows
            tokens = supply.tokens(row, row_to)
            counted = tokens if supply.all_count else None
            rows = {"step": step, "row_from": row, "row_to": row_to, "tokens": tokens, "loss_tokens": counted}
            self._write(retraced, "step", rows | {"loss": None, "lr": None})
            row = row_to
            if step in saved_steps:
                done = tokens_done + supply.tokens(first, row)
                self._save(entry, retraced, step=step, rows_done=row, tokens_done=done)
        if entry.to_step in retraced.saved:
            self._end(retraced, retraced.saved[entry.to_step])

    def _start(self, entry: Entry, supply: RowSupply, retraced: Retraced) -> Record:
        """A start without a model: train/settings.py refuses to go on with it."""
        run, step, sha256 = retraced.parent or (None, None, None)
        full = {} if supply.row_tokens is None else {"row_tokens": supply.row_tokens}
        return full | {
            "time": self._time,
            "run": entry.run,
            "replayed": self._history.sha256,
            "stage": entry.stage,
            "recipe": supply.recipe,
            "recipe_sha256": supply.sha256,
            "parent_run": run,
            "parent_step": step,
            "parent_sha256": sha256,
            "params": entry.params,
            "world_size": entry.gpus,
            "seq_len": entry.seq_len,
            "batch_rows": entry.batch_rows,
            "micro_batch": entry.micro_batch,
            "accumulation": entry.accumulation,
            "plan_rows": supply.plan_rows,
        }

    def _save(self, entry: Entry, retraced: Retraced, *, step: int, rows_done: int, tokens_done: int) -> None:
        named = f"{self._history.sha256} {entry.run} {retraced.attempt} {step}"
        sha256 = hashlib.sha256(named.encode()).hexdigest()
        weights = Weights(step=step, rows_done=rows_done, tokens_done=tokens_done, sha256=sha256)
        retraced.saved[step] = weights
        path = str(step_folder(Path(CHECKPOINTS), step))
        where = {"path": path, "bytes": 0, "sha256": sha256, "time": self._time}
        self._write(retraced, "checkpoint", weights.done | where)

    def _delete(self, where: str, entry: Entry, retraced: Retraced) -> None:
        """All of its weights, or those after a step: what was computed after it is then in no weights."""
        retraced.deleted = entry.deleted is True
        if entry.deleted is True:
            retraced.saved = {}
        elif entry.deleted is not False:
            if entry.deleted not in retraced.saved:
                seen, saved = f"deleted = {entry.deleted}", _listed(retraced.saved)
                raise refusal(where, "that step was never saved", seen=seen, wanted=f"true, or a saved step: {saved}")
            back_to = retraced.saved[entry.deleted]
            retraced.saved = {step: kept for step, kept in retraced.saved.items() if step <= back_to.step}
            last_start = next(record for record in reversed(retraced.records) if record["kind"] == "start")
            again = {key: value for key, value in last_start.items() if key not in ("kind", "attempt", "weights_row")}
            retraced.attempt += 1
            self._write(retraced, "start", again | {"rows_done": back_to.rows_done, "step": back_to.step})
            self._end(retraced, back_to)

    def _end(self, retraced: Retraced, weights: Weights) -> None:
        self._write(retraced, "end", weights.done | {"status": "stopped", "time": self._time})

    @staticmethod
    def _write(retraced: Retraced, kind: str, record: dict[str, Any]) -> None:
        retraced.records.append({"kind": kind, "attempt": retraced.attempt, **record})


def _listed(steps: Mapping[int, Any]) -> str:
    return ", ".join(map(str, sorted(steps))) or "none"
