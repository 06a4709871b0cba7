"""Checks of what is held: vocabularies, raw files, bins, requests, tokens.db.

In:  the layout and whether to read everything (`full`). Out: findings, PASS or FAIL by name.
Holds: a check says what it compared and how much of it; without `full`, sizes stand for hashes.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dataprep import manifest
from dataprep.asked import asked_files, read_asked
from dataprep.bins import (
    FileFact,
    Receipt,
    find_receipts,
    mending_command,
    open_bin,
    open_document_ends,
    open_loss,
    read_receipt,
)
from dataprep.errors import QuernError, quoted
from dataprep.hashing import sha256_file
from dataprep.mending import fetch_again, make_again
from dataprep.paths import Paths
from dataprep.sealed import read_json
from dataprep.sql import ask
from dataprep.supply import check_tokenizer, held_tokenizers
from dataprep.vocab_store import check_record, load_vocab


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One invariant: its name, what was compared, everything that was wrong, and the commands that mend it."""

    name: str
    compared: str
    faults: tuple[str, ...] = ()
    fixes: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether nothing was wrong."""
        return not self.faults


def finding(name: str, compared: str, faults: list[str], fixes: Iterable[str] = ()) -> Finding:
    """A finding from a list of faults; each command once."""
    return Finding(name=name, compared=compared, faults=tuple(faults), fixes=tuple(dict.fromkeys(fixes)))


def check_data(paths: Paths, *, full: bool) -> Iterator[Finding]:
    """Findings about vocabularies, raw files, bins, requests and the database."""
    receipts, unreadable = _receipts(paths)
    yield _vocabularies(paths, [receipt for _, receipt in receipts])
    shown = [f"{paths.shown(file)}: {error.seen}" for file, error in unreadable]
    again = [make_again(paths, f.parent.name, f.parents[1].name, shards=[f.stem]) for f, _ in unreadable]
    yield finding("receipts can be read", f"{len(receipts) + len(unreadable):,} receipts", shown, again)
    yield _raw_files(paths, [receipt for _, receipt in receipts], full=full)
    yield _bin_files(paths, receipts, full=full)
    yield _document_ends(receipts)
    if full:
        yield _end_tokens(paths, receipts)
        yield _loss_tokens(receipts)
    yield _nothing_missing(paths)
    yield _database(paths, [receipt for _, receipt in receipts])


def _receipts(paths: Paths) -> tuple[list[tuple[Path, Receipt]], list[tuple[Path, QuernError]]]:
    receipts, unreadable = [], []
    for file in find_receipts(paths):
        try:
            receipts.append((file.parent, read_receipt(file)))
        except QuernError as error:
            unreadable.append((file, error))
    return receipts, unreadable


def _vocabularies(paths: Paths, receipts: list[Receipt]) -> Finding:
    faults, fixes = [], []
    for name in held_tokenizers(paths):
        try:
            check_record(paths, name)
            vocab = load_vocab(paths, name)
            for receipt in receipts:
                if receipt.tokenizer.name == name:
                    check_tokenizer(receipt, vocab)
        except QuernError as error:
            faults.append(f"{name}: {error.what}")
            fixes.append(error.fix)
    return finding("bins carry their vocabulary's fingerprint", f"{len(receipts):,} bins", faults, fixes)


def _raw_files(paths: Paths, receipts: list[Receipt], *, full: bool) -> Finding:
    """Fetched files have receipts of their own; built ones are what their bins were made from."""
    faults, fixes, n_files = [], [], 0
    built = {(receipt.source, receipt.file) for receipt in receipts if receipt.origin.kind == "python"}
    for source, fact in sorted(built, key=lambda item: (item[0], item[1].name)):
        raw = paths.raw(source) / fact.name
        found = file_faults(paths.shown(raw), raw, fact, full=full) if raw.exists() else []
        faults, fixes, n_files = faults + found, fixes + [_fetch_again(paths, raw)] * len(found), n_files + 1
    for file in sorted((paths.data / "raw").glob("*/*.json")):
        if file.name == "listing.json":
            continue
        raw, n_files, value = file.with_suffix(""), n_files + 1, read_json(file) or {}
        found: list[str] = []
        if not {"bytes", "sha256"} <= value.keys():
            found = [f"{paths.shown(file)} is no receipt, or not as it was written"]
        elif raw.exists():  # a raw file may be deleted once its bin is made; the bin's receipt keeps its hash
            fact = FileFact(name=raw.name, bytes=value["bytes"], sha256=value["sha256"])
            found = file_faults(paths.shown(raw), raw, fact, full=full)
        faults, fixes = faults + found, fixes + [_fetch_again(paths, raw)] * len(found)
    return finding("raw files are as fetched", f"{n_files:,} files, {_how(full=full)}", faults, fixes)


def _fetch_again(paths: Paths, raw: Path) -> str:
    """A raw file without a receipt is recognised by its hash, or fetched (built) again."""
    receipt = raw.with_name(f"{raw.name}.json")
    return f"rm -f {quoted(paths.shown(raw))} {quoted(paths.shown(receipt))}; {fetch_again(paths, raw.parent.name)}"


def _bin_files(paths: Paths, receipts: list[tuple[Path, Receipt]], *, full: bool) -> Finding:
    faults, fixes = [], []
    for folder, receipt in receipts:
        for fact in receipt.files:
            found = file_faults(f"{receipt.source}/{fact.name}", folder / fact.name, fact, full=full)
            faults, fixes = faults + found, fixes + [mending_command(paths, receipt)] * len(found)
    n_tokens = sum(receipt.tokens for _, receipt in receipts)
    compared = f"{n_tokens:,} tokens in {len(receipts):,} bins, {_how(full=full)}"
    return finding("tokens = bin bytes / 2", compared, faults, fixes)


def _document_ends(receipts: list[tuple[Path, Receipt]]) -> Finding:
    faults, n_documents = [], 0
    for folder, receipt in receipts:
        try:
            ends = open_document_ends(folder, receipt).astype(np.int64)
        except QuernError as error:
            faults.append(f"{receipt.source}/{receipt.shard}: {error.what}")
            continue
        n_documents += len(ends)
        lengths = np.diff(ends, prepend=0)
        last = int(ends[-1]) if len(ends) else 0
        if (lengths < 0).any() or last != receipt.tokens or not _adds_up(lengths, receipt):
            faults.append(f"{receipt.source}/{receipt.docs.name}: ends do not add up to {receipt.tokens:,} tokens")
    return finding("document ends add up to the tokens", f"{n_documents:,} documents", faults)


def _adds_up(lengths: np.ndarray, receipt: Receipt) -> bool:
    """Documents = encoded + empty + excluded."""
    n_encoded, n_left_empty = int((lengths > 0).sum()), receipt.empty_documents + sum(receipt.excluded.values())
    return (n_encoded, len(lengths)) == (receipt.end_tokens, receipt.end_tokens + n_left_empty)


def _end_tokens(paths: Paths, receipts: list[tuple[Path, Receipt]]) -> Finding:
    """Exactly one end token at each non-empty document's end, none elsewhere: recounted from the bins."""
    faults, n_end_tokens = [], 0
    for folder, receipt in receipts:
        tokenizer, name = receipt.tokenizer, f"{receipt.source}/{receipt.bin.name}"
        where = {"tokens": receipt.tokens, "bin_sha256": receipt.bin.sha256}
        try:
            tokens = open_bin(paths, tokenizer.name, receipt.source, receipt.shard, **where)
            ends = np.unique(open_document_ends(folder, receipt))
        except QuernError as error:
            faults.append(f"{name}: {error.what}")
            continue
        found = np.flatnonzero(tokens == tokenizer.end_id) + 1
        n_end_tokens += len(found)
        if not np.array_equal(found, ends[ends > 0]):
            faults.append(f"{name}: {len(found):,} end tokens, not at the ends of {receipt.end_tokens:,} documents")
    return finding("one end token closes each document", f"{n_end_tokens:,} end tokens", faults)


def _loss_tokens(receipts: list[tuple[Path, Receipt]]) -> Finding:
    """The mask, recounted: its ones, and the documents that have none. Without a mask every token counts."""
    faults, n_loss_tokens = [], 0
    for folder, receipt in receipts:
        try:
            loss, ends = open_loss(folder, receipt), open_document_ends(folder, receipt).astype(np.int64)
        except QuernError as error:
            faults.append(f"{receipt.source}/{receipt.shard}: {error.what}")
            continue
        learned = None if loss is None else np.concatenate([[0], np.cumsum(loss == 1)])
        found = _count_learned(learned, ends) if learned is not None else (receipt.tokens, 0)
        n_loss_tokens += found[0]
        if found != (receipt.loss_tokens, receipt.unsupervised_documents) or (loss is not None and (loss > 1).any()):
            faults.append(
                f"{receipt.source}/{receipt.shard}: {found[0]:,} loss tokens and {found[1]:,} unsupervised documents, "
                f"its receipt says {receipt.loss_tokens:,} and {receipt.unsupervised_documents:,}"
            )
    return finding("loss tokens are those of the mask", f"{n_loss_tokens:,} loss tokens", faults)


def _count_learned(learned: np.ndarray, ends: np.ndarray) -> tuple[int, int]:
    """(loss tokens, documents with tokens and no loss) from the mask's cumulative sum, which begins with 0."""
    starts = np.concatenate([[0], ends[:-1]])
    return int(learned[-1]), int(np.count_nonzero((ends > starts) & (learned[ends] == learned[starts])))


def _nothing_missing(paths: Paths) -> Finding:
    faults, fixes, n_asked = [], [], 0
    for file in asked_files(paths):
        try:
            asked = read_asked(file)
        except QuernError as error:
            faults.append(f"{file.stem}: {error.what}")
            fixes.append(error.fix)
            continue
        folder = paths.bins(asked.tokenizer, asked.source)
        n_asked += len(asked.shards)
        missing = [shard for shard, _ in asked.shards if not (folder / f"{shard}.json").exists()]
        if missing:
            faults.append(f"{asked.source}: {', '.join(missing)}")
            fixes.append(make_again(paths, asked.source, asked.tokenizer, shards=missing))
    return finding("every shard asked for is held", f"{n_asked:,} shards", faults, fixes)


def _database(paths: Paths, receipts: list[Receipt]) -> Finding:
    """tokens.db is derived: rebuilt if stale, its sums must be the receipts' sums."""
    if manifest.is_stale(paths):
        manifest.rebuild(paths)
    wanted = (len(receipts), sum(receipt.tokens for receipt in receipts), sum(r.documents for r in receipts))
    sums = "SELECT count(*), coalesce(sum(tokens), 0)::BIGINT, coalesce(sum(documents), 0)::BIGINT FROM shards"
    found = ask(paths, sums)[1][0]
    faults = [] if found == wanted else [f"tokens.db says {found}, receipts say {wanted} (shards, tokens, documents)"]
    fixes = ["python -m dataprep.index"] * len(faults)
    return finding("tokens.db says what the receipts say", f"{wanted[1]:,} tokens", faults, fixes)


def file_faults(name: str, file: Path, fact: FileFact, *, full: bool) -> list[str]:
    """What is wrong with one file whose size and hash a receipt states."""
    found = file.stat().st_size if file.exists() else None
    if found != fact.bytes:
        return [f"{name}: {'no file' if found is None else f'{found:,} bytes'}, its receipt says {fact.bytes:,}"]
    if full and sha256_file(file) != fact.sha256:
        return [f"{name}: its bytes are not those its receipt names (sha256)"]
    return []


def _how(*, full: bool) -> str:
    return "every byte hashed" if full else "by size"
