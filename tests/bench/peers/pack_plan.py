"""Ours: a plan of 100 billion tokens, from receipts and document ends to a published parquet file.

Timed: `make_plan` and `publish_plan`, as `python -m dataprep.pack` calls them. Left out: the recipe's few lines.
Checked here: per source, tokens = in the plan + left over; the rows' own hash, read back from the published file.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq

import dataprep
from dataprep import plan, planner
from dataprep.paths import Paths

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from held import VOCAB, request


def main() -> None:
    """Plan, publish, check, tell."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--strategy", required=True)
    parser.add_argument("--work", type=Path, required=True)
    args = parser.parse_args()
    (args.work / "data").symlink_to(args.root / "data")
    paths = Paths(root=args.work)
    asked = request([30, 70], seq_len=2048, strategy=args.strategy)
    began = time.perf_counter()
    recipe, segments = planner.make_plan(paths, VOCAB, asked, "bench")
    planned = time.perf_counter() - began
    plan_bytes, plan_sha256 = plan.publish_plan(paths, "bench", segments, recipe.shards)
    seconds = time.perf_counter() - began
    del segments
    check_read_back(paths.plans / "bench.parquet", recipe)
    told = {"tokens": recipe.tokens, "rows": recipe.plan_rows, "plan_bytes": plan_bytes, "plan_sha256": plan_sha256}
    reply = {"seconds": seconds, "planned_seconds": planned, "amount": recipe.tokens}
    versions = {"quern": dataprep.__version__}
    print(json.dumps({**reply, "check": told | {"rows_sha256": recipe.rows_sha256}, "versions": versions}))


def check_read_back(file: Path, recipe) -> None:  # noqa: ANN001 -- a recipe
    """Hash the published rows group by group, and hold every count to the shards'."""
    row_hash, tokens, read = plan.RowHash(recipe.shards), 0, plan.Plan(file, recipe)
    for first in range(0, recipe.plan_rows, plan.ROWS_PER_GROUP):
        group = read.segments(first, first + plan.ROWS_PER_GROUP)
        row_hash.update(group)
        tokens += int(group.length.sum(dtype=int))
    assert row_hash.hexdigest() == recipe.rows_sha256, "the published rows are not those that were planned"
    assert tokens == recipe.tokens, f"{tokens:,} tokens are published, {recipe.tokens:,} were planned"
    assert pq.read_metadata(file).num_rows == recipe.segments, "segments are missing"
    for source in recipe.sources:
        held = sum(shard.tokens for shard in recipe.shards if shard.source == source.source)
        assert source.unique_tokens + source.left_over_tokens == held, f"tokens of {source.source} are unaccounted for"


if __name__ == "__main__":
    main()
