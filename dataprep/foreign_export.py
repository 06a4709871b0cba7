"""Foreign export: which files another tool wants of some shards, and how each is published.

In:  receipts of checked shards with tokens, and a format. Out: `Target`s; then files, and what they are.
Holds: a file whose bytes we have is a hard link to them (a copy on another file system); every byte that is
       copied is hashed against its receipt; empty documents are in no index, for the peers' readers trip over them.

    nanogpt   train.bin, val.bin          llmc      <source>_train_000000.bin, <source>_val_000000.bin
    megatron  train/<shard>.bin .idx      datatrove train/<shard>.ds .ds.index .ds.loss .ds.metadata
    dolma     train/<shard>.npy .csv.gz
"""

import csv
import errno
import gzip
import hashlib
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np

from dataprep.bins import TOKEN, FileFact, Receipt, open_document_ends
from dataprep.errors import DataError
from dataprep.foreign_formats import LLMC_MAX_TOKENS, pack_datatrove_metadata, pack_llmc_header, pack_megatron_index
from dataprep.hashing import HashedFile
from dataprep.publish import publish_link, publishing

SPLITS = ("train", "holdout")
_SPLIT_NAME = {"train": "train", "holdout": "val"}  # what nanoGPT and llm.c call them
_CANNOT_LINK = {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.ENOSYS}
_BLOCK_BYTES = 1 << 23
_CSV_ROWS = 1 << 14
Writer = Callable[[HashedFile], None]


@dataclass(frozen=True, kw_only=True)
class Held:
    """A shard of ours, in its folder."""

    folder: Path
    receipt: Receipt

    @property
    def ends(self) -> np.ndarray:
        """Cumulative ends of the documents that have tokens, int64[n]."""
        return np.unique(open_document_ends(self.folder, self.receipt).astype(np.int64))


@dataclass(frozen=True, kw_only=True)
class Target:
    """A file to publish: one of ours by another name, or what `write` writes."""

    name: str
    same: tuple[Path, FileFact] | None = None
    write: Writer | None = None


@dataclass(frozen=True, kw_only=True)
class Published:
    """A file as it was published. `linked`: its bytes are the very ones of our bin."""

    name: str
    bytes: int
    sha256: str
    linked: bool


def plan_targets(format_: str, shards: Sequence[Held]) -> list[Target]:
    """Every file of the export, in the order of the shards."""
    if format_ in {"nanogpt", "llmc"}:
        whole = _nanogpt if format_ == "nanogpt" else _llmc
        by_split = {split: [held for held in shards if held.receipt.split == split] for split in SPLITS}
        return [target for split, some in by_split.items() if some for target in whole(split, some)]
    each = {"megatron": _megatron, "datatrove": _datatrove, "dolma": _dolma}[format_]
    return [target for held in shards for target in each(held)]


def publish_target(target: Target, folder: Path, *, copy: bool) -> Published:
    """Publish one file; raises DataError where our bytes are not those of their receipt."""
    path = folder / target.name
    path.parent.mkdir(parents=True, exist_ok=True)
    if target.same and not copy:
        held, fact = target.same
        try:
            publish_link(held, path)
            return Published(name=target.name, bytes=fact.bytes, sha256=fact.sha256, linked=True)
        except OSError as error:
            if error.errno not in _CANNOT_LINK:
                raise
    with publishing(path) as out:
        if target.same:
            _copy(*target.same, out)
        else:
            assert target.write is not None
            target.write(out)
    return Published(name=target.name, bytes=out.bytes_written, sha256=out.sha256, linked=False)


def _nanogpt(split: str, shards: Sequence[Held]) -> Iterator[Target]:
    """One file a split, as its loader opens them: of several shards it is their bins, one after another."""
    name = f"{_SPLIT_NAME[split]}.bin"
    if len(shards) == 1:
        yield Target(name=name, same=_same(shards[0], shards[0].receipt.bin))
    else:
        yield Target(name=name, write=partial(_concatenate, shards))


def _concatenate(shards: Sequence[Held], out: HashedFile) -> None:
    for held in shards:
        _copy(*_same(held, held.receipt.bin), out)


def _llmc(split: str, shards: Sequence[Held]) -> Iterator[Target]:
    number = 0
    for held in shards:
        for start, stop in cut_parts(held.ends, LLMC_MAX_TOKENS):
            name = f"{held.receipt.source}_{_SPLIT_NAME[split]}_{number:06d}.bin"
            yield Target(name=name, write=partial(_write_llmc, held, start, stop))
            number += 1


def cut_parts(ends: np.ndarray, max_tokens: int) -> Iterator[tuple[int, int]]:
    """Runs of whole documents of at most `max_tokens`; only a longer document is cut.

    >>> list(cut_parts(np.array([3, 6, 8]), 6))
    [(0, 6), (6, 8)]
    """
    start, last = 0, int(ends[-1])
    while start < last:
        n_fit = int(np.searchsorted(ends, start + max_tokens, side="right"))
        fitting = int(ends[n_fit - 1]) if n_fit else 0
        stop = fitting if fitting > start else start + max_tokens
        yield start, stop
        start = stop


def _write_llmc(held: Held, start: int, stop: int, out: HashedFile) -> None:
    """Tokens [start, stop) one later: the end token of the document before stands first, the last one is left out."""
    out.write(pack_llmc_header(stop - start))
    out.write(TOKEN.type(held.receipt.tokenizer.end_id).tobytes() if start == 0 else b"")
    first, last = (max(start, 1) - 1) * TOKEN.itemsize, (stop - 1) * TOKEN.itemsize
    place = 0
    for block in _checked_blocks(*_same(held, held.receipt.bin)):
        out.write(block[max(first - place, 0) : max(last - place, 0)])
        place += len(block)


def _megatron(held: Held) -> Iterator[Target]:
    name = f"{held.receipt.split}/{held.receipt.shard}"
    yield Target(name=f"{name}.bin", same=_same(held, held.receipt.bin))
    yield Target(name=f"{name}.idx", write=_writer(lambda: pack_megatron_index(held.ends)))


def _datatrove(held: Held) -> Iterator[Target]:
    receipt = held.receipt
    name = f"{receipt.split}/{receipt.shard}.ds"
    yield Target(name=name, same=_same(held, receipt.bin))
    if receipt.documents == receipt.end_tokens:
        yield Target(name=f"{name}.index", same=_same(held, receipt.docs))
    else:
        yield Target(name=f"{name}.index", write=_writer(lambda: held.ends.astype("<u8").tobytes()))
    if receipt.loss is not None:
        yield Target(name=f"{name}.loss", same=_same(held, receipt.loss))
    metadata = pack_datatrove_metadata(receipt.tokenizer.name, receipt.tokens)
    yield Target(name=f"{name}.metadata", write=_writer(lambda: metadata))


def _dolma(held: Held) -> Iterator[Target]:
    name = f"{held.receipt.split}/{held.receipt.shard}"
    yield Target(name=f"{name}.npy", same=_same(held, held.receipt.bin))
    yield Target(name=f"{name}.csv.gz", write=partial(_write_dolma, held))


def _write_dolma(held: Held, out: HashedFile) -> None:
    """A line per document with tokens: start, end, id, the file it was in, its row there from 1."""
    receipt = held.receipt
    ends = open_document_ends(held.folder, receipt).astype(np.int64)
    starts = np.concatenate([[0], ends[:-1]])
    rows = np.flatnonzero(ends > starts)
    # No name and no clock time in the gzip header: same documents, same bytes.
    with gzip.GzipFile(filename="", fileobj=cast("io.BufferedWriter", out), mode="wb", mtime=0) as packed:
        for some in np.split(rows, range(_CSV_ROWS, len(rows), _CSV_ROWS)):
            lines = io.StringIO()
            places = zip(starts[some].tolist(), ends[some].tolist(), some.tolist(), strict=True)
            csv.writer(lines).writerows(
                (start, end, f"{receipt.source}/{receipt.shard}/{row}", receipt.file.name, row + 1)
                for start, end, row in places
            )
            packed.write(lines.getvalue().encode())


def _same(held: Held, fact: FileFact) -> tuple[Path, FileFact]:
    return held.folder / fact.name, fact


def _writer(content: Callable[[], bytes]) -> Writer:
    def write(out: HashedFile) -> None:
        out.write(content())

    return write


def _copy(held: Path, fact: FileFact, out: HashedFile) -> None:
    for block in _checked_blocks(held, fact):
        out.write(block)


def _checked_blocks(held: Path, fact: FileFact) -> Iterator[bytes]:
    """Blocks of a file of ours. Raises DataError at its end where they are not what the receipt says."""
    digest = hashlib.sha256()
    with held.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
            yield block
    if digest.hexdigest() != fact.sha256:
        raise DataError(
            f"{held.name} is not what its receipt says",
            seen=f"sha256 {digest.hexdigest()[:12]}…",
            wanted=f"{fact.sha256[:12]}…",
            fix="python -m dataprep.verify --full   # names every file that is to be made again",
        )
