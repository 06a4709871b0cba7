"""llm.c's way (dev/data/fineweb.py): a pool of processes, tiktoken in each, documents in order, shards by numpy.

Measured: parquet to .bin files of at most 100 M tokens with llm.c's header, the end token before each document.
Left out: imports. The workers read their ranks inside the timed part, once each.
"""

import multiprocessing

import numpy as np
import pyarrow.parquet as pq
from encode_common import N_WORKERS, Clock, arguments, say, tiktoken_encoding

SHARD_TOKENS = 100_000_000
asked = arguments()
encoding = None


def load() -> None:
    """Once in each worker."""
    global encoding  # noqa: PLW0603 -- as the original has it
    encoding = tiktoken_encoding(asked.ranks)


def tokenize(text: str) -> np.ndarray:
    """One document, its end token first."""
    return np.array([encoding.n_vocab - 1, *encoding.encode_ordinary(text)], dtype=np.uint16)


def documents():  # noqa: ANN201
    """Every document that has text."""
    for file in asked.files:
        for batch in pq.ParquetFile(file).iter_batches(1024, columns=["text"]):
            yield from filter(None, batch.column("text").to_pylist())


def write(number: int, tokens: np.ndarray) -> str:
    """One shard."""
    header = np.zeros(256, dtype=np.int32)
    header[:3] = 20240520, 1, len(tokens)
    name = f"bench_{number:06d}.bin"
    with (asked.work / name).open("wb") as out:
        out.write(header.tobytes())
        out.write(tokens.tobytes())
    return name


def main() -> None:
    """Fill a buffer of one shard, write it when it is full."""
    names, buffer, held = [], np.empty(SHARD_TOKENS, dtype=np.uint16), 0
    clock = Clock()
    with multiprocessing.get_context("fork").Pool(N_WORKERS, load) as pool:
        for tokens in pool.imap(tokenize, documents(), chunksize=16):
            room = min(len(tokens), SHARD_TOKENS - held)
            buffer[held : held + room] = tokens[:room]
            held += room
            if held == SHARD_TOKENS:
                names.append(write(len(names), buffer))
                held = len(tokens) - room
                buffer[:held] = tokens[room:]
    names.append(write(len(names), buffer[:held]))
    clock.stop()
    say(clock, asked.text_bytes, ["tiktoken", "numpy"], tokens=names, skip_bytes=1024, end_first=True)


if __name__ == "__main__":
    main()
