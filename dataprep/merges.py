"""Merges: a vocabulary's ranks learned from raw shards, and the proof that both engines read them alike.

In:  raw train shards and the number of ranks. Out: tokens in rank order; bytes and tokens of the text.
Holds: the same shards give the same ranks, in any order and on any number of threads; no merge
reaches from one text into the next; gigatoken and tiktoken agree, or there are no ranks.
Example: "low lower lowest" gives the 256 bytes, then b"lo", b"low", b" low", b" lowe", ….
"""

import contextlib
import io
import os
import random
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from dataprep.console import size
from dataprep.documents import count_bytes, read_texts
from dataprep.errors import DataError
from dataprep.rank_file import N_SPECIALS, fingerprint
from dataprep.sources import Source
from dataprep.vocab import Vocab

ORACLE_ROWS = 32  # one text in so many is encoded twice
_SEPARATOR = b"\xff"  # in no UTF-8 text


@dataclass(frozen=True, kw_only=True)
class RawShard:
    """A train shard's file and the source that says how to read it."""

    source: Source
    file: Path

    def texts(self) -> Iterator[pa.LargeStringArray]:
        """The texts that `encode` will encode, batch by batch: of a conversation its pieces, one by one."""
        return read_texts(self.file, self.source.columns, self.source.layout)


def train_ranks(shards: Sequence[RawShard], n_ranks: int) -> list[bytes]:
    """`n_ranks` tokens in rank order, the 256 bytes first. Raises DataError where the text gives fewer."""
    import gigatoken

    text = _join(shards)
    with _silence():
        token_by_id, _ = gigatoken.train_bpe(text, n_ranks, [], "huggingface", _SEPARATOR)
    if len(token_by_id) != n_ranks:
        raise DataError(
            "there is too little text for a vocabulary of this size",
            seen=f"{len(token_by_id):,} ranks from {size(len(text))}",
            wanted=f"{n_ranks:,} ranks (--size less {N_SPECIALS} specials)",
            fix=f"--size {len(token_by_id) + N_SPECIALS}, or more text",
        )
    return [token_by_id[rank] for rank in range(n_ranks)]


def measure(shards: Sequence[RawShard], name: str, ranks_bytes: bytes, n_ranks: int) -> tuple[int, int]:
    """(text bytes, tokens) of all shards under ranks not yet published.

    Raises DataError when tiktoken reads one text of a seeded sample otherwise than gigatoken.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "ranks.tiktoken")
        file.write_bytes(ranks_bytes)
        vocab = Vocab(name=name, ranks_file=file, n_ranks=n_ranks, fingerprint=fingerprint(ranks_bytes, n_ranks))
        text_bytes = n_tokens = 0
        rng = random.Random(vocab.fingerprint)
        for texts in (batch for shard in shards for batch in shard.texts()):
            ids, offsets = vocab.encode_texts(texts)
            for row in rng.sample(range(len(texts)), -(-len(texts) // ORACLE_ROWS)):
                _ask_oracle(vocab, texts[row].as_py(), ids[offsets[row] : offsets[row + 1]].tolist())
            text_bytes += count_bytes(texts)
            n_tokens += len(ids)
    return text_bytes, n_tokens


def _ask_oracle(vocab: Vocab, text: str, found: list[int]) -> None:
    wanted = vocab.encode_ordinary(text)
    if found != wanted:
        raise DataError(
            f"gigatoken and tiktoken disagree on the new ranks of {vocab.name!r}",
            seen=f"{len(found):,} tokens {found[:6]}…",
            wanted=f"{len(wanted):,} tokens {wanted[:6]}…",
            fix=f"report this with the text {text[:40]!r}…; nothing was published",
        )


def _join(shards: Sequence[RawShard]) -> bytes:
    """Every text that is not empty, with a separator before it. Raises DataError where all are."""
    joined = io.BytesIO()
    for texts in (batch for shard in shards for batch in shard.texts()):
        for text in filter(None, texts.to_pylist()):
            joined.write(_SEPARATOR)
            joined.write(text.encode())
    if not joined.tell():
        raise DataError(
            "there is no text to train on", seen="empty documents only", wanted="text", fix="name other --sources"
        )
    return joined.getvalue()


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Point both outputs at nothing: the trainer prints from Rust, which sys.stdout never sees."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = {number: os.dup(number) for number in (1, 2)}
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        for number in kept:
            os.dup2(nowhere, number)
        yield
    finally:
        for number, copy in kept.items():
            os.dup2(copy, number)
            os.close(copy)
        os.close(nowhere)
