"""Data held, as the doctor sees it: shards and tokens of each source, by the receipts beside the bins.

In:  receipts, and the records of what was asked for. Out: findings, and the number of shards.
Holds: tokens.db is not opened; a bin whose size is not its receipt's fails here as it would in a run.
python-docs under python-8k: 3 of 3 train shards, 2,405,587 tokens, and 1 held out
"""

from collections.abc import Iterable
from pathlib import Path

from dataprep.asked import asked_files, read_asked
from dataprep.bins import Receipt, check_files, find_receipts, read_receipt
from dataprep.mending import make_again
from dataprep.paths import Paths
from train.doctor.finding import OK, WARN, Finding, examine


def check_holdings(paths: Paths) -> Iterable[Finding]:
    """One finding per tokenizer and source."""
    folders = sorted({file.parent for file in find_receipts(paths)})
    if not folders:
        seen = f"nothing in {paths.shown(paths.all_bins)}"
        yield Finding(name="data", level=WARN, seen=seen, advice="make demo, or make shards N=1")
    for folder in folders:
        yield from examine(f"data {folder.name}", lambda folder=folder: [_holding(paths, folder)])


def count_shards(paths: Paths) -> int:
    """Shards held, of every source and tokenizer."""
    return len(find_receipts(paths))


def _holding(paths: Paths, folder: Path) -> Finding:
    tokenizer, source = folder.parent.name, folder.name
    receipts = [read_receipt(file) for file in find_receipts(paths, tokenizer, source)]
    for receipt in receipts:
        check_files(folder, receipt)
    train = [receipt for receipt in receipts if receipt.split == "train"]
    n_asked, missing = _asked(paths, receipts, tokenizer, source)
    shards = f"{len(train):,} of {n_asked:,}" if missing else f"{len(train):,}"
    tokens = sum(receipt.tokens for receipt in train)
    return Finding(
        name=f"data {source}",
        level=WARN if missing else OK,
        seen=f"{shards} train shards, {tokens:,} tokens of {tokenizer}; {len(receipts) - len(train)} held out",
        advice=make_again(paths, source, tokenizer, shards=missing) if missing else "",
    )


def _asked(paths: Paths, receipts: list[Receipt], tokenizer: str, source: str) -> tuple[int, list[str]]:
    """(train shards asked for, those of any split that are missing), by the record of the last request."""
    record = paths.source_record(source)
    if record not in asked_files(paths):
        return 0, []
    asked = read_asked(record)
    if asked.tokenizer != tokenizer:
        return 0, []
    held = {(receipt.shard, receipt.split) for receipt in receipts}
    n_train = sum(split == "train" for _, split in asked.shards)
    return n_train, [shard for shard, split in asked.shards if (shard, split) not in held]
