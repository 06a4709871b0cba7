"""Hugging Face datasets: rows of 2,049 tokens in Arrow files, shuffled, read as numpy batches.

Measured: `with_format("numpy")` and `iter(batch_size=16)`, which is faster than a DataLoader over it; widened once.
Left out: a mixture (one dataset), cutting the rows. A resume selects what is left of the shuffled rows.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
from datasets import Dataset, load_from_disk
from loading import BATCH_ROWS, SEQ_LEN, Stream, arguments, measure, prepared, split, tokens

args = arguments()


def make(folder: Path) -> None:
    held = tokens(args.root)
    rows = pa.FixedSizeListArray.from_arrays(pa.array(held[: len(held) // (SEQ_LEN + 1) * (SEQ_LEN + 1)]), SEQ_LEN + 1)
    Dataset(pa.table({"tokens": rows})).save_to_disk(str(folder / "rows"))


folder = prepared(args, "datasets", make)


def stream(skipped: float = 0.0) -> Stream:
    held = load_from_disk(str(folder / "rows")).with_format("numpy").shuffle(seed=0)
    held = held.select(range(int(len(held) * skipped), len(held)))
    while True:
        for batch in held.iter(batch_size=BATCH_ROWS, drop_last_batch=True):
            wide = batch["tokens"].astype(np.int64)
            yield split(wide)


measure(stream, args, ("datasets", "pyarrow"), resume=stream)
