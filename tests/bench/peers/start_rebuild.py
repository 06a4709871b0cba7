"""Ours: tokens.db derived from receipts, in a root of its own that holds nothing else.

Timed: `manifest.rebuild`, publication with its fsyncs included. Left out: importing, and the check afterwards.
"""

import argparse
import json
import time
from pathlib import Path

import duckdb

from dataprep.manifest import rebuild
from dataprep.paths import Paths


def main() -> None:
    """Rebuild, check, tell."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--shards", type=int, required=True)
    parser.add_argument("--work", type=Path, required=True)
    args = parser.parse_args()
    paths = Paths(root=args.work)
    (args.work / "data").symlink_to(args.data / f"receipts-{args.shards}" / "data")
    cpu, began = time.process_time(), time.perf_counter()
    rebuilt = rebuild(paths)
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    assert rebuilt.lines_by_table["shards"] == args.shards, rebuilt
    wanted = sorted(read_plainly(file) for file in paths.all_bins.glob("*/*/*.json"))
    columns = "source, shard, split, documents, text_bytes, tokens, loss_tokens, file, file_bytes, bin, bin_sha256"
    with duckdb.connect(str(paths.database), read_only=True) as connection:
        found = sorted(connection.execute(f"SELECT {columns} FROM shards").fetchall())
    assert found == wanted, "tokens.db does not say what the receipts say"
    reply = {"seconds": seconds, "cpu_seconds": cpu, "amount": args.shards, "versions": {"duckdb": duckdb.__version__}}
    print(json.dumps({**reply, "check": {"lines equal to a plain reading": len(found)}}))


def read_plainly(file: Path) -> tuple[str | int, ...]:
    """The line of `shards` that this receipt must give."""
    says = json.loads(file.read_text())
    own = ("source", "shard", "split", "documents", "text_bytes", "tokens", "loss_tokens")
    bin_path = f"data/bins/{says['tokenizer']['name']}/{says['source']}/{says['bin']['name']}"
    parquet = says["file"]
    return *(says[key] for key in own), parquet["name"], parquet["bytes"], bin_path, says["bin"]["sha256"]


if __name__ == "__main__":
    main()
