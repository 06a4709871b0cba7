"""What contenders of bench `encode` wrote, held to tiktoken: every token of every one of them.

In:  the text; the files a contender left. Out: what is wrong, or None.
Holds: the reference is made by tiktoken alone, once per text and vocabulary, and kept beside the text; where a peer
       keeps the order of documents the streams must be equal, else the documents must be, as a multiset.
"""

import hashlib
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from dataprep.vocab import Vocab

TOKEN = np.dtype("<u2")


def oracle(files: Sequence[Path], vocab: Vocab, folder: Path, *, strip: bool = False) -> list[np.ndarray]:
    """tiktoken's tokens of each file, the end token behind each document that has text: memory maps.

    `strip` takes white space off both ends of every text first, as some peers do.
    """
    home = folder / f"oracle-{vocab.fingerprint[:12]}-{_stamp(files)}{'-stripped' if strip else ''}"
    if not home.exists():
        print("  encoding the reference with tiktoken, once", flush=True)
        part = home.with_name(f".{home.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        for file in files:
            with (part / f"{file.stem}.bin").open("wb") as out:
                for tokens in _slowly(file, vocab, strip=strip):
                    out.write(tokens.tobytes())
        part.rename(home)
    return [np.memmap(home / f"{file.stem}.bin", dtype=TOKEN, mode="r") for file in files]


def _slowly(file: Path, vocab: Vocab, *, strip: bool) -> Iterator[np.ndarray]:
    for batch in pq.ParquetFile(file).iter_batches(1024, columns=["text"]):
        texts = [text.strip() if strip else text for text in batch.column(0).to_pylist() if text]
        texts = [text for text in texts if text]
        for ids in vocab.oracle.encode_ordinary_batch(texts, num_threads=os.cpu_count() or 2):
            yield np.array([*ids, vocab.end_id], dtype=TOKEN)


def _stamp(files: Sequence[Path]) -> str:
    facts = [f"{file.name} {file.stat().st_size}" for file in files]
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:12]


def read_tokens(reply: dict[str, Any], work: Path, end_id: int) -> np.ndarray:
    """A contender's tokens in the order of its files, each document's end token behind it."""
    skip = reply.get("skip_bytes", 0)
    parts = [np.fromfile(work / name, dtype=TOKEN, offset=skip) for name in reply["tokens"]]
    tokens = np.concatenate(parts) if parts else np.empty(0, TOKEN)
    if reply.get("end_first") and len(tokens) and tokens[0] == end_id:
        tokens = np.append(tokens[1:], TOKEN.type(end_id))
    return tokens


def differs(tokens: np.ndarray, wanted: Sequence[np.ndarray], end_id: int, *, ordered: bool) -> str | None:
    """What is wrong with a contender's tokens."""
    whole = np.concatenate(wanted)
    if len(tokens) != len(whole):
        return f"{len(tokens):,} tokens, tiktoken has {len(whole):,}"
    if np.array_equal(tokens, whole):
        return None
    if ordered:
        return f"token {int(np.flatnonzero(tokens != whole)[0]):,} is not tiktoken's"
    return None if _documents(tokens, end_id) == _documents(whole, end_id) else "its documents are not tiktoken's"


def _documents(tokens: np.ndarray, end_id: int) -> Counter[bytes]:
    stops = np.flatnonzero(tokens == end_id) + 1
    places = zip([0, *stops[:-1].tolist()], stops.tolist(), strict=True)
    return Counter(hashlib.blake2b(tokens[start:stop].tobytes(), digest_size=16).digest() for start, stop in places)
