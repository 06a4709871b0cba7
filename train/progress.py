"""What a person reads: the header before the first step, and step lines at a pace one can follow.

In:  a job, step records. Out: lines of text, on any kind of output.
Holds: tokens are the ones counted; every factor of tokens per step is named.
step 40/620 6.5% | loss 5.913 | lr 1.0e-3 | gn 0.84 | 10,712 tok/s | 0.164M tok | eta 1m02s
"""

import time
from typing import Any

from dataprep.recipe import Recipe
from train.beginning import Parent
from train.checkpoint import Cursor
from train.prepare import Job
from train.ranks import Ranks

_QUIET_SECONDS = (2.0, 30.0)  # at least and at most between two lines
_QUIET_SHARE = 20  # of the time so far: a minute gets thirty lines, an hour a few hundred


def header(job: Job, cursor: Cursor, ranks: Ranks, n_parameters: int, parent: Parent | None) -> str:
    """Everything that decides cost and outcome, before it is spent."""
    shape, recipe, rows = job.settings.shape, job.recipe, job.batch.rows
    last_row = job.last_row(cursor)
    n_full, n_left = divmod(last_row - cursor.rows_done, rows)
    remainder = f" + 1 of {n_left:,} rows ({n_left * recipe.seq_len:,} tokens)" if n_left else ""
    done = f"{cursor.rows_done:,} rows, {cursor.tokens_done:,} tokens done"
    kept = "weights and optimizer" if parent and parent.optimizer_kept else "weights"
    begin = f"row 0, {kept} of {parent.run} at step {parent.step:,}" if parent else "row 0"
    lines = {
        "run": f"{job.run} ({job.settings.stage_name}) on {ranks.hardware}",
        "model": f"{job.settings.model}: {n_parameters:,} parameters, {shape.n_layers} layers of width {shape.width}",
        "plan": _plan(recipe),
        "step": job.batch.product,
        "steps": f"{n_full:,} of {rows:,} rows{remainder}, to row {last_row:,}",
        "from": f"step {cursor.step}: {done}" if cursor.step else begin,
    }
    return "\n".join(f"{name:6} {text}" for name, text in lines.items())


def _plan(recipe: Recipe) -> str:
    """The plan's size; which targets count and what a token sees, where that is not everything."""
    text = f"{recipe.name}: {recipe.plan_rows:,} rows of {recipe.seq_len:,}, {recipe.tokens:,} tokens"
    text += f"; loss on {recipe.loss_tokens:,} of them" if recipe.loss == "assistant" else ""
    return text + ("; attention inside documents" if recipe.attention == "document" else "")


class StepLines:
    """Says a line when the last is old enough. Loss (by counted target) and speed are means since the last line."""

    def __init__(self, job: Job, cursor: Cursor, ranks: Ranks) -> None:
        self._say = ranks.say
        self._last_row, self._first_tokens = job.last_row(cursor), cursor.tokens_done
        self._n_steps = cursor.step + -(-(self._last_row - cursor.rows_done) // job.batch.rows)
        self._started = self._printed = time.monotonic()
        self._tokens, self._counted, self._loss = 0, 0, 0.0

    def add(self, record: dict[str, Any], cursor: Cursor) -> None:
        """Take in one step; print if it is time, and always the first and the last."""
        now = time.monotonic()
        self._tokens += record["tokens"]
        self._counted += record["loss_tokens"]
        self._loss += record["loss"] * record["loss_tokens"]
        least, most = _QUIET_SECONDS
        quiet = min(max((now - self._started) / _QUIET_SHARE, least), most)
        is_end = self._tokens == cursor.tokens_done - self._first_tokens or cursor.rows_done == self._last_row
        if is_end or now - self._printed >= quiet:
            self._say(self._line(record, cursor, now))
            self._printed, self._tokens, self._counted, self._loss = now, 0, 0, 0.0

    def _line(self, record: dict[str, Any], cursor: Cursor, now: float) -> str:
        seconds = max(now - self._printed, 1e-9)
        parts = [
            f"step {cursor.step}/{self._n_steps} {100 * cursor.rows_done / self._last_row:.1f}%",
            f"loss {self._loss / max(self._counted, 1):.3f}",
            f"lr {record['lr']:.1e}".replace("e-0", "e-"),
            f"gn {record['grad_norm']:.2f}",
            f"{self._tokens / seconds:,.0f} tok/s",
            f"{cursor.tokens_done / 1e6:.3f}M tok",
        ]
        if record["mfu"] is not None:
            parts.insert(5, f"mfu {100 * record['mfu']:.1f}%")
        if record["vram_allocated"] is not None:
            parts.append(f"vram {record['vram_allocated'] / 2**30:.1f}/{record['vram_reserved'] / 2**30:.1f} GiB")
        return " | ".join([*parts, f"eta {self._eta(cursor, now)}"])

    def _eta(self, cursor: Cursor, now: float) -> str:
        done = cursor.tokens_done - self._first_tokens
        rows_left = self._last_row - cursor.rows_done
        tokens_left = rows_left * cursor.tokens_done / cursor.rows_done
        return duration(tokens_left * (now - self._started) / max(done, 1))


def duration(seconds: float) -> str:
    """62 -> 1m02s; 7,920 -> 2h12m."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes:02}m"
    return f"{minutes}m{rest:02}s" if minutes else f"{rest}s"
