"""Export: a source's bins as another trainer wants them, in a folder of their own. A verb.

In:  a source with bins, a format, a folder. Out: files there, quern-export.json last, and how the other reads them.
Holds: nothing of somebody else's is overwritten; what is up to date is left as it is; our bins stay as they are.
Run: python -m dataprep.export --source fineweb-edu --to nanogpt out/fineweb-edu
"""

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dataprep import quantity
from dataprep.bins import check_files, find_receipts, read_receipt
from dataprep.console import Progress, print_json, print_next, size, table
from dataprep.errors import DataError, Parser, UsageError, run
from dataprep.flocks import locked
from dataprep.foreign_export import SPLITS, Held, Published, Target, plan_targets, publish_target
from dataprep.foreign_folder import RECORD, claim, is_current, make_room, read_claim
from dataprep.foreign_pages import FORMATS, page
from dataprep.mending import make_again
from dataprep.paths import Paths, find_paths
from dataprep.publish import publish_bytes
from dataprep.sealed import publish_json, read_json
from dataprep.sources import find_source, load_catalogue
from dataprep.supply import check_tokenizer, choose_tokenizer
from dataprep.temps import sweep
from dataprep.vocab import Vocab
from dataprep.vocab_store import load_vocab

PAGE = "README.md"


def main(argv: list[str] | None = None) -> int:
    """Find the shards, decide on files, publish what is not there."""
    args = _parse(argv)
    paths = find_paths()
    vocab = load_vocab(paths, choose_tokenizer(paths, args.tokenizer))
    shards, empty = _held(paths, vocab, args)
    targets, folder = plan_targets(args.to, shards), args.folder.resolve()
    about = _about(args, vocab, shards)
    _check_folder(paths, folder)
    with locked(folder / ".quern-export.lock"):
        sweep(folder, of={RECORD})  # killed at its last step an export is whole, but its claim has a second name
        before = read_claim(folder, about)
        removed: list[str] = []
        if made := not is_current(folder, about, before):
            names = [*(target.name for target in targets), PAGE]
            removed = make_room(folder, names, before)
            claim(folder, about, names, before)
            _publish(folder, targets, about, args)
        record = read_json(folder / RECORD) or {}
    if args.json:
        print_json({"folder": str(folder), "made": made} | record | {"without_tokens": empty, "removed": removed})
    else:
        _report(folder, record, empty, removed, made=made)
    return 0


def _held(paths: Paths, vocab: Vocab, args: argparse.Namespace) -> tuple[list[Held], list[str]]:
    """Shards of the split that have tokens, and the names of those that have none, which no peer can open."""
    folder = paths.bins(vocab.name, args.source)
    receipts = [read_receipt(file) for file in find_receipts(paths, vocab.name, args.source)]
    if not receipts:
        find_source(load_catalogue(args.catalogue), args.source)
    wanted = [receipt for receipt in receipts if args.split in {receipt.split, "all"}]
    for receipt in wanted:
        check_tokenizer(receipt, vocab)
        check_files(folder, receipt)
    shards = [Held(folder=folder, receipt=receipt) for receipt in wanted if receipt.tokens]
    if not shards:
        raise DataError(
            f"there is nothing of {args.source!r} to export under tokenizer {vocab.name!r}",
            seen=f"{len(receipts)} shards held, none with tokens of --split {args.split}",
            wanted="at least one",
            fix=make_again(paths, args.source, vocab.name),
        )
    return shards, [receipt.shard for receipt in wanted if not receipt.tokens]


def _about(args: argparse.Namespace, vocab: Vocab, shards: Sequence[Held]) -> dict[str, Any]:
    """What the export is of: equal values make equal files."""
    receipts = [held.receipt for held in shards]
    columns = ("shard", "split", "documents", "tokens", "loss_tokens")
    tokenizer = {"name": vocab.name, "fingerprint": vocab.fingerprint, "vocab_size": vocab.vocab_size}
    return {
        "format": args.to,
        "source": args.source,
        "tokenizer": tokenizer | {"end_id": vocab.end_id},
        "split": args.split,
        "copied": args.copy,
        "shards": [
            {column: getattr(receipt, column) for column in columns}
            | {f"{fact.name.rpartition('.')[2]}_sha256": fact.sha256 for fact in receipt.files}
            for receipt in receipts
        ],
    }


def _check_folder(paths: Paths, folder: Path) -> None:
    if folder.is_relative_to(paths.data) or paths.data.is_relative_to(folder):
        raise UsageError(
            "an export needs a folder of its own", seen=folder, wanted=f"one outside {paths.data}", fix="out/NAME"
        )
    if folder.exists() and not folder.is_dir():
        raise UsageError("an export needs a folder", seen=f"a file, {folder}", wanted="a folder", fix="another name")


def _publish(folder: Path, targets: Sequence[Target], about: dict[str, Any], args: argparse.Namespace) -> None:
    published = []
    with Progress(args.to, len(targets), quiet=args.json) as progress:
        for target in targets:
            published.append(publish_target(target, folder, copy=args.copy))
            progress.say(_line(published[-1], wanted_link=target.same is not None and not args.copy))
    text = page(about, published).encode()
    sha256 = publish_bytes(folder / PAGE, text)
    published.append(Published(name=PAGE, bytes=len(text), sha256=sha256, linked=False))
    publish_json(folder / RECORD, about | {"complete": True, "files": [asdict(file) for file in published]})


def _line(file: Published, *, wanted_link: bool) -> str:
    how = "linked" if file.linked else "copied: no hard links there" if wanted_link else "written"
    return f"{file.name}  {size(file.bytes):>10}  {how}"


def _report(folder: Path, record: dict[str, Any], empty: list[str], removed: list[str], *, made: bool) -> None:
    columns = ("shard", "split", "documents", "tokens")
    print("\n" + table(columns, [[shard[column] for column in columns] for shard in record["shards"]]))
    n_linked = sum(file["linked"] for file in record["files"])
    links = f", {n_linked:,} of them hard links to our bins: never edit those in place" if n_linked else ""
    print(f"{len(record['files']):,} files{links}")
    if empty:
        print(f"left out, for they have no tokens: {', '.join(empty)}")
    if removed:
        print(f"taken away, for this export does not have them: {', '.join(removed)}")
    for note in FORMATS[record["format"]].notes(record):
        print(f"note: {note}")
    print("exported" if made else "up to date: nothing was written")
    print_next(f"cat {folder / PAGE}")


def _parse(argv: list[str] | None) -> Any:
    parser = Parser(prog="python -m dataprep.export", description="Give a source's tokens to another trainer.")
    add = parser.add_argument
    add("folder", type=Path, metavar="FOLDER", help="where to, a folder of its own")
    add("--source", type=quantity.name, required=True, help="a source with bins")
    add("--to", choices=list(FORMATS), required=True, help="whose format")
    add("--tokenizer", type=quantity.name, help="whose bins (default: the only ones held)")
    add("--split", choices=[*SPLITS, "all"], default="all", help="which shards (default all)")
    add("--copy", action="store_true", help="files of their own instead of hard links, to be edited")
    add("--catalogue", type=Path, metavar="FILE", help="more sources, as TOML")
    add("--json", action="store_true", help="exact numbers for machines")
    return parser.parse_args(argv)


if __name__ == "__main__":
    run(main)
