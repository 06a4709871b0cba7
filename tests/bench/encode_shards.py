"""Encoding speed over a folder of parquet shards, with everything on: oracle sample, hashes, fsync, receipts.

In:  a folder with a `text` column and a gpt2 rank file. Out: MB of text per second, cold and warm, peak memory.
Run: python tests/bench/encode_shards.py FOLDER gpt2.tiktoken --workers 2   (output is held to tiktoken as it is made)
"""

import argparse
import os
import resource
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from dataprep.encode import encode_shard
from dataprep.paths import Paths
from dataprep.sources import Source
from dataprep.vocab_store import obtain_vocab


def main() -> None:
    """Encode every shard twice: in the second round gigatoken has seen the words."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("ranks", type=Path)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    args = parser.parse_args()
    source = Source(name="bench", kind="local", layout="text", columns=("text",))
    with tempfile.TemporaryDirectory() as root:
        vocab = obtain_vocab(Paths(root=Path(root)), "gpt2", vocab_file=args.ranks)
        assert vocab.engine
        assert vocab.oracle  # both loaded before the clock starts
        for name in ("cold", "warm"):
            started, folder = time.perf_counter(), Path(root, name)
            with ThreadPoolExecutor(args.workers) as workers:
                jobs = [
                    workers.submit(encode_shard, file, source, revision=None, vocab=vocab, folder=folder)
                    for file in sorted(args.folder.glob("*.parquet"))
                ]
                text_bytes = sum(job.result().text_bytes for job in jobs)
            speed = text_bytes / 1e6 / (time.perf_counter() - started)
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
            print(f"{name}  {args.workers} workers  {speed:6.1f} MB/s  {peak:.0f} MB peak memory", flush=True)


if __name__ == "__main__":
    main()
