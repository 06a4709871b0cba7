"""Encode: one shard's file into bin, document ends, loss mask and receipt.

In:  a .parquet or .jsonl file and a vocabulary. Out: `<shard>.bin`, `.docs`, `.loss` where there are roles,
then `.json`, published.
Holds: every non-empty document ends with one end token and has no other (census over every token);
a seeded sample of documents is encoded again by tiktoken and must agree; memory is one row group.
Run: it is what `python -m dataprep.shards` does with each shard, several at once.
"""

import contextlib
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

from dataprep import chat
from dataprep.assembly import Assembled, close_documents, follow
from dataprep.bins import DOCUMENT_END, FileFact, Oracle, Origin, Receipt, TokenizerFact
from dataprep.documents import Batch, count_bytes, read_batches
from dataprep.errors import DataError, quoted
from dataprep.hashing import HashedFile, sha256_file
from dataprep.publish import publishing
from dataprep.sealed import publish_record
from dataprep.sources import Source, shard_name
from dataprep.vocab import Vocab

ENCODER_VERSION = 3  # raise it when the same text would give other bytes: older bins are then made again
ORACLE_ROWS = 256  # one document in so many is encoded twice


def encode_shard(
    file: Path,
    source: Source,
    *,
    revision: str | None,
    vocab: Vocab,
    folder: Path,
    fetched_sha256: str | None = None,
    strict: bool = False,
    report: Callable[[int], None] = lambda _text_bytes: None,
) -> Receipt:
    """Encode `file` into `folder` and publish its receipt; `report` hears of every batch's text bytes.

    `fetched_sha256` is what the file was when it was fetched, where it was.
    Raises DataError for a file that is another one since, for one that cannot be read, for any
    disagreement with the oracle and, where `strict`, for the first conversation that is left out.
    """
    shard = shard_name(file.name)
    read_from = FileFact(name=file.name, bytes=file.stat().st_size, sha256=sha256_file(file))
    if fetched_sha256 not in {None, read_from.sha256}:
        raise DataError(
            f"{source.name}/{shard} is not the file that was fetched",
            seen=f"sha256 {read_from.sha256[:12]}…",
            wanted=f"{str(fetched_sha256)[:12]}…",
            fix=f"rm {quoted(file)}; then the same command again",
        )
    suffixes = ["bin", "docs", *["loss"] * (source.layout != "text")]
    with contextlib.ExitStack() as published:
        outs = {suffix: published.enter_context(publishing(folder / f"{shard}.{suffix}")) for suffix in suffixes}
        bin_writer = BinWriter(shard, vocab, outs, seed=read_from.sha256, strict=strict)
        for batch in read_batches(file, source.columns, source.layout):
            report(bin_writer.append(batch))
    origin = Origin(
        kind=source.kind,
        repo=source.repo,
        revision=revision,
        licence=source.licence,
        layout=source.layout,
        columns=source.columns,
    )
    receipt = bin_writer.receipt(source.name, source.split_of(shard), origin, read_from)
    publish_record(folder / f"{shard}.json", receipt.to_json())
    if receipt.loss is None:  # the same file, once read with roles
        (folder / f"{shard}.loss").unlink(missing_ok=True)
    return receipt


class BinWriter:
    """One shard's files while they grow, with the counts its receipt will state. `outs` by suffix."""

    def __init__(self, shard: str, vocab: Vocab, outs: dict[str, HashedFile], *, seed: str, strict: bool) -> None:
        self._shard, self._vocab, self._outs, self._strict = shard, vocab, outs, strict
        self._rng = random.Random(seed)
        self._documents = self._empty_documents = self._unsupervised_documents = 0
        self._text_bytes = self._tokens = self._loss_tokens = 0
        self._excluded: Counter[str] = Counter()
        self._oracle_documents = self._oracle_tokens = 0

    def append(self, batch: Batch) -> int:
        """Encode, check and write one batch of documents; returns its text bytes."""
        n_excluded = self._count_excluded(batch)
        done = self._assemble(batch)
        n_without_tokens = int(np.count_nonzero(done.lengths == 0))
        self._check_end_tokens(done.tokens, len(batch) - n_without_tokens)
        self._ask_oracle(batch, done)
        self._outs["bin"].write(done.tokens)
        self._outs["docs"].write((done.ends + self._tokens).astype(DOCUMENT_END))
        if done.loss is not None:
            self._outs["loss"].write(done.loss)
        text_bytes = count_bytes(batch.texts)
        self._documents += len(batch)
        self._empty_documents += n_without_tokens - n_excluded
        self._unsupervised_documents += done.count_unsupervised()
        self._tokens += len(done.tokens)
        self._loss_tokens += len(done.tokens) if done.loss is None else int(done.loss.sum(dtype=np.int64))
        self._text_bytes += text_bytes
        return text_bytes

    def receipt(self, source: str, split: str, origin: Origin, read_from: FileFact) -> Receipt:
        """What was written, as the receipt states it."""
        vocab = self._vocab
        facts = {
            suffix: FileFact(
                name=f"{self._shard}.{suffix}",
                bytes=out.bytes_written,
                sha256=out.sha256,
                sampled_sha256=out.sampled_sha256,
            )
            for suffix, out in self._outs.items()
        }
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
            excluded=dict(sorted(self._excluded.items())),
            unsupervised_documents=self._unsupervised_documents,
            text_bytes=self._text_bytes,
            tokens=self._tokens,
            end_tokens=self._documents - self._empty_documents - self._excluded.total(),
            loss_tokens=self._loss_tokens,
            bin=facts["bin"],
            docs=facts["docs"],
            loss=facts.get("loss"),
            oracle=Oracle(documents=self._oracle_documents, tokens=self._oracle_tokens),
        )

    def _count_excluded(self, batch: Batch) -> int:
        reasons = [(row, reason) for row, reason in enumerate(batch.script.reasons if batch.script else ()) if reason]
        if reasons and self._strict:
            row, reason = reasons[0]
            raise DataError(
                f"{self._shard}: row {self._documents + row:,} cannot be learned from",
                seen=reason,
                wanted="user, assistant, user, … after one optional system message, none of them empty",
                fix="mend the row, or leave --strict out: such rows are then counted and left empty",
            )
        self._excluded.update(reason for _, reason in reasons)
        return len(reasons)

    def _assemble(self, batch: Batch) -> Assembled:
        ids, offsets = self._vocab.encode_texts(batch.texts)
        if batch.script is not None:
            return follow(batch.script, ids, offsets, self._vocab)
        tokens, ends = close_documents(ids, offsets, self._vocab.end_id)
        return Assembled(tokens=tokens, ends=ends, loss=None)

    def _check_end_tokens(self, tokens: np.ndarray, n_documents: int) -> None:
        """The census. Assembly put one end token behind each document: no other may exist."""
        n_end_tokens = int(np.count_nonzero(tokens == self._vocab.end_id))
        if n_end_tokens != n_documents:
            raise DataError(
                f"{self._shard}: end tokens and documents do not agree",
                seen=f"{n_end_tokens:,} end tokens",
                wanted=f"{n_documents:,}, one per non-empty document",
                fix="report this: ordinary text became an end token; no bin was published",
            )

    def _ask_oracle(self, batch: Batch, done: Assembled) -> None:
        """Encode a seeded sample of the batch with tiktoken; a single difference fails the shard."""
        for row in self._rng.sample(range(len(batch)), -(-len(batch) // ORACLE_ROWS)):
            wanted, wanted_loss = self._encode_slowly(batch, row)
            where = slice(done.ends[row - 1] if row else 0, done.ends[row])
            found = done.tokens[where].tolist()
            if found != wanted or (done.loss is not None and done.loss[where].tolist() != wanted_loss):
                raise DataError(
                    f"{self._shard}: the encoder and tiktoken disagree on row {self._documents + row:,}",
                    seen=f"{len(found):,} tokens {found[:6]}…",
                    wanted=f"{len(wanted):,} tokens {wanted[:6]}…",
                    fix="report this with the row's text; no bin was published",
                )
            self._oracle_documents += 1
            self._oracle_tokens += len(wanted)

    def _encode_slowly(self, batch: Batch, row: int) -> tuple[list[int], list[int]]:
        """One document's ids and loss, read and put together apart from the fast path."""
        if batch.script is not None:
            messages = batch.messages(row)
            return chat.render(self._vocab, [] if isinstance(messages, str) else messages)
        text = batch.texts[row].as_py()
        ids = [*self._vocab.encode_ordinary(text), self._vocab.end_id] if text else []
        return ids, [1] * len(ids)
