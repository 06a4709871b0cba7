"""Show: one document of a source as its bin holds it: roles, loss and tokens. A verb.

In:  a source and a document's number, counted over its held shards in name order (or inside --shard).
Out: where it is, then its runs of tokens: role, loss, count and text; coloured on a terminal, plain elsewhere.
Holds: what is printed was read from the bin and its mask, not made again from the text.
Run: python -m dataprep.show python-qa --document 17
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dataprep import quantity
from dataprep.bins import Receipt, find_receipts, open_bin, open_document_ends, open_loss, read_receipt
from dataprep.console import print_json, print_next
from dataprep.decoded import DIM, EDGE, GREEN, PLAIN, Run, split_runs
from dataprep.errors import DataError, Parser, UsageError, quoted, run, visible
from dataprep.paths import Paths, find_paths
from dataprep.sources import find_source, load_catalogue, make_shards
from dataprep.supply import check_tokenizer, choose_tokenizer
from dataprep.vocab import Vocab
from dataprep.vocab_store import load_vocab


def main(argv: list[str] | None = None) -> int:
    """Find the document, read it, print it."""
    args = _parse(argv)
    paths = find_paths()
    vocab = load_vocab(paths, choose_tokenizer(paths, args.tokenizer))
    receipts = _held(paths, vocab, args)
    receipt, row = locate(receipts, args.document)
    ids, loss = read_document(paths, receipt, row)
    runs = split_runs(vocab, ids, loss)
    place = {"source": receipt.source, "shard": receipt.shard, "split": receipt.split, "file": receipt.file.name}
    facts = place | {"row": row, "tokenizer": vocab.name, "tokens": len(ids), "loss_tokens": sum(loss)}
    if args.json:
        shown = [vars(run) | {"text": "".join(run.tokens)} for run in runs]
        print_json({"document": args.document} | facts | {"runs": shown})
        return 0
    print(
        f"document {args.document:,} of {receipt.source}: row {row:,} of {visible(receipt.file.name)} ({receipt.split})"
    )
    print(f"{len(ids):,} tokens under {vocab.name}, {sum(loss):,} of them learned\n")
    for run_ in runs:
        print(_line(run_, coloured=sys.stdout.isatty()))
    if not runs:
        print("(no tokens: its text is empty, or it was left out)")
        print_next("python -m dataprep.sql --file manifests/queries/excluded_documents.sql")
    return 0


def locate(receipts: Sequence[Receipt], document: int) -> tuple[Receipt, int]:
    """The shard that holds `document` and its row there. Raises UsageError beyond the last one."""
    row = document
    for receipt in receipts:
        if 0 <= row < receipt.documents:
            return receipt, row
        row -= receipt.documents
    n_documents = sum(receipt.documents for receipt in receipts)
    raise UsageError(
        "there is no such document",
        seen=f"--document {document:,}",
        wanted=f"0 to {n_documents - 1:,}: {len(receipts):,} shards hold {n_documents:,} documents",
        fix=f"python -m dataprep.show {receipts[0].source} --document {n_documents - 1}",
    )


def read_document(paths: Paths, receipt: Receipt, row: int) -> tuple[list[int], list[int]]:
    """Ids and loss of one row of a shard; without a mask every token is learned."""
    folder = paths.bins(receipt.tokenizer.name, receipt.source)
    where = {"tokens": receipt.tokens, "bin_sha256": receipt.bin.sha256}
    tokens = open_bin(paths, receipt.tokenizer.name, receipt.source, receipt.shard, **where)
    ends, mask = open_document_ends(folder, receipt), open_loss(folder, receipt)
    cut = slice(int(ends[row - 1]) if row else 0, int(ends[row]))
    ids = tokens[cut].tolist()
    return ids, [1] * len(ids) if mask is None else mask[cut].tolist()


def _line(run_: Run, *, coloured: bool) -> str:
    head = f"{run_.role:<9} loss {run_.loss} {len(run_.ids):>6,}  "
    texts = [visible(text, keep="\n") for text in run_.tokens]
    if not coloured:
        return head + "".join(texts)
    colour = (GREEN if run_.loss else "") + (DIM if run_.special else "")
    # Every second token is underlined, so that the edges between tokens can be seen.
    shown = [f"{colour}{EDGE if i % 2 else ''}{text}{PLAIN}" for i, text in enumerate(texts)]
    return f"{DIM}{head}{PLAIN}" + "".join(shown)


def _held(paths: Paths, vocab: Vocab, args: argparse.Namespace) -> list[Receipt]:
    receipts = [read_receipt(file) for file in find_receipts(paths, vocab.name, args.source)]
    if not receipts:
        find_source(load_catalogue(args.catalogue), args.source)  # a name that nobody knows is said to be one
        raise DataError(
            f"no shard of {args.source!r} is held under tokenizer {vocab.name!r}",
            seen=f"nothing in {paths.shown(paths.bins(vocab.name, args.source))}",
            wanted="at least one shard",
            fix=make_shards(args.source, tokenizer=vocab.name),
        )
    for receipt in receipts:
        check_tokenizer(receipt, vocab)
    chosen = [receipt for receipt in receipts if args.shard in {None, receipt.shard}]
    if not chosen:
        names = ", ".join(receipt.shard for receipt in receipts)
        fix = f"--shard {quoted(receipts[0].shard)}"
        raise UsageError(f"{args.source} holds no shard {args.shard!r}", seen=args.shard, wanted=names, fix=fix)
    return chosen


def _parse(argv: list[str] | None) -> Any:
    parser = Parser(prog="python -m dataprep.show", description="Print one document's tokens, roles and loss.")
    parser.add_argument("source", type=quantity.name, help="a source with bins, such as python-qa")
    parser.add_argument("--document", type=int, default=0, help="its number, from 0 (default: 0)")
    parser.add_argument("--shard", help="count inside this shard only")
    parser.add_argument("--tokenizer", type=quantity.name, help="whose bins (default: the only ones held)")
    parser.add_argument("--catalogue", type=Path, metavar="FILE", help="more sources, as TOML")
    parser.add_argument("--json", action="store_true", help="exact ids and texts for machines")
    return parser.parse_args(argv)


if __name__ == "__main__":
    run(main)
