"""Bins: one shard's tokens as headerless little-endian uint16, with document ends and a receipt.

In:  token blocks and document ends while a shard is encoded. Out: memory maps, checked receipts.
Holds: a bin is opened only when its size and the hash in its receipt are the ones wanted.

    shard_00000.bin   uint16 LE tokens       [The, cat, end, A, dog, end]
    shard_00000.docs  uint64 LE ends         [3, 3, 6]: document 1 is empty and has no tokens
    shard_00000.loss  uint8 per token        only where the source has roles: 1 = the assistant said it
    shard_00000.json  the receipt, published last
"""

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dataprep.errors import DataError
from dataprep.paths import Paths
from dataprep.sealed import open_record, read_json
from dataprep.sources import fetch_command, make_shards

TOKEN = np.dtype("<u2")
DOCUMENT_END = np.dtype("<u8")
LOSS = np.dtype("u1")
RECEIPT_FORMAT = 2
IMPORTED = "imported"  # the origin of a bin that another tool made: `file` is that tool's, `layout` its format


@dataclass(frozen=True, kw_only=True)
class FileFact:
    """A published file's name, size and hash; of a large one, since there is one, its sampled hash too."""

    name: str
    bytes: int
    sha256: str
    sampled_sha256: str | None = None


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where a shard came from, as its receipt keeps it."""

    kind: str
    repo: str | None
    revision: str | None
    licence: str
    layout: str
    columns: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class TokenizerFact:
    """The vocabulary a bin was made with."""

    name: str
    fingerprint: str
    vocab_size: int
    end_id: int


@dataclass(frozen=True, kw_only=True)
class Oracle:
    """How many sampled documents the reference tokenizer encoded to the very same ids."""

    documents: int
    tokens: int


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """What a shard's bin holds. Published after the files it names; holds no clock time.

    `excluded` counts, by reason, the documents that were left out: they are empty in the bin, as empty
    texts are. `unsupervised_documents` have tokens but none that the assistant said.
    """

    source: str
    shard: str
    split: str
    origin: Origin
    encoder: int
    file: FileFact
    tokenizer: TokenizerFact
    documents: int
    empty_documents: int
    excluded: Mapping[str, int]
    unsupervised_documents: int
    text_bytes: int
    tokens: int
    end_tokens: int
    loss_tokens: int
    bin: FileFact
    docs: FileFact
    loss: FileFact | None
    oracle: Oracle
    format: int = RECEIPT_FORMAT

    def __post_init__(self) -> None:
        if self.format != RECEIPT_FORMAT:
            raise ValueError(f"format {self.format}")
        counts = (self.documents, self.empty_documents, self.text_bytes, self.tokens, self.loss_tokens)
        counts += (self.unsupervised_documents, *self.excluded.values())
        if not all(isinstance(count, int) and count >= 0 for count in counts):
            raise ValueError(f"counts {counts}")
        sizes = [self.tokens * TOKEN.itemsize, self.documents * DOCUMENT_END.itemsize, self.tokens * LOSS.itemsize]
        if [fact.bytes for fact in self.files] != sizes[: len(self.files)]:
            raise ValueError(f"{self.tokens:,} tokens in {self.bin.bytes:,} bytes")

    @property
    def files(self) -> tuple[FileFact, ...]:
        """The files it speaks of: bin, document ends, and the loss mask where there is one."""
        return (self.bin, self.docs) if self.loss is None else (self.bin, self.docs, self.loss)

    def to_json(self) -> dict[str, Any]:
        """The receipt as plain values; a fact without a sampled hash says nothing of one."""
        return _without_unsampled(asdict(self))


def _without_unsampled(value: dict[str, Any]) -> dict[str, Any]:
    said = {key: item for key, item in value.items() if key != "sampled_sha256" or item is not None}
    return {key: _without_unsampled(item) if isinstance(item, dict) else item for key, item in said.items()}


def read_receipt(file: Path) -> Receipt:
    """The receipt at `file`. Raises DataError when it is damaged or of another format."""
    try:
        value = open_record(file.read_bytes())
        parts = {
            "origin": Origin(columns=tuple(value["origin"].pop("columns")), **value.pop("origin")),
            "file": FileFact(**value.pop("file")),
            "tokenizer": TokenizerFact(**value.pop("tokenizer")),
            "bin": FileFact(**value.pop("bin")),
            "docs": FileFact(**value.pop("docs")),
            "loss": FileFact(**loss) if (loss := value.pop("loss")) else None,
            "oracle": Oracle(**value.pop("oracle")),
        }
        return Receipt(**value, **parts)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(
            f"the receipt {file.name} of {file.parent.name} cannot be read",
            seen=f"{type(error).__name__}: {error}",
            wanted=f"a receipt of format {RECEIPT_FORMAT}",
            fix=f"{make_shards(file.parent.name, tokenizer=file.parents[1].name)} makes it again (with your N)",
        ) from None


def mending_command(paths: Paths, receipt: Receipt) -> str:
    """What makes a shard again whose files are not what its receipt says: without its receipt it is not done."""
    file = paths.bins(receipt.tokenizer.name, receipt.source) / f"{receipt.shard}.json"
    return f"rm {paths.shown(file)}; {make_again(paths, receipt.source, receipt.tokenizer.name)}"


def make_again(paths: Paths, source: str, tokenizer: str) -> str:
    """The `make shards` that was asked last, with its N if the record of it can still be read."""
    n_train = _asked_before(paths, source)
    command = make_shards(source, n=n_train or 1, tokenizer=tokenizer)
    return command if n_train else f"{command}   # with your N"


def fetch_again(paths: Paths, source: str) -> str:
    """The `fetch` of as many train shards as were asked for last: raw files that are missing, and no bins."""
    return fetch_command(source, n=_asked_before(paths, source) or 1)


def _asked_before(paths: Paths, source: str) -> int:
    """Train shards asked for by the last `make shards`; 0 where its record cannot be read."""
    record = read_json(paths.source_record(source)) or {}
    return sum(shard.get("split") == "train" for shard in record.get("asked", []))


def find_receipts(paths: Paths, tokenizer: str = "*", source: str = "*") -> list[Path]:
    """Receipt files below `data/bins/<tokenizer>/<source>/`, sorted by path."""
    # Names are sorted, not paths: comparing two paths costs more than anything else there is to do with 100,000.
    folders = [folder for held in _folders(paths.all_bins, tokenizer) for folder in _folders(held, source)]
    return [
        folder / name
        for folder in folders
        for name in sorted(os.listdir(folder))  # noqa: PTH208 -- names are all that is wanted
        if name.endswith(".json") and not name.startswith(".")
    ]


def _folders(parent: Path, name: str) -> list[Path]:
    """The folder of that name in `parent` if it is there; all of them, sorted, for "*"."""
    names = (sorted(os.listdir(parent)) if parent.is_dir() else []) if name == "*" else [name]  # noqa: PTH208
    return [folder for folder in (parent / name for name in names) if folder.is_dir()]


def check_files(folder: Path, receipt: Receipt) -> None:
    """Compare the sizes of bin, document ends and loss mask with the receipt. Raises DataError."""
    for fact in receipt.files:
        file = folder / fact.name
        found = file.stat().st_size if file.exists() else None
        if found != fact.bytes:
            raise DataError(
                f"{fact.name} of {receipt.source} is not what its receipt says",
                seen="no file" if found is None else f"{found:,} bytes",
                wanted=f"{fact.bytes:,} bytes",
                fix=_made_again(receipt),
            )


def _made_again(receipt: Receipt) -> str:
    """The command that makes the shard of `receipt` again."""
    origin, tokenizer = receipt.origin, receipt.tokenizer.name
    if origin.kind != IMPORTED:
        return f"{make_shards(receipt.source, tokenizer=tokenizer)}   # with your N"
    what = f"--from {origin.layout} --source {receipt.source} --tokenizer {tokenizer}"
    held_out = f" --holdout {receipt.shard}" if receipt.split == "holdout" else ""
    return f"python -m dataprep.import {what}{held_out} {receipt.file.name}   # with its folder"


def open_bin(paths: Paths, tokenizer: str, source: str, shard: str, *, tokens: int, bin_sha256: str) -> np.ndarray:
    """One bin as a read-only memory map, uint16[tokens].

    Raises DataError when the file or its receipt is not the one that was planned with.
    """
    folder = paths.bins(tokenizer, source)
    receipt_file = folder / f"{shard}.json"
    if not receipt_file.exists():
        raise DataError(
            f"{shard} of {source} is planned with but not held",
            seen=f"no {paths.shown(receipt_file)}",
            wanted=f"{tokens:,} tokens",
            fix=f"{make_shards(source, tokenizer=tokenizer)}   # with your N",
        )
    receipt = read_receipt(receipt_file)
    if receipt.bin.sha256 != bin_sha256 or receipt.tokens != tokens:
        raise DataError(
            f"{shard} of {source} changed after the plan was made",
            seen=f"{receipt.tokens:,} tokens, sha256 {receipt.bin.sha256[:12]}…",
            wanted=f"{tokens:,} tokens, sha256 {bin_sha256[:12]}…",
            fix="python -m dataprep.pack … (a new plan), or bring the planned shard back",
        )
    check_files(folder, receipt)
    return _map(folder / receipt.bin.name, TOKEN, tokens)


def open_document_ends(folder: Path, receipt: Receipt) -> np.ndarray:
    """Cumulative document ends in tokens, uint64[documents]; document i is row i of the shard's file."""
    check_files(folder, receipt)
    return _map(folder / receipt.docs.name, DOCUMENT_END, receipt.documents)


def open_loss(folder: Path, receipt: Receipt) -> np.ndarray | None:
    """The loss mask, uint8[tokens], 1 where the assistant speaks; None where the source has no roles."""
    if receipt.loss is None:
        return None
    check_files(folder, receipt)
    return _map(folder / receipt.loss.name, LOSS, receipt.tokens)


def open_planned_loss(
    paths: Paths, tokenizer: str, source: str, shard: str, *, loss_sha256: str | None
) -> np.ndarray | None:
    """The loss mask that was planned with; None where the plan knew of none.

    Raises DataError when the shard's mask is another one: the same tokens may have been given other roles.
    """
    folder = paths.bins(tokenizer, source)
    receipt = read_receipt(folder / f"{shard}.json")
    found = receipt.loss.sha256 if receipt.loss else None
    if found != loss_sha256:
        raise DataError(
            f"the loss mask of {shard} of {source} changed after the plan was made",
            seen=f"sha256 {found[:12]}…" if found else "no mask",
            wanted=f"sha256 {loss_sha256[:12]}…" if loss_sha256 else "no mask",
            fix="python -m dataprep.pack … (a new plan), or bring the planned shard back",
        )
    return open_loss(folder, receipt)


def _map(file: Path, dtype: np.dtype, count: int) -> np.ndarray:
    if count == 0:
        return np.empty(0, dtype=dtype)  # an empty file cannot be mapped
    return np.memmap(file, dtype=dtype, mode="r", shape=(count,))
