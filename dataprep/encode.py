"""Encode: one shard's file into bin, document ends and receipt..

In:  a .parquet or .jsonl file and a vocabulary. Out: `<shard>.bin`, `.docs`, then `.json`, published.
Holds: every non-empty document ends with one end token and has no other (census over every token);
a seeded sample of documents is encoded again by tiktoken and must agree; memory is one row group.
Run: it is what `python -m dataprep.shards` does with each shard, several at once.
"""

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa

from dataprep.bins import DOCUMENT_END, TOKEN, FileFact, Oracle, Origin, Receipt, TokenizerFact
from dataprep.documents import count_bytes, read_texts
from dataprep.errors import DataError
from dataprep.publish import HashedFile, publish_json, publishing, sha256_file
from dataprep.sources import Source, shard_name
from dataprep.vocab import Vocab

ENCODER_VERSION = 2  # raise it when the same text would give other bytes: older bins are then made again
ORACLE_ROWS = 256  # one document in so many is encoded twice


def encode_shard(
    file: Path,
    source: Source,
    *,
    revision: str | None,
    vocab: Vocab,
    folder: Path,
    report: Callable[[int], None] = lambda _text_bytes: None,
) -> Receipt:
    """Encode `file` into `folder` and publish its receipt; `report` hears of every batch's text bytes.

    Raises DataError for a file that cannot be read and for any disagreement with the oracle.
    """
    shard = shard_name(file.name)
    read_from = FileFact(name=file.name, bytes=file.stat().st_size, sha256=sha256_file(file))
    with publishing(folder / f"{shard}.bin") as bin_out, publishing(folder / f"{shard}.docs") as docs_out:
        bin_writer = BinWriter(shard, vocab, bin_out, docs_out, seed=read_from.sha256)
        for texts in read_texts(file, source.column, source.layout):
            report(bin_writer.append(texts))
    origin = Origin(
        kind=source.kind,
        repo=source.repo,
        revision=revision,
        licence=source.licence,
        layout=source.layout,
        columns=(source.column,),
    )
    receipt = bin_writer.receipt(source.name, source.split_of(shard), origin, read_from)
    publish_json(folder / f"{shard}.json", receipt.to_json())
    return receipt


def close_documents(ids: np.ndarray, offsets: np.ndarray, end_id: int) -> tuple[np.ndarray, np.ndarray]:
    """Put the end token behind every non-empty document: (tokens uint16, cumulative ends int64).

    >>> close_documents(np.array([7, 8, 9]), np.array([0, 2, 2, 3]), 99)
    (array([ 7,  8, 99,  9, 99], dtype=uint16), array([3, 3, 5]))
    """
    lengths = np.diff(offsets)
    ends = np.cumsum(lengths + (lengths > 0))
    tokens = np.full(int(ends[-1]) if len(ends) else 0, end_id, dtype=TOKEN)
    # One slice per document: measured faster than a boolean mask over every token.
    for start, length, end in zip(offsets[:-1].tolist(), lengths.tolist(), ends.tolist(), strict=True):
        if length:
            tokens[end - 1 - length : end - 1] = ids[start : start + length]
    return tokens, ends


class BinWriter:
    """One shard's bin and document ends while they grow, with the counts its receipt will state."""

    def __init__(self, shard: str, vocab: Vocab, bin_out: HashedFile, docs_out: HashedFile, *, seed: str) -> None:
        self._shard, self._vocab, self._bin_out, self._docs_out = shard, vocab, bin_out, docs_out
        self._rng = random.Random(seed)
        self._documents = self._empty_documents = self._text_bytes = self._tokens = 0
        self._oracle_documents = self._oracle_tokens = 0

    def append(self, texts: pa.LargeStringArray) -> int:
        """Encode, check and write one batch of documents; returns its text bytes."""
        ids, offsets = self._vocab.encode_texts(texts)
        tokens, ends = close_documents(ids, offsets, self._vocab.end_id)
        n_empty = int(np.count_nonzero(np.diff(offsets) == 0))
        self._check_end_tokens(tokens, len(texts) - n_empty)
        self._ask_oracle(texts, tokens, ends)
        self._bin_out.write(tokens)
        self._docs_out.write((ends + self._tokens).astype(DOCUMENT_END))
        text_bytes = count_bytes(texts)
        self._documents += len(texts)
        self._empty_documents += n_empty
        self._tokens += len(tokens)
        self._text_bytes += text_bytes
        return text_bytes

    def receipt(self, source: str, split: str, origin: Origin, read_from: FileFact) -> Receipt:
        """What was written, as the receipt states it."""
        vocab = self._vocab
        return Receipt(
            source=source,
            shard=self._shard,
            split=split,
            origin=origin,
            encoder=ENCODER_VERSION,
            file=read_from,
            tokenizer=TokenizerFact(
                name=vocab.name, fingerprint=vocab.fingerprint, vocab_size=vocab.vocab_size, end_id=vocab.end_id
            ),
            documents=self._documents,
            empty_documents=self._empty_documents,
            excluded={},
            unsupervised_documents=0,
            text_bytes=self._text_bytes,
            tokens=self._tokens,
            end_tokens=self._documents - self._empty_documents,
            loss_tokens=self._tokens,
            bin=_fact(f"{self._shard}.bin", self._bin_out),
            docs=_fact(f"{self._shard}.docs", self._docs_out),
            loss=None,
            oracle=Oracle(documents=self._oracle_documents, tokens=self._oracle_tokens),
        )

    def _check_end_tokens(self, tokens: np.ndarray, n_documents: int) -> None:
        """The census. `close_documents` put one end token behind each document: no other may exist."""
        n_end_tokens = int(np.count_nonzero(tokens == self._vocab.end_id))
        if n_end_tokens != n_documents:
            raise DataError(
                f"{self._shard}: end tokens and documents do not agree",
                seen=f"{n_end_tokens:,} end tokens",
                wanted=f"{n_documents:,}, one per non-empty document",
                fix="report this: ordinary text became an end token; no bin was published",
            )

    def _ask_oracle(self, texts: pa.LargeStringArray, tokens: np.ndarray, ends: np.ndarray) -> None:
        """Encode a seeded sample of the batch with tiktoken; a single difference fails the shard."""
        for row in self._rng.sample(range(len(texts)), -(-len(texts) // ORACLE_ROWS)):
            text = texts[row].as_py()
            wanted = [*self._vocab.encode_ordinary(text), self._vocab.end_id] if text else []
            found = tokens[ends[row - 1] if row else 0 : ends[row]].tolist()
            if found != wanted:
                raise DataError(
                    f"{self._shard}: the encoder and tiktoken disagree on row {self._documents + row:,}",
                    seen=f"{len(found):,} tokens {found[:6]}…",
                    wanted=f"{len(wanted):,} tokens {wanted[:6]}…",
                    fix="report this with the row's text; no bin was published",
                )
            self._oracle_documents += 1
            self._oracle_tokens += len(wanted)


def _fact(name: str, out: HashedFile) -> FileFact:
    return FileFact(name=name, bytes=out.bytes_written, sha256=out.sha256)
