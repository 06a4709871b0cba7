"""Foreign source: what may be brought under a source's name, and what of it is held already.

In:  files that were opened, the vocabulary, what is `Wanted`. Out: receipts of what is held; the request, kept.
Holds: a source that came another way is never mixed with; a shard is never replaced by another file's tokens.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dataprep.asked import publish_asked, read_asked
from dataprep.bins import Receipt, check_files, find_receipts, read_receipt
from dataprep.errors import DataError, UsageError, quoted
from dataprep.foreign_import import Foreign
from dataprep.hashing import sha256_file
from dataprep.listing import ListedFile, Listing
from dataprep.mending import IMPORTED
from dataprep.paths import Paths
from dataprep.sources import Source, load_catalogue
from dataprep.supply import check_tokenizer
from dataprep.vocab import Vocab


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What an import was asked to make of its files."""

    source: str
    format: str
    licence: str
    holdout: tuple[str, ...]
    one_document: bool

    def split_of(self, shard: str) -> str:
        """Held-out shards are named."""
        return "holdout" if shard in self.holdout else "train"


def check_name(paths: Paths, source: str, catalogue: Path | None) -> None:
    """Refuse the name of a source that comes another way: its shards and these would be one source."""
    record = paths.source_record(source)
    receipts = [receipt for file in find_receipts(paths, "*", source) if (receipt := _read(file))]
    kinds = {receipt.origin.kind for receipt in receipts}
    kinds |= {read_asked(record).kind} if record.exists() else set()
    kinds |= {"the catalogue"} if source in load_catalogue(catalogue) else set()
    if taken := kinds - {IMPORTED}:
        raise UsageError(
            f"the name {source!r} is taken by a source that is not imported",
            seen=f"--source {source}, known from: {', '.join(sorted(taken))}",
            wanted="a new name",
            fix=f"--source {source}-imported",
        )


def check_shards(files: Sequence[Foreign], holdout: Sequence[str]) -> None:
    """A file is a shard by its name: one each, a name that can be typed, and held-out ones among them."""
    shards = Counter(file.shard for file in files)
    name, count = shards.most_common(1)[0]
    if count > 1:
        raise UsageError(f"{count} files would make one shard", seen=name, wanted="one each", fix="rename one of them")
    if strange := [name for name in shards if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,199}", name)]:
        wanted = "letters, digits, '.', '_', '+' and '-'"
        raise UsageError("a file's name is no shard's", seen=repr(strange[0]), wanted=wanted, fix="rename the file")
    if strangers := sorted(set(holdout) - shards.keys()):
        raise UsageError(
            "--holdout names what is not imported",
            seen=", ".join(strangers),
            wanted=", ".join(shards),
            fix="one of them",
        )


def held_receipt(folder: Path, file: Foreign, vocab: Vocab, wanted: Wanted) -> Receipt | None:
    """The receipt of a shard that is done. Raises UsageError where another file became this shard.

    The file is hashed, whatever its time: shards of one name and one size are common, and we do not know its folder.
    """
    receipt_file = folder / f"{file.shard}.json"
    receipt = _read(receipt_file) if receipt_file.exists() else None
    if receipt is None:
        return None
    check_tokenizer(receipt, vocab)
    same_size = (receipt.file.name, receipt.file.bytes) == (file.file.name, file.file.stat().st_size)
    if not same_size or sha256_file(file.file) != receipt.file.sha256:
        raise UsageError(
            f"shard {file.shard} of {wanted.source} was imported from another file",
            seen=f"{file.file}, {file.file.stat().st_size:,} bytes",
            wanted=f"{receipt.file.name}, {receipt.file.bytes:,} bytes, sha256 {receipt.file.sha256[:12]}…",
            fix=f"give these files a --source of their own, or rm {quoted(receipt_file)} first",
        )
    try:
        check_files(folder, receipt)
    except DataError:
        return None
    made_from = (receipt.split, receipt.origin.layout, receipt.origin.licence, receipt.loss is not None)
    asked = (wanted.split_of(file.shard), wanted.format, wanted.licence, file.loss is not None)
    made_at = receipt_file.stat().st_mtime_ns
    return receipt if made_from == asked and all(path.stat().st_mtime_ns < made_at for path in file.beside) else None


def _read(receipt_file: Path) -> Receipt | None:
    """A receipt, or None where it is damaged: the shard is then made again."""
    try:
        return read_receipt(receipt_file)
    except DataError:
        return None


def publish_request(paths: Paths, files: Sequence[Foreign], vocab: Vocab, wanted: Wanted) -> None:
    """Add these shards to what is asked of the source, so that a gap has a name."""
    record = paths.source_record(wanted.source)
    before = read_asked(record) if record.exists() else None
    splits = dict(before.shards) if before and before.tokenizer == vocab.name else {}
    splits |= {file.shard: wanted.split_of(file.shard) for file in files}
    holdout = tuple(shard for shard, split in sorted(splits.items()) if split == "holdout")
    source = Source(
        name=wanted.source, kind=IMPORTED, layout=wanted.format, columns=(), holdout=holdout, licence=wanted.licence
    )
    listed = tuple(ListedFile(shard=shard, split=split, name=shard) for shard, split in sorted(splits.items()))
    publish_asked(paths, Listing(source=source, revision=None, files=listed), listed, vocab.name)
