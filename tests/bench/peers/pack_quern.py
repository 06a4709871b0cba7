"""Ours: documents of given lengths put into rows, best-fit or concat, to the segments that a plan holds.

Timed: `fill_rows`: documents split, placed, and every segment laid out in row order. Left out: reading the lengths.
Checked here: every token is in exactly one segment; the rooms of a sample are those of a naive best-fit decreasing.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
from rooms import check

import dataprep
from dataprep.packing import Pieces, Segments
from dataprep.strategies import fill_rows

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from naive import naive_best_fit_decreasing

_SAMPLE = 5_000


def main() -> None:
    """Pack, check, tell."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--lengths", type=Path, required=True)
    parser.add_argument("--seq-len", type=int, required=True)
    parser.add_argument("--strategy", required=True)
    parser.add_argument("--work", type=Path, required=True)
    args = parser.parse_args()
    length = np.load(args.lengths)
    documents = as_pieces(length)
    began = time.perf_counter()
    filled = fill_rows(documents, args.seq_len, strategy=args.strategy, long="split")
    seconds = time.perf_counter() - began
    segments = filled.segments
    check_conserved(segments, int(length.sum()))
    told = check(np.bincount(segments.row, segments.length).astype(np.int64), args.seq_len, int(length.sum()))
    if args.strategy == "best-fit":
        told["documents held to the naive packer"] = check_sample(length[:_SAMPLE], args.seq_len)
    reply = {"seconds": seconds, "amount": len(length), "check": told, "versions": {"quern": dataprep.__version__}}
    print(json.dumps(reply))


def as_pieces(length: np.ndarray) -> Pieces:
    """Documents one after another in one shard."""
    return Pieces(shard=np.zeros(len(length), dtype=np.int32), start=np.cumsum(length) - length, length=length)


def check_conserved(segments: Segments, n_tokens: int) -> None:
    """Sorted by start, segments meet end to end, from the first token to the last."""
    order = np.argsort(segments.start)
    start, stop = segments.start[order], (segments.start + segments.length)[order]
    assert start[0] == 0, "the first token is lost"
    assert stop[-1] == n_tokens, "the last token is lost"
    assert (start[1:] == stop[:-1]).all(), "a token is lost or there twice"


def check_sample(length: np.ndarray, seq_len: int) -> int:
    """The rooms that best-fit decreasing leaves, document by document; returns how many there were."""
    filled = fill_rows(as_pieces(length), seq_len, strategy="best-fit", long="split")
    parts = [min(seq_len, whole - first) for whole in length.tolist() for first in range(0, whole, seq_len)]
    rooms = seq_len - np.bincount(filled.segments.row, filled.segments.length).astype(np.int64)
    assert sorted(rooms.tolist()) == sorted(naive_best_fit_decreasing(parts, seq_len)), "not best-fit decreasing"
    return len(length)


if __name__ == "__main__":
    main()
