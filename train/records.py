"""The journal's records: which keys each kind has. The manifest's tables are built from them.

In:  a job, a cursor, what was measured. Out: plain dictionaries.
Holds: tokens are counted from rows, and `step` counts steps done: a first step has step 1 and row_from 0.
{"step": 1, "row_from": 0, "row_to": 8, "tokens": 512, "loss_tokens": 512, "loss": 6.2, "lr": 0.001, …}
"""

from dataclasses import asdict
from typing import Any

import torch

from dataprep.ledger import Record
from train.beginning import Parent
from train.checkpoint import Checkpoint, Cursor
from train.journal import now
from train.prepare import Job
from train.ranks import Ranks


def start_record(job: Job, ranks: Ranks, cursor: Cursor, n_parameters: int, parent: Parent | None) -> Record:
    """What is trained, from where, and how; its identity is compared when the run goes on."""
    return {
        "time": now(),
        "run": job.run,
        "stage": job.settings.stage_name,
        **job.identity,
        "parent_run": parent.run if parent else None,
        "parent_step": parent.step if parent else None,
        "parent_sha256": parent.weights_sha256 if parent else None,
        "kept_optimizer": parent.optimizer_kept if parent else False,
        "params": n_parameters,
        "world_size": ranks.world_size,
        "seq_len": job.batch.seq_len,
        "batch_rows": job.batch.rows,
        "micro_batch": job.batch.micro_batch,
        "accumulation": job.batch.accumulation,
        "routine": asdict(job.settings.routine),
        "preset": job.settings.model,
        "schedule": job.settings.schedule,
        "learning_rate": job.settings.peak_rate,
        "rows_done": cursor.rows_done,
        "step": cursor.step,
        "plan_rows": job.recipe.plan_rows,
        "device": str(ranks.device),
        "torch": torch.__version__,
        "argv": list(job.config.argv),
    }


def step_record(before: Cursor, after: Cursor, measured: dict[str, float]) -> Record:
    """One step: the rows it took, the tokens counted in them, and what was measured."""
    return {
        "step": after.step,
        "row_from": before.rows_done,
        "row_to": after.rows_done,
        "tokens": after.tokens_done - before.tokens_done,
        "loss_tokens": after.loss_tokens_done - before.loss_tokens_done,
        **measured,
    }


def speed(ranks: Ranks, n_parameters: int, tokens: int, seconds: float) -> dict[str, Any]:
    """Tokens per second; on a GPU also its use by 6N and its memory."""
    on_gpu = ranks.device.type == "cuda"
    tokens_per_s = tokens / seconds
    peak = ranks.peak_flops
    return {
        "seconds": round(seconds, 6),
        "tokens_per_s": round(tokens_per_s, 1),
        "mfu": 6 * n_parameters * tokens_per_s / (peak * ranks.world_size) if peak else None,
        "vram_allocated": torch.cuda.memory_allocated(ranks.device) if on_gpu else None,
        "vram_reserved": torch.cuda.memory_reserved(ranks.device) if on_gpu else None,
    }


def checkpoint_record(job: Job, made: Checkpoint) -> Record:
    """A checkpoint that is whole under its name."""
    return {
        "step": made.cursor.step,
        "rows_done": made.cursor.rows_done,
        "tokens_done": made.cursor.tokens_done,
        "path": str(made.folder.relative_to(job.folder)),
        "bytes": made.weights_bytes,
        "sha256": made.weights_sha256,
        "time": now(),
    }


def end_record(cursor: Cursor, status: str, seconds: float) -> Record:
    """How an attempt ended: finished, stopped or failed; and how long it took, loading and saving included."""
    return {
        "step": cursor.step,
        "rows_done": cursor.rows_done,
        "tokens_done": cursor.tokens_done,
        "status": status,
        "seconds": round(seconds, 3),
        "time": now(),
    }
