"""What every contender of bench `encode` is given, and what it says when it is done.

In:  --text FOLDER of parquet files with a `text` column, how many --files of it, --ranks (a .tiktoken file),
     --tokenizer-json (the same ranks for huggingface tokenizers), --jsonl (the same text as .json.gz), --work.
Out: the arguments; the reply on the last line of stdout. Needs nothing but the standard library.
"""

import argparse
import base64
import json
import os
import time
from importlib.metadata import version
from pathlib import Path

SPLIT_PATTERN = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"""
N_WORKERS = os.cpu_count() or 2


def arguments() -> argparse.Namespace:
    """The command line, with `files`: the paths to read, in order."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--ranks", type=Path, required=True)
    parser.add_argument("--tokenizer-json", type=Path, required=True)
    parser.add_argument("--jsonl", type=Path, required=True)
    parser.add_argument("--files", type=int, default=0, help="only the first so many (default: all)")
    parser.add_argument("--text-bytes", required=True, help="of each file, joined by commas")
    parser.add_argument("--work", type=Path, required=True)
    asked = parser.parse_args()
    n_files = asked.files or None
    asked.files = sorted(asked.text.glob("*.parquet"))[:n_files]
    asked.text_bytes = sum(int(n_bytes) for n_bytes in asked.text_bytes.split(",")[:n_files])
    return asked


def tiktoken_encoding(ranks_file: Path):  # noqa: ANN201 -- tiktoken is not everywhere
    """The ranks as tiktoken knows them: the end token follows the last rank."""
    import tiktoken

    lines = (line.split() for line in ranks_file.read_bytes().splitlines() if line)
    ranks = {base64.b64decode(token): int(rank) for token, rank in lines}
    return tiktoken.Encoding(
        "bench", pat_str=SPLIT_PATTERN, mergeable_ranks=ranks, special_tokens={"<|endoftext|>": len(ranks)}
    )


class Clock:
    """`clock = Clock()`, the work, `clock.stop()`: seconds that passed, and those that all cores worked for it."""

    def __init__(self) -> None:
        self._began, self._cpu_began = time.perf_counter(), self._cpu()

    def stop(self) -> None:
        """Call it once the helpers are gone: their work counts when they end."""
        self.seconds, self.cpu_seconds = time.perf_counter() - self._began, self._cpu() - self._cpu_began

    @staticmethod
    def _cpu() -> float:
        return sum(os.times()[:4])


def say(clock: Clock, text_bytes: int, packages: list[str], **more: object) -> None:
    """Print the reply: the rate is of bytes of text."""
    versions = {package: version(package) for package in packages}
    times = {"seconds": clock.seconds, "cpu_seconds": clock.cpu_seconds}
    print(json.dumps(times | {"amount": text_bytes, "versions": versions} | more))
