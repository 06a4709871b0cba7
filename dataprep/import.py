"""Import: bins that another tool made become a source, with receipts; nothing is tokenized again. A verb.

In:  files of nanoGPT, llm.c, Megatron or datatrove, the vocabulary they were made with, a name for the source.
Out: bins with receipts in data/bins/<tokenizer>/<name>, tokens.db, and what had to be changed.
Holds: a source that came another way is never mixed with; a shard is never replaced by another file's.
Run: python -m dataprep.import --from nanogpt --source owt --holdout val train.bin val.bin
"""

import argparse
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dataprep import manifest, quantity
from dataprep.asked import publish_asked, read_asked
from dataprep.bins import IMPORTED, Receipt, check_files, find_receipts, read_receipt
from dataprep.console import Progress, print_json, print_next
from dataprep.errors import DataError, Parser, UsageError, run
from dataprep.foreign_documents import Recutter
from dataprep.foreign_import import SUFFIX_OF, Foreign, check_first_tokens, import_shard, open_foreign
from dataprep.index import print_notes
from dataprep.listing import ListedFile, Listing
from dataprep.paths import Paths, find_paths
from dataprep.publish import locked, sha256_file, sweep
from dataprep.sources import SOURCE_NAME, Source, load_catalogue
from dataprep.supply import check_tokenizer
from dataprep.vocab import Vocab
from dataprep.vocab_store import obtain_vocab

_TOTALS = ("documents", "empty_documents", "text_bytes", "tokens", "loss_tokens")


def main(argv: list[str] | None = None) -> int:
    """Check every file, then bring them in one by one, index, report."""
    args = _parse(argv)
    paths = find_paths()
    _check_name(paths, args)
    vocab = obtain_vocab(paths, args.tokenizer, vocab_file=args.vocab_file)
    files = [open_foreign(args.format, file) for file in _named_files(args.files, SUFFIX_OF[args.format])]
    _check_shards(files, args.holdout)
    for file in files:
        check_first_tokens(file, vocab, one_document=args.one_document)
    folder = paths.bins(vocab.name, args.source)
    with locked(paths.source_record(args.source).with_name(f".{args.source}.lock")):
        sweep(folder)
        held = {file.shard: _held_receipt(folder, file, vocab, args) for file in files}
        _publish_request(paths, files, vocab, args)
        made = _bring(files, held, vocab, folder, args)
    rebuilt = manifest.rebuild(paths)
    receipts = [read_receipt(folder / f"{file.shard}.json") for file in files]
    _report_json(receipts, made) if args.json else _report(paths, receipts, made)
    print_notes(rebuilt)
    return 0


def _bring(
    files: Sequence[Foreign], held: dict[str, Receipt | None], vocab: Vocab, folder: Path, args: argparse.Namespace
) -> dict[str, Recutter]:
    """What was changed in each shard that had to be made."""
    made = {}
    missing = [file for file in files if held[file.shard] is None]
    with Progress(args.source, sum(file.n_tokens * 2 for file in missing), quiet=args.json) as progress:
        if len(missing) < len(files):
            progress.say(f"{len(files) - len(missing):,} of {len(files):,} shards are held already")
        for file in missing:
            about = {"vocab": vocab, "split": _split(file.shard, args), "licence": args.licence, "folder": folder}
            about |= {"one_document": args.one_document, "report": progress.advance}
            receipt, made[file.shard] = import_shard(file, args.source, **about)
            progress.say(f"{file.shard}  {receipt.documents:>9,} documents  {receipt.tokens:>13,} tokens")
    return made


def _check_name(paths: Paths, args: argparse.Namespace) -> None:
    """Refuse the name of a source that comes another way: its shards and these would be one source."""
    record = paths.source_record(args.source)
    kinds = {read_receipt(file).origin.kind for file in find_receipts(paths, "*", args.source)}
    kinds |= {read_asked(record).kind} if record.exists() else set()
    kinds |= {"the catalogue"} if args.source in load_catalogue(args.catalogue) else set()
    if taken := kinds - {IMPORTED}:
        raise UsageError(
            f"the name {args.source!r} is taken by a source that is not imported",
            seen=f"--source {args.source}, known from: {', '.join(sorted(taken))}",
            wanted="a new name",
            fix=f"--source {args.source}-imported",
        )


def _named_files(given: Sequence[Path], suffix: str) -> list[Path]:
    """Files as given; of a folder, those with the format's suffix, by name."""
    files = []
    for path in given:
        inside = sorted(path.glob(f"*{suffix}")) if path.is_dir() else [path]
        if not inside:
            wanted = f"at least one *{suffix} in it"
            raise DataError(f"{path} has nothing to import", seen="no such file", wanted=wanted, fix=f"ls {path}")
        files += inside
    return files


def _check_shards(files: Sequence[Foreign], holdout: Sequence[str]) -> None:
    """A file is a shard by its name: one each, a name that can be typed, and held-out ones among them."""
    shards = Counter(file.shard for file in files)
    name, count = shards.most_common(1)[0]
    if count > 1:
        raise UsageError(f"{count} files would make one shard", seen=name, wanted="one each", fix="rename one of them")
    if strange := [name for name in shards if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]*", name)]:
        wanted = "letters, digits, '.', '_', '+' and '-'"
        raise UsageError("a file's name is no shard's", seen=repr(strange[0]), wanted=wanted, fix="rename the file")
    if strangers := sorted(set(holdout) - shards.keys()):
        raise UsageError(
            "--holdout names what is not imported",
            seen=", ".join(strangers),
            wanted=", ".join(shards),
            fix="one of them",
        )


def _held_receipt(folder: Path, file: Foreign, vocab: Vocab, args: argparse.Namespace) -> Receipt | None:
    """The receipt of a shard that is done. Raises UsageError where another file became this shard."""
    receipt_file = folder / f"{file.shard}.json"
    if not receipt_file.exists():
        return None
    receipt = read_receipt(receipt_file)
    check_tokenizer(receipt, vocab)
    changed = [path for path in (file.file, *file.beside) if path.stat().st_mtime_ns > receipt_file.stat().st_mtime_ns]
    same_size = (receipt.file.name, receipt.file.bytes) == (file.file.name, file.file.stat().st_size)
    if not same_size or (file.file in changed and sha256_file(file.file) != receipt.file.sha256):
        raise UsageError(
            f"shard {file.shard} of {args.source} was imported from another file",
            seen=f"{file.file}, {file.file.stat().st_size:,} bytes",
            wanted=f"{receipt.file.name}, {receipt.file.bytes:,} bytes, sha256 {receipt.file.sha256[:12]}…",
            fix=f"give these files a --source of their own, or rm {receipt_file} first",
        )
    try:
        check_files(folder, receipt)
    except DataError:
        return None
    made_from = (receipt.split, receipt.origin.layout, receipt.origin.licence)
    asked = (_split(file.shard, args), args.format, args.licence)
    return receipt if made_from == asked and not changed else None


def _publish_request(paths: Paths, files: Sequence[Foreign], vocab: Vocab, args: argparse.Namespace) -> None:
    """Add these shards to what is asked of the source, so that a gap has a name."""
    record = paths.source_record(args.source)
    before = read_asked(record) if record.exists() else None
    splits = dict(before.shards) if before and before.tokenizer == vocab.name else {}
    splits |= {file.shard: _split(file.shard, args) for file in files}
    holdout = tuple(shard for shard, split in sorted(splits.items()) if split == "holdout")
    source = Source(
        name=args.source, kind=IMPORTED, layout=args.format, columns=(), holdout=holdout, licence=args.licence
    )
    listed = tuple(ListedFile(shard=shard, split=split, name=shard) for shard, split in sorted(splits.items()))
    publish_asked(paths, Listing(source=source, revision=None, files=listed), listed, vocab.name)


def _split(shard: str, args: argparse.Namespace) -> str:
    return "holdout" if shard in args.holdout else "train"


def _changes(made: dict[str, Recutter]) -> dict[str, int]:
    return {key: sum(getattr(recutter, key) for recutter in made.values()) for key in ("lone_ends", "added_ends")}


def _report(paths: Paths, receipts: Sequence[Receipt], made: dict[str, Recutter]) -> None:
    first, changes = receipts[0], _changes(made)
    documents, tokens = sum(r.documents for r in receipts), sum(r.tokens for r in receipts)
    folder = paths.shown(paths.bins(first.tokenizer.name, first.source))
    print(f"\n{len(receipts):,} shards, {documents:,} documents, {tokens:,} tokens of {first.source} are in {folder}")
    if changes["lone_ends"]:
        print(f"{changes['lone_ends']:,} end tokens had no text before them: empty documents, which have no tokens")
    if changes["added_ends"]:
        print(f"{changes['added_ends']:,} documents had no end token behind them and were given one")
    for receipt in receipts:
        if receipt.split == "train" and "val" in receipt.shard:
            print(f"note: {receipt.shard} is held as training text; --holdout {receipt.shard} would hold it out")
    print_next(f"python -m dataprep.pack --mix 1 --sources {first.source} --tokenizer {first.tokenizer.name}")


def _report_json(receipts: Sequence[Receipt], made: dict[str, Recutter]) -> None:
    about = {"source": receipts[0].source, "tokenizer": receipts[0].tokenizer.name, "held": len(receipts)}
    totals = {key: sum(getattr(receipt, key) for receipt in receipts) for key in _TOTALS}
    print_json(about | {"made": len(made)} | totals | _changes(made))


def _source_name(text: str) -> str:
    if not SOURCE_NAME.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a name of a-z, 0-9, '.', '_' and '-'")
    return text


def _parse(argv: list[str] | None) -> Any:
    parser = Parser(prog="python -m dataprep.import", description="Make a source of tokens that another tool made.")
    add = parser.add_argument
    add("files", type=Path, nargs="+", metavar="FILE", help="files, or folders of them; a file becomes a shard")
    add("--from", choices=list(SUFFIX_OF), required=True, dest="format", help="the tool whose format they have")
    add("--source", type=_source_name, required=True, help="a new name for the source")
    add("--tokenizer", type=quantity.name, default="gpt2", help="the vocabulary they were made with (default gpt2)")
    add("--vocab-file", type=Path, metavar="FILE", help="its ranks, as a .tiktoken file")
    add("--holdout", action="append", default=[], metavar="SHARD", help="hold this file out (its name without suffix)")
    add("--licence", type=quantity.unicode_text, default="unknown", help="kept in the receipts")
    add("--one-document", action="store_true", help="a file without any end token is one document")
    add("--catalogue", type=Path, metavar="FILE", help="more sources, whose names are taken")
    add("--json", action="store_true", help="exact numbers for machines")
    return parser.parse_args(argv)


if __name__ == "__main__":
    run(main)
