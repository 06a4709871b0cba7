"""OLMo-core's planner: best-fit decreasing with a segment tree, `InstancePacker.pack_documents`.

Timed: planning alone. Left out, in its favour: finding document ends in token files, splitting what is longer than
a row (its `fragment`, given ready), and laying out what each row reads.
"""

import argparse
import json
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
from olmo_core.data.utils import InstancePacker
from rooms import check


def main() -> None:
    """Pack, check, tell."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--lengths", type=Path, required=True)
    parser.add_argument("--seq-len", type=int, required=True)
    parser.add_argument("--work", type=Path, required=True)
    args = parser.parse_args()
    length, seq_len = np.load(args.lengths), args.seq_len
    indices = fragments(length, seq_len)
    began = time.perf_counter()
    instances, ordered, _ = InstancePacker(seq_len).pack_documents(indices)
    seconds = time.perf_counter() - began
    part = (ordered[:, 1] - ordered[:, 0]).astype(np.int64)
    row_tokens = np.array([part[row].sum() for row in instances], dtype=np.int64)
    told = check(row_tokens, seq_len, int(length.sum()))
    versions = {"ai2-olmo-core": version("ai2-olmo-core")}
    print(json.dumps({"seconds": seconds, "amount": len(length), "check": told, "versions": versions}))


def fragments(length: np.ndarray, seq_len: int) -> np.ndarray:
    """(start, end) of every document, those longer than a row cut: uint64[n, 2]."""
    end = np.cumsum(length)
    n_parts = -(-length // seq_len)
    nth = np.arange(n_parts.sum()) - np.repeat(np.cumsum(n_parts) - n_parts, n_parts)
    start = np.repeat(end - length, n_parts) + nth * seq_len
    return np.stack((start, np.minimum(start + seq_len, np.repeat(end, n_parts))), axis=1).astype(np.uint64)


if __name__ == "__main__":
    main()
