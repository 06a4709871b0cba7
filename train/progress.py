"""What a person reads: the header before the first step, and step lines at a pace one can follow.

In:  a job, step records. Out: lines of text, on any kind of output.
Holds: tokens are the ones counted; every factor of tokens per step is named.
step 4990/21400 23.3% | loss 2.913 | lr 1.0e-3 | gn 0.84 | 76,712 tok/s | mfu 41.2% | 2.616B tok
    | vram 41.2/52.0 GiB (+0.0/1k) | $20.96 → $90.00 | eta 2h12m
"""

import time
from typing import Any

from dataprep.estimate import RunEstimate, count_model, estimate_run
from dataprep.gpus import GIB, gpu_table
from dataprep.recipe import Recipe
from train.beginning import Parent
from train.checkpoint import Cursor
from train.meter import Meter
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
    cost = expected(job, cursor, ranks).cost_sentence
    warning = "" if job.routine.usd_per_hour else f" ({gpu_table().warning})"
    lines = {
        "run": f"{job.run} ({job.settings.stage_name}) on {ranks.hardware}",
        "model": f"{job.settings.model}: {n_parameters:,} parameters, {shape.n_layers} layers of width {shape.width}",
        "plan": _plan(recipe),
        "step": job.batch.product,
        "steps": f"{n_full:,} of {rows:,} rows{remainder}, to row {last_row:,}",
        "cost": f"{cost}{warning}" if cost else "",
        "limits": job.routine.limits,
        "judge": job.held_out.summary(job.routine.validate_every),
        "ask": job.prompts.summary(job.routine.sample_every),
        "core": _core(job),
        "from": f"step {cursor.step}: {done}" if cursor.step else begin,
    }
    return "\n".join(f"{name:6} {text}" for name, text in lines.items() if text)


def expected(job: Job, cursor: Cursor, ranks: Ranks) -> RunEstimate:
    """What the rows that are left take: from row 0 the very numbers of `python -m dataprep.budget --recipe`."""
    return estimate_run(
        targets=(job.last_row(cursor) - cursor.rows_done) * job.recipe.seq_len,
        batch=job.batch,
        model=count_model(job.settings.shape, job.recipe.vocab_size),
        gpu=ranks.gpu,
        usd_per_hour=job.routine.usd_per_hour,
    )


def _plan(recipe: Recipe) -> str:
    """The plan's size; which targets count and what a token sees, where that is not everything."""
    text = f"{recipe.name}: {recipe.plan_rows:,} rows of {recipe.seq_len:,}, {recipe.tokens:,} tokens"
    text += f"; loss on {recipe.loss_tokens:,} of them" if recipe.loss == "assistant" else ""
    return text + ("; attention inside documents" if recipe.attention == "document" else "")


def _core(job: Job) -> str:
    bundle, routine = job.bundle, job.routine
    if bundle is None:
        return ""
    asked = f"{len(bundle.tasks)} tasks of {bundle.name}, at most {routine.core_max_per_task:,} items of each"
    return f"every {routine.core_every:,} steps and at the end: {asked}"


class StepLines:
    """Says a line when the last is old enough. Loss (by counted target) and speed are means since the last line.

    Speed is that of the steps, as in the journal: a validation or a save between them is no slower training. The time
    left does count these, but for the validation of a parent's weights: the first step begins the clock.
    """

    def __init__(self, job: Job, cursor: Cursor, ranks: Ranks, meter: Meter) -> None:
        self._say, self._meter = ranks.say, meter
        self._last_row, self._first_tokens = job.last_row(cursor), cursor.tokens_done
        self._n_steps = cursor.step + -(-(self._last_row - cursor.rows_done) // job.batch.rows)
        self._vram = VramSlope()
        self._started = self._printed = time.monotonic()
        self._tokens, self._counted, self._loss, self._seconds = 0, 0, 0.0, 0.0

    def add(self, record: dict[str, Any], cursor: Cursor) -> None:
        """Take in one step; print if it is time, and always the first and the last."""
        now = time.monotonic()
        is_first = cursor.tokens_done - self._first_tokens == record["tokens"]
        self._started = now - record["seconds"] if is_first else self._started
        self._tokens += record["tokens"]
        self._seconds += record["seconds"]
        self._counted += record["loss_tokens"]
        self._loss += record["loss"] * record["loss_tokens"]
        self._vram.add(cursor.step, record["vram_allocated"])
        least, most = _QUIET_SECONDS
        quiet = min(max((now - self._started) / _QUIET_SHARE, least), most)
        if is_first or cursor.rows_done == self._last_row or now - self._printed >= quiet:
            self._say(self._line(record, cursor, now))
            self._printed, self._tokens, self._counted, self._loss, self._seconds = now, 0, 0, 0.0, 0.0

    def _line(self, record: dict[str, Any], cursor: Cursor, now: float) -> str:
        eta = self._eta(cursor, now)
        parts = [
            f"step {cursor.step}/{self._n_steps} {100 * cursor.rows_done / self._last_row:.1f}%",
            f"loss {self._loss / max(self._counted, 1):.3f}",
            f"lr {record['lr']:.1e}".replace("e-0", "e-"),
            f"gn {record['grad_norm']:.2f}",
            f"{self._tokens / max(self._seconds, 1e-9):,.0f} tok/s",
            "" if record["mfu"] is None else f"mfu {100 * record['mfu']:.1f}%",
            f"{shortened(cursor.tokens_done)} tok",
            self._vram.shown(record),
            "" if self._meter.usd is None else f"${self._meter.usd:,.2f} → ${self._meter.usd_after(eta):,.2f}",
            f"eta {duration(eta)}",
        ]
        return " | ".join(part for part in parts if part)

    def _eta(self, cursor: Cursor, now: float) -> float:
        done = cursor.tokens_done - self._first_tokens
        rows_left = self._last_row - cursor.rows_done
        tokens_left = rows_left * cursor.tokens_done / cursor.rows_done
        return tokens_left * (now - self._started) / max(done, 1)


class VramSlope:
    """GPU memory that is held at the end of each step, and how it grows: what creeps ends in an OOM after hours."""

    _WARM_UP_STEPS = 10  # the first steps allocate moments, buckets and workspaces

    def __init__(self) -> None:
        self._seen = 0
        self._first: tuple[int, int] | None = None
        self._last: tuple[int, int] | None = None

    def add(self, step: int, allocated: int | None) -> None:
        """Take in one step's bytes."""
        self._seen += 1
        if allocated is not None and self._seen > self._WARM_UP_STEPS:
            self._last = (step, allocated)
            self._first = self._first or self._last

    @property
    def per_1k_steps(self) -> float:
        """Bytes gained in a thousand steps."""
        if self._first is None or self._last is None or self._first[0] == self._last[0]:
            return 0.0
        return 1000 * (self._last[1] - self._first[1]) / (self._last[0] - self._first[0])

    def shown(self, record: dict[str, Any]) -> str:
        """Allocated / reserved, and the slope; nothing without a GPU."""
        if record["vram_allocated"] is None:
            return ""
        allocated, reserved, slope = (
            n_bytes / GIB for n_bytes in (record["vram_allocated"], record["vram_reserved"], self.per_1k_steps)
        )
        return f"vram {allocated:.1f}/{reserved:.1f} GiB ({slope:+.1f}/1k)"


def shortened(tokens: int) -> str:
    """164,000 -> 0.164M; 2,616,000,000 -> 2.616B."""
    return f"{tokens / 1e9:.3f}B" if tokens >= 10**9 else f"{tokens / 1e6:.3f}M"


def duration(seconds: float) -> str:
    """62 -> 1m02s; 7,920 -> 2h12m."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes:02}m"
    return f"{minutes}m{rest:02}s" if minutes else f"{rest}s"
