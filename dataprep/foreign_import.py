"""Foreign import: one file of another tool's tokens copied into a bin of ours, with ends, loss and receipt.

In:  a .bin of nanoGPT, llm.c or Megatron (with its .idx), or datatrove's .ds (with .ds.index and .ds.loss).
Out: a checked `Foreign`; then `<shard>.bin`, `.docs`, `.loss` where there is one, and `.json`, published.
Holds: ids are of the vocabulary named; the bin is a copy, so who edits the foreign file later harms nothing;
       every document with text ends with one end token; memory is one block.
"""

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dataprep.bins import DOCUMENT_END, LOSS, TOKEN, FileFact, Oracle, Origin, Receipt, TokenizerFact
from dataprep.errors import DataError, quoted
from dataprep.foreign_documents import Recut, Recutter
from dataprep.foreign_formats import (
    LLMC_HEADER_BYTES,
    check_datatrove_metadata,
    is_llmc,
    parse_datatrove_index,
    parse_llmc_header,
    parse_megatron_index,
    refuse,
)
from dataprep.hashing import HashedFile
from dataprep.mending import IMPORTED
from dataprep.publish import publishing
from dataprep.sealed import publish_json
from dataprep.vocab import Vocab

SUFFIX_OF = {"nanogpt": ".bin", "llmc": ".bin", "megatron": ".bin", "datatrove": ".ds"}
_NO_ENCODER = 0
_BLOCK_TOKENS = 1 << 22


@dataclass(frozen=True, kw_only=True)
class Foreign:
    """A file whose header, index and sizes agree. `index` is int64[documents], or None where end tokens tell."""

    format: str
    file: Path
    shard: str
    header_bytes: int
    n_tokens: int
    index: np.ndarray | None
    loss: Path | None
    beside: tuple[Path, ...]


def open_foreign(format_: str, file: Path) -> Foreign:
    """Check everything about the file that can be told without reading its tokens. Raises DataError."""
    if format_ == "megatron" and file.suffix == ".idx":
        file = file.with_suffix(".bin")
    n_bytes, head = _size(file), _read(file, LLMC_HEADER_BYTES)
    header_bytes, index, loss, beside = 0, None, None, ()
    if format_ == "llmc":
        header_bytes = LLMC_HEADER_BYTES
        parse_llmc_header(file.name, head, n_bytes)
    elif n_bytes % TOKEN.itemsize:
        refuse(file.name, f"{n_bytes:,} bytes", "an even number: a token is two bytes")
    n_tokens = (n_bytes - header_bytes) // TOKEN.itemsize
    if format_ == "nanogpt" and is_llmc(head):
        refuse(file.name, "a header of llm.c", "tokens from the first byte on (or --from llmc)")
    if format_ == "megatron":
        beside = (file.with_suffix(".idx"),)
        index = parse_megatron_index(beside[0].name, _read(beside[0]), n_bytes)
    if format_ == "datatrove":
        index, loss, beside = _beside_datatrove(file, n_tokens)
    if n_tokens == 0:
        refuse(file.name, "no tokens", "at least one")
    about = {"format": format_, "file": file, "shard": file.stem, "header_bytes": header_bytes}
    return Foreign(**about, n_tokens=n_tokens, index=index, loss=loss, beside=beside)


def check_first_tokens(foreign: Foreign, vocab: Vocab, *, one_document: bool) -> None:
    """Refuse a wrong vocabulary by the first block, before anything is published. Raises DataError."""
    tokens = next(_blocks(foreign.file, foreign.header_bytes, TOKEN, lambda _: None))
    _check_ids(foreign, vocab, tokens, 0)
    whole = len(tokens) == foreign.n_tokens
    if whole and foreign.index is None and not one_document and not (tokens == vocab.end_id).any():
        _refuse_endless(foreign, vocab)


def import_shard(
    foreign: Foreign,
    source: str,
    *,
    vocab: Vocab,
    split: str,
    licence: str,
    folder: Path,
    one_document: bool = False,
    report: Callable[[int], None] = lambda _n_bytes: None,
) -> tuple[Receipt, Recutter]:
    """Copy one file into `folder` and publish its receipt; also the counts of what was changed. Raises DataError."""
    shard, suffixes = foreign.shard, ["bin", "docs", *["loss"] * (foreign.loss is not None)]
    recutter, digest = Recutter(vocab.end_id, index=foreign.index), hashlib.sha256()
    text_bytes = 0
    with contextlib.ExitStack() as published:
        outs = {suffix: published.enter_context(publishing(folder / f"{shard}.{suffix}")) for suffix in suffixes}
        for recut in _recut_blocks(foreign, vocab, recutter, digest.update):
            text_bytes += int(vocab.byte_lengths[recut.tokens].sum())
            report(recut.tokens.nbytes)
            _write(outs, recut)
        if recutter.seen_ends == 0 and foreign.index is None and not one_document:
            _refuse_endless(foreign, vocab)
        if recutter.tokens == 0:
            refuse(foreign.file.name, "end tokens only", "text")
    facts = {
        suffix: FileFact(name=f"{shard}.{suffix}", bytes=out.bytes_written, sha256=out.sha256)
        for suffix, out in outs.items()
    }
    receipt = Receipt(
        source=source,
        shard=shard,
        split=split,
        origin=Origin(kind=IMPORTED, repo=None, revision=None, licence=licence, layout=foreign.format, columns=()),
        encoder=_NO_ENCODER,
        file=FileFact(name=foreign.file.name, bytes=_size(foreign.file), sha256=digest.hexdigest()),
        tokenizer=TokenizerFact(
            name=vocab.name, fingerprint=vocab.fingerprint, vocab_size=vocab.vocab_size, end_id=vocab.end_id
        ),
        documents=recutter.documents,
        empty_documents=recutter.empty_documents,
        excluded={},
        unsupervised_documents=recutter.unsupervised_documents,
        text_bytes=text_bytes,
        tokens=recutter.tokens,
        end_tokens=recutter.end_tokens,
        loss_tokens=recutter.loss_tokens,
        bin=facts["bin"],
        docs=facts["docs"],
        loss=facts.get("loss"),
        oracle=Oracle(documents=0, tokens=0),  # there is no text to encode again
    )
    publish_json(folder / f"{shard}.json", receipt.to_json())
    if receipt.loss is None:
        (folder / f"{shard}.loss").unlink(missing_ok=True)
    return receipt, recutter


def _recut_blocks(foreign: Foreign, vocab: Vocab, recutter: Recutter, hear: Callable[[bytes], None]) -> Iterator[Recut]:
    """The file as our bin has it. llm.c's end tokens stand before documents: without the first, they end them."""
    place, begun = 0, False
    masks = _blocks(foreign.loss, 0, LOSS, lambda _: None) if foreign.loss else None
    for tokens in _blocks(foreign.file, foreign.header_bytes, TOKEN, hear):
        _check_ids(foreign, vocab, tokens, place)
        mask = _next_mask(foreign, masks, len(tokens)) if masks else None
        if place == 0 and foreign.format == "llmc" and tokens[0] == vocab.end_id:
            begun = True
            recutter.seen_ends += 1
        yield recutter.cut(tokens[1:] if begun and place == 0 else tokens, mask)
        place += len(tokens)
    if place != foreign.n_tokens:
        refuse(foreign.file.name, f"{place:,} tokens", f"{foreign.n_tokens:,}: it changed while it was read")
    last = recutter.close(masked=foreign.loss is not None, begun=begun)
    recutter.added_ends -= begun and len(last.tokens)  # the one before the first document: moved, not added
    yield last


def _write(outs: dict[str, HashedFile], recut: Recut) -> None:
    outs["bin"].write(recut.tokens)
    outs["docs"].write(recut.ends.astype(DOCUMENT_END))
    if recut.loss is not None:
        outs["loss"].write(recut.loss)


def _blocks(file: Path, skipped: int, dtype: np.dtype, hear: Callable[[bytes], None]) -> Iterator[np.ndarray]:
    """The file's values after `skipped` bytes, a block at a time; `hear` has every byte.

    Read, not mapped: a file that another program cuts short is then an error and not a dead process.
    """
    with file.open("rb") as opened:
        hear(opened.read(skipped))
        while block := opened.read(_BLOCK_TOKENS * dtype.itemsize):
            hear(block)
            yield np.frombuffer(block[: len(block) // dtype.itemsize * dtype.itemsize], dtype)


def _next_mask(foreign: Foreign, masks: Iterator[np.ndarray], n_tokens: int) -> np.ndarray:
    assert foreign.loss is not None
    mask = next(masks, np.empty(0, LOSS))
    if len(mask) != n_tokens or (mask > 1).any():
        refuse(foreign.loss.name, f"{len(mask):,} values up to {mask.max(initial=0)}", "a 0 or 1 for each token")
    return mask


def _check_ids(foreign: Foreign, vocab: Vocab, tokens: np.ndarray, place: int) -> None:
    """The padding's id is refused with those that are none: no document has it."""
    if len(tokens) and tokens.max() >= vocab.pad_id:
        first = int(np.argmax(tokens >= vocab.pad_id))
        raise DataError(
            f"{foreign.file.name} was not made with the vocabulary {vocab.name!r}",
            seen=f"id {tokens[first]:,} at token {place + first:,}",
            wanted=f"0 to {vocab.pad_id - 1:,}",
            fix="name the vocabulary it was made with: --tokenizer NAME (or the format it has: --from)",
        )


def _refuse_endless(foreign: Foreign, vocab: Vocab) -> None:
    raise DataError(
        f"no document ends in {foreign.file.name}",
        seen=f"{foreign.n_tokens:,} tokens, none of them {vocab.end_id}",
        wanted=f"the end token of {vocab.name!r} between documents",
        fix="name the vocabulary it was made with: --tokenizer NAME; or, if it is one text, add --one-document",
    )


def _beside_datatrove(file: Path, n_tokens: int) -> tuple[np.ndarray | None, Path | None, tuple[Path, ...]]:
    """(document ends or None, the mask's file or None, every file that was found beside the .ds)."""
    index, loss, metadata = (file.with_name(f"{file.name}.{what}") for what in ("index", "loss", "metadata"))
    if metadata.exists():
        check_datatrove_metadata(metadata.name, _read(metadata), n_tokens)
    if loss.exists() and _size(loss) != n_tokens:
        refuse(loss.name, f"{_size(loss):,} bytes", f"{n_tokens:,}, one per token")
    ends = parse_datatrove_index(index.name, _read(index), n_tokens) if index.exists() else None
    return ends, loss if loss.exists() else None, tuple(path for path in (index, loss, metadata) if path.exists())


def _size(file: Path) -> int:
    if not file.is_file():
        raise DataError(
            f"there is no file {file}", seen="no such file", wanted="a file to import", fix=f"ls {quoted(file.parent)}"
        )
    return file.stat().st_size


def _read(file: Path, n_bytes: int = -1) -> bytes:
    _size(file)
    with file.open("rb") as opened:
        return opened.read(n_bytes)
