"""TRL's packing of a `datasets.Dataset`: `trl.data_utils.pack_dataset`, strategy "bfd" or "bfd_split".

Timed: the call, with its `map` in batches as it comes. It copies the tokens into their rows where the others only
plan; documents are given as uint16, its cheapest. Each batch of 1,000 is packed by itself, so that the rate and the
fill of the first documents are those of all: only --documents of them are packed, to save memory.
"""

import argparse
import json
import os
import time
from importlib.metadata import version
from pathlib import Path

os.environ["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"

import numpy as np
import pyarrow as pa
from datasets import Dataset
from datasets.table import InMemoryTable
from rooms import check
from trl.data_utils import pack_dataset


def main() -> None:
    """Pack, check, tell."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--lengths", type=Path, required=True)
    parser.add_argument("--seq-len", type=int, required=True)
    parser.add_argument("--strategy", required=True)
    parser.add_argument("--documents", type=int, required=True)
    parser.add_argument("--work", type=Path, required=True)
    args = parser.parse_args()
    length = np.load(args.lengths)[: args.documents]
    offsets = np.concatenate(([0], np.cumsum(length))).astype(np.int32)
    tokens = pa.array(np.arange(offsets[-1], dtype=np.uint32).astype(np.uint16))
    dataset = Dataset(InMemoryTable(pa.table({"input_ids": pa.ListArray.from_arrays(pa.array(offsets), tokens)})))
    began = time.perf_counter()
    packed = pack_dataset(dataset, args.seq_len, strategy=args.strategy)
    seconds = time.perf_counter() - began
    column = packed.data.column("input_ids")
    row_tokens = np.concatenate([np.diff(chunk.offsets.to_numpy()) for chunk in column.chunks]).astype(np.int64)
    told = check(row_tokens, args.seq_len, int(length.sum()))
    versions = {"trl": version("trl"), "datasets": version("datasets")}
    print(json.dumps({"seconds": seconds, "amount": len(length), "check": told, "versions": versions}))


if __name__ == "__main__":
    main()
