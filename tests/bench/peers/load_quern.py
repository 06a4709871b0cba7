"""Ours: the trainer's loader over the bench's plan, from Python.

Measured: rows of a recipe as the trainer gets them: vocabulary checked, masks applied and documents numbered where
          the recipe says so; each pass opens the loader anew, so its maps begin unread. --ahead: through the thread
          that gathers the next step while one is computed.
Proved in the same run, untimed: a sample of batches against a naive reader of plan and bins; and all batches of the
          last fifth, read by a loader that was opened there, against the uninterrupted stream.
"""

import time
import zlib
from importlib.metadata import version

import numpy as np
import pyarrow.parquet as pq
from loading import BATCH_ROWS, BATCH_TOKENS, RESUME_AT, SEQ_LEN, arguments, keep, reply

from dataprep.batch import Batch
from dataprep.paths import Paths
from dataprep.recipe import load_recipe
from train.loader import Loader, RankRows
from train.prefetch import RowsAhead

BATCH = Batch(seq_len=SEQ_LEN, world_size=1, micro_batch=BATCH_ROWS, accumulation=1)
args = arguments()
paths = Paths(root=args.root)
recipe = load_recipe(paths, args.recipe)
LAST = recipe.plan_rows // BATCH_ROWS * BATCH_ROWS
LINES: dict[str, np.ndarray] = {}  # the whole plan, read when the clocks have stopped


def main() -> None:
    began = time.perf_counter()
    loader = Loader(paths, recipe)
    opened_s = time.perf_counter() - began
    first = rows_at(loader, 0)
    first_s = time.perf_counter() - began

    seconds, n_batches = 0.0, 0
    while n_batches < args.batches:
        loader = Loader(paths, recipe)
        source = RowsAhead(loader, BATCH, rank=0, last_row=LAST) if args.ahead else None
        begins = range(0, LAST, BATCH_ROWS)[: args.batches - n_batches]
        rows_at(loader, 0)  # reads the plan's first row group: a matter of the first batch, which has its own figure
        began = time.perf_counter()
        for row in begins:
            source.take(row, row + BATCH_ROWS) if source else rows_at(loader, row)
        seconds, n_batches = seconds + time.perf_counter() - began, n_batches + len(begins)
        if source:
            source.close()

    resumed_at = int(LAST * RESUME_AT) // BATCH_ROWS * BATCH_ROWS
    resumed = Loader(paths, recipe)
    began = time.perf_counter()
    rows = rows_at(resumed, resumed_at)
    resume_s = time.perf_counter() - began

    plan = pq.read_table(paths.plans / f"{recipe.name}.parquet")
    LINES.update((name, plan[name].to_numpy()) for name in plan.column_names)
    sample = range(0, LAST, max(1, LAST // 64 // BATCH_ROWS) * BATCH_ROWS)
    keep(args.work, [(each.inputs_AMT[0], each.targets_AMT[0]) for each in (first, rows)])
    reply(
        {
            "seconds": seconds,
            "amount": n_batches * BATCH_TOKENS,
            "first_ms": first_s * 1e3,
            "opened_ms": opened_s * 1e3,
            "resume_ms": resume_s * 1e3,
            "plan_rows": recipe.plan_rows,
            "plan_bytes": recipe.plan_bytes,
            "check": {
                "resumed as uninterrupted": crc(loader, 0, resumed_at) == crc(resumed, resumed_at, resumed_at),
                "as a naive reader": all(as_naive(loader, row) for row in sample),
            },
            "versions": {"quern": version("quern"), "numpy": version("numpy")},
        }
    )


def rows_at(loader: Loader, row: int) -> RankRows:
    return loader.rank_rows(row, row + BATCH_ROWS, batch=BATCH, rank=0)


def crc(loader: Loader, row_from: int, counted_from: int) -> int:
    """Of every batch from `counted_from` to the end, in a stream that began at `row_from`."""
    total = 0
    for row in range(row_from, LAST, BATCH_ROWS):
        rows = rows_at(loader, row)
        for array in rows.arrays if row >= counted_from else ():
            total = zlib.crc32(array, total)
    return total


def as_naive(loader: Loader, row: int) -> bool:
    """Whether a batch is what the plan's own lines say, put together token by token."""
    got = rows_at(loader, row)
    wanted = [naive_row(number) for number in range(row, row + BATCH_ROWS)]
    same = (
        (array[0] == np.array(rows)).all() and array.dtype == np.int64
        for array, rows in zip(got.arrays, zip(*wanted, strict=True), strict=False)
    )
    return all(same)


def naive_row(number: int) -> tuple[list[int], list[int], list[int]]:
    """Inputs, targets and document numbers of one row of the plan."""
    inputs, targets, documents, document = [], [], [], -1
    for line in range(*np.searchsorted(LINES["row"], [number, number + 1])):
        source, shard, start, length = (LINES[name][line] for name in ("source", "shard", "start", "length"))
        held = paths.bins(recipe.tokenizer, source) / f"{shard}.bin"
        tokens = [recipe.end_id, *np.fromfile(held, "<u2", count=length + 1, offset=2 * max(start - 1, 0)).tolist()]
        tokens = tokens[1:] if start else tokens[: length + 1]
        mask_file = held.with_suffix(".loss")
        masked = recipe.loss == "assistant" and mask_file.exists()
        mask = np.fromfile(mask_file, "u1", count=length, offset=start).tolist() if masked else [1] * length
        inputs += tokens[:-1]
        targets += [token if counts else -1 for token, counts in zip(tokens[1:], mask, strict=True)]
        for place, token in enumerate(tokens[:-1]):
            document += place == 0 or token == recipe.end_id
            documents.append(document)
    lacking = SEQ_LEN - len(inputs)
    padded = inputs + [recipe.pad_id] * lacking, targets + [-1] * lacking
    return *padded, documents + [document + 1] * lacking


if __name__ == "__main__":
    main()
