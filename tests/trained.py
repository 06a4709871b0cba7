"""Runs as the trainer would journal them, written by hand, and what their weights truly hold."""

import json
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

from naive import tokens_of

from dataprep.paths import Paths
from dataprep.plan import open_plan
from dataprep.recipe import Recipe

Token = tuple[str, str, int]  # source, shard, place in the shard
Record = dict[str, Any]


def rows_of(paths: Paths, recipe: Recipe) -> list[list[Token]]:
    """The tokens of every row of a published plan, one by one."""
    rows: list[list[Token]] = [[] for _ in range(recipe.plan_rows)]
    for row, number, token in tokens_of(open_plan(paths, recipe).segments(0, recipe.plan_rows)):
        rows[row].append((recipe.shards[number].source, recipe.shards[number].shard, token))
    return rows


class Run:
    """A run under way: its journal so far, and the tokens that its weights hold, kept by hand."""

    def __init__(
        self,
        paths: Paths,
        run: str,
        recipe: Recipe,
        parent: tuple[str, int] | None = None,
        held: frozenset = frozenset(),
    ) -> None:
        self._file = paths.runs / run / "journal.jsonl"
        self._recipe, self._parent, self._rows = recipe, parent, rows_of(paths, recipe)
        self.records: list[Record] = []
        self.row = self.step = self.attempt = 0
        self.weights: frozenset[Token] = held  # now, in memory
        # Weights on disk by step, as (row, tokens); a run that is begun anew forgets later ones, as the trainer does.
        self.saved: dict[int, tuple[int, frozenset[Token]]] = {}
        self.begun_with = held

    def start(self, step: int = 0, *, batch_rows: int) -> None:
        """Begin an attempt from the weights saved at `step`; 0 is what the run was begun with."""
        self.saved = {other: at for other, at in self.saved.items() if other <= step}
        self.row, self.weights = self.saved.get(step, (0, self.begun_with))
        self.step, self.attempt, self._batch_rows = step, self.attempt + 1, batch_rows
        parent_run, parent_step = self._parent or (None, None)
        told = {"recipe": self._recipe.name, "recipe_sha256": self._recipe.sha256, "stage": "pretrain", "params": 1}
        told |= {"parent_run": parent_run, "parent_step": parent_step, "world_size": 1, "rows_done": self.row}
        told |= {"batch_rows": batch_rows, "micro_batch": batch_rows, "accumulation": 1}
        self._write("start", time="2026-11-01T00:00:00+00:00", **told)

    def take_step(self) -> None:
        """One step of the attempt's batch, or of what the plan has left."""
        row_to = min(self.row + self._batch_rows, self._recipe.plan_rows)
        taken = [token for row in self._rows[self.row : row_to] for token in row]
        rows = {"row_from": self.row, "row_to": row_to, "tokens": len(taken), "loss_tokens": len(taken)}
        self.row, self.step, self.weights = row_to, self.step + 1, self.weights | frozenset(taken)
        self._write("step", step=self.step, **rows, loss=1.0, lr=0.001)

    def save(self) -> None:
        """A checkpoint. Its folder is not made: nobody here reads weights."""
        self.saved[self.step] = (self.row, self.weights)
        path = {"path": f"checkpoints/step_{self.step:08d}", "bytes": 1, "sha256": f"{self.attempt}/{self.step}"}
        self._write("checkpoint", step=self.step, rows_done=self.row, tokens_done=len(self.weights), **path)

    @property
    def is_done(self) -> bool:
        """Whether the plan has no row left."""
        return self.row == self._recipe.plan_rows

    def _write(self, kind: str, **fields: Any) -> None:
        self.records.append({"kind": kind, "attempt": self.attempt, **fields})
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._file.write_text("".join(json.dumps(record) + "\n" for record in self.records))


def train_at_random(run: Run, rng: Random, attempts: Sequence[int]) -> None:
    """Attempts of so many steps each, with crashes, rewinds and other batches; something is saved in the end."""
    for n_steps in attempts:
        run.start(rng.choice([0, *run.saved]), batch_rows=rng.randint(1, 4))
        for _ in range(n_steps):
            if not run.is_done:
                run.take_step()
                if rng.random() < 0.5:  # else these rows are lost, should the attempt end here
                    run.save()
    if not run.saved:
        run.start(batch_rows=1)
        run.take_step()
        run.save()


def trash(paths: Paths, run: str) -> Path:
    """Move a run to the trash."""
    to = paths.runs / ".trash" / run
    to.parent.mkdir(parents=True, exist_ok=True)
    return (paths.runs / run).rename(to)
