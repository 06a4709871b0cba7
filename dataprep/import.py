"""Import: bins that another tool made become a source, with receipts; nothing is tokenized again. A verb.

In:  files of nanoGPT, llm.c, Megatron or datatrove, the vocabulary they were made with, a name for the source.
Out: bins with receipts in data/bins/<tokenizer>/<name>, tokens.db, and what had to be changed.
Holds: a source that came another way is never mixed with; a shard is never replaced by another file's.
Run: python -m dataprep.import --from nanogpt --source owt --holdout val train.bin val.bin
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dataprep import manifest, quantity
from dataprep.bins import Receipt, read_receipt
from dataprep.console import Progress, print_json, print_next
from dataprep.errors import DataError, Parser, quoted, run
from dataprep.flocks import locked
from dataprep.foreign_documents import Recutter
from dataprep.foreign_import import SUFFIX_OF, Foreign, check_first_tokens, import_shard, open_foreign
from dataprep.foreign_source import Wanted, check_name, check_shards, held_receipt, publish_request
from dataprep.index import print_notes
from dataprep.paths import Paths, find_paths
from dataprep.sources import SOURCE_NAME
from dataprep.temps import sweep
from dataprep.vocab import Vocab
from dataprep.vocab_store import obtain_vocab

_TOTALS = ("documents", "empty_documents", "text_bytes", "tokens", "loss_tokens")


def main(argv: list[str] | None = None) -> int:
    """Check every file, then bring them in one by one, index, report."""
    args = _parse(argv)
    paths = find_paths()
    check_name(paths, args.source, args.catalogue)
    vocab = obtain_vocab(paths, args.tokenizer, vocab_file=args.vocab_file)
    files = [open_foreign(args.format, file) for file in _named_files(args.files, SUFFIX_OF[args.format])]
    check_shards(files, args.holdout)
    for file in files:
        check_first_tokens(file, vocab, one_document=args.one_document)
    folder = paths.bins(vocab.name, args.source)
    asked = {"source": args.source, "format": args.format, "licence": args.licence}
    wanted = Wanted(**asked, holdout=tuple(args.holdout), one_document=args.one_document)
    with locked(paths.source_record(args.source).with_name(f".{args.source}.lock")):
        for place in (folder, paths.source_record(args.source).parent):
            sweep(place)
        held = {file.shard: held_receipt(folder, file, vocab, wanted) for file in files}
        publish_request(paths, files, vocab, wanted)
        made = _bring(files, held, vocab, folder, wanted, quiet=args.json)
    rebuilt = manifest.rebuild(paths)
    receipts = [read_receipt(folder / f"{file.shard}.json") for file in files]
    _report_json(receipts, made) if args.json else _report(paths, receipts, made)
    print_notes(rebuilt)
    return 0


def _bring(
    files: Sequence[Foreign],
    held: dict[str, Receipt | None],
    vocab: Vocab,
    folder: Path,
    wanted: Wanted,
    *,
    quiet: bool,
) -> dict[str, Recutter]:
    """What was changed in each shard that had to be made."""
    made = {}
    missing = [file for file in files if held[file.shard] is None]
    with Progress(wanted.source, sum(file.n_tokens * 2 for file in missing), quiet=quiet) as progress:
        if len(missing) < len(files):
            progress.say(f"{len(files) - len(missing):,} of {len(files):,} shards are held already")
        for file in missing:
            about = {"vocab": vocab, "split": wanted.split_of(file.shard), "licence": wanted.licence, "folder": folder}
            about |= {"one_document": wanted.one_document, "report": progress.advance}
            receipt, made[file.shard] = import_shard(file, wanted.source, **about)
            progress.say(f"{file.shard}  {receipt.documents:>9,} documents  {receipt.tokens:>13,} tokens")
    return made


def _named_files(given: Sequence[Path], suffix: str) -> list[Path]:
    """Files as given; of a folder, those with the format's suffix, by name."""
    files = []
    for path in given:
        inside = sorted(path.glob(f"*{suffix}")) if path.is_dir() else [path]
        if not inside:
            wanted = f"at least one *{suffix} in it"
            raise DataError(
                f"{path} has nothing to import", seen="no such file", wanted=wanted, fix=f"ls {quoted(path)}"
            )
        files += inside
    return files


def _changes(made: dict[str, Recutter]) -> dict[str, int]:
    return {key: sum(getattr(recutter, key) for recutter in made.values()) for key in ("lone_ends", "added_ends")}


def _report(paths: Paths, receipts: Sequence[Receipt], made: dict[str, Recutter]) -> None:
    first, changes = receipts[0], _changes(made)
    documents, tokens = sum(r.documents for r in receipts), sum(r.tokens for r in receipts)
    folder = paths.shown(paths.bins(first.tokenizer.name, first.source))
    print(f"\n{first.source}: {documents:,} documents, {tokens:,} tokens in {folder}")
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
