"""Bench: documents put into rows, by every strategy, for two kinds of lengths. A script, not a test.

In:  a number of documents. Out: a table of rows, fill, documents split, tokens lost and seconds.
Holds: lengths are drawn before the clock starts; only `fill_rows` is timed, index work and all.
Run: python tests/bench/pack_rows.py --documents 1M --seq-len 2048 --runs 5
"""

import argparse
import resource
import statistics
import time

import numpy as np

from dataprep import quantity
from dataprep.console import table
from dataprep.packing import Pieces, count_documents
from dataprep.strategies import STRATEGIES, fill_rows


def main() -> None:
    """Fill and time, strategy by strategy."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--documents", type=quantity.count, default=10**6)
    parser.add_argument("--seq-len", type=quantity.count, default=2048)
    parser.add_argument("--runs", type=quantity.count, default=5)
    args = parser.parse_args()
    lines = []
    for name, length in (("lognormal", lognormal(args.documents)), ("chat", chat(args.documents))):
        pieces = documents(length)
        lines += [[name, *measure(pieces, args.seq_len, strategy, args.runs)] for strategy in STRATEGIES]
    print(f"{args.documents:,} documents, rows of {args.seq_len:,}, {args.runs} runs, one thread\n")
    print(table(["lengths", "strategy", "rows", "fill", "split", "lost", "median s", "best s", "worst s"], lines))
    print(f"\npeak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")


def lognormal(n: int) -> np.ndarray:
    """Web text: lognormal with mean 1,000 and sigma 1.0 (median 607), seed 0."""
    return drawn(np.random.default_rng(0), n, mean=1000, sigma=1.0)


def chat(n: int) -> np.ndarray:
    """Conversations: 70 % lognormal with mean 350 and sigma 0.8, 30 % with mean 40 and sigma 0.5, seed 1."""
    rng = np.random.default_rng(1)
    return np.where(rng.random(n) < 0.7, drawn(rng, n, mean=350, sigma=0.8), drawn(rng, n, mean=40, sigma=0.5))


def drawn(rng: np.random.Generator, n: int, *, mean: float, sigma: float) -> np.ndarray:
    """Whole lengths of at least one token: int64[n]."""
    return np.maximum(1, np.rint(rng.lognormal(np.log(mean) - sigma**2 / 2, sigma, n))).astype(np.int64)


def documents(length: np.ndarray) -> Pieces:
    """One shard that holds them one after another."""
    return Pieces(shard=np.zeros(len(length), dtype=np.int32), start=np.cumsum(length) - length, length=length)


def measure(pieces: Pieces, seq_len: int, strategy: str, runs: int) -> list[str | int]:
    """One line of the table, but for its first column."""
    seconds = []
    for _ in range(runs):
        begun = time.perf_counter()
        filled = fill_rows(pieces, seq_len, strategy=strategy, long="split")
        seconds.append(time.perf_counter() - begun)
    held = int(filled.segments.length.sum(dtype=np.int64))
    _, split = count_documents(filled.segments, pieces.start + pieces.length)
    lost = int(pieces.length.sum()) - held
    times = [f"{t:.3f}" for t in (statistics.median(seconds), min(seconds), max(seconds))]
    fill = f"{held / (filled.n_rows * seq_len):.4%}"
    return [strategy, filled.n_rows, fill, f"{split / len(pieces.length):.1%}", lost, *times]


if __name__ == "__main__":
    main()
