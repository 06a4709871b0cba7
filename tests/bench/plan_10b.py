"""A plan for 10 billion tokens: time and peak memory of `decide_plan` and of publishing it.

In:  178 synthetic shards of 56 M tokens (sparse bins, real document ends, lengths lognormal around 1,050).
Out: one line per strategy: rows, seconds, peak memory. Each runs in a process of its own.
Run: python tests/bench/plan_10b.py [--shards 178] [--strategies concat,best-fit]
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # tests/held.py

from held import VOCAB, publish_receipt, request

from dataprep import planner
from dataprep.bins import FileFact
from dataprep.paths import Paths
from dataprep.plan import publish_plan

TOKENS_PER_SHARD = 56_000_000
MEAN_DOCUMENT = 1_050


def hold(paths: Paths, n_shards: int) -> None:
    """Sparse bins with true document ends, two sources of 30 and 70 parts."""
    rng = np.random.default_rng(7)
    for number in range(n_shards):
        source, name = f"source{int(number % 10 >= 3)}", f"shard_{number:05d}"
        folder = paths.bins(VOCAB.name, source)
        folder.mkdir(parents=True, exist_ok=True)
        lengths = (
            rng.lognormal(np.log(MEAN_DOCUMENT) - 0.5, 1.0, TOKENS_PER_SHARD // MEAN_DOCUMENT).astype(np.int64) + 2
        )
        ends = np.cumsum(lengths).astype("<u8")
        tokens = int(ends[-1])
        with (folder / f"{name}.bin").open("wb") as file:
            file.truncate(2 * tokens)
        ends.tofile(folder / f"{name}.docs")
        facts: dict[str, FileFact | None] = {
            "bin": FileFact(name=f"{name}.bin", bytes=2 * tokens, sha256=f"{number:064d}"),
            "docs": FileFact(name=f"{name}.docs", bytes=8 * len(ends), sha256=f"{number:064d}"),
            "loss": None,
        }
        counts = {"documents": len(ends), "empty_documents": 0, "tokens": tokens, "loss_tokens": tokens}
        publish_receipt(folder, source, name, facts, **counts)


def measure(root: Path, strategy: str) -> None:
    """Plan all that a 30:70 ratio allows; print what it took."""
    paths, started = Paths(root=root), time.perf_counter()
    recipe, segments = planner.decide_plan(paths, VOCAB, request([30, 70], seq_len=2048, strategy=strategy), "bench")
    planned = time.perf_counter() - started
    plan_bytes, _ = publish_plan(paths, "bench", segments, recipe.shards)
    seconds, peak = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    fill = recipe.tokens / (recipe.plan_rows * recipe.seq_len)
    print(
        f"{strategy:9} {recipe.plan_rows:>9,} rows  {recipe.tokens / 1e9:6.2f}B tokens  {fill:9.4%} full"
        f"  {planned:5.1f} s planned  {seconds:5.1f} s with {plan_bytes / 1e6:.0f} MB published  {peak:.2f} GiB",
        flush=True,
    )


def main() -> None:
    """Hold the shards once, then measure each strategy in its own process."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--shards", type=int, default=178)
    parser.add_argument("--strategies", default="concat,best-fit")
    parser.add_argument("--measure", nargs=2, metavar=("ROOT", "STRATEGY"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        measure(Path(args.measure[0]), args.measure[1])
        return
    with tempfile.TemporaryDirectory() as folder:
        hold(Paths(root=Path(folder)), args.shards)
        for strategy in args.strategies.split(","):
            subprocess.run([sys.executable, __file__, "--measure", folder, strategy], check=True)


if __name__ == "__main__":
    main()
