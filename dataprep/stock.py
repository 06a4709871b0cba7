"""Stock: how many shards of a source so many tokens need, and how many are held, by what its held shards measure.

In:  receipts of train shards under one tokenizer. Out: `Stock`, one per source.
Holds: tokens per shard are measured where one shard is held; a stated default stands in until then, and says so;
       where neither is there, the shards needed are not known.
shards needed = ⌈tokens / mean tokens per shard⌉
"""

from dataclasses import dataclass
from fractions import Fraction

from dataprep.bins import TOKEN, find_receipts, read_receipt
from dataprep.paths import Paths

DEFAULT_SOURCE = "fineweb-edu"
# Tokens and parquet bytes of one shard, until one is held: docs/log.md and the repository's listing.
_STATED = {DEFAULT_SOURCE: (53_500_000, 100_000_000)}


@dataclass(frozen=True, kw_only=True)
class Stock:
    """A source's train shards: what is held, and what the tokens asked for would need. None is: not known."""

    source: str
    held: int
    held_tokens: int
    tokens_per_shard: float | None
    measured: bool
    needed: int | None
    missing: int | None
    parquet_bytes: int | None  # of the shards needed
    bin_bytes: int | None


def take_stock(paths: Paths, tokenizer: str, source: str, tokens: int) -> Stock:
    """What `tokens` need of `source` alone, each token once."""
    receipts = [read_receipt(file) for file in find_receipts(paths, tokenizer, source)]
    train = [receipt for receipt in receipts if receipt.split == "train"]
    held_tokens, held_bytes = sum(receipt.tokens for receipt in train), sum(receipt.file.bytes for receipt in train)
    measured = held_tokens > 0
    mean_tokens, mean_bytes = (
        (Fraction(held_tokens, len(train)), Fraction(held_bytes, len(train)))
        if measured
        else _STATED.get(source, (None, None))
    )
    needed = None if mean_tokens is None else int(-(-tokens // mean_tokens))
    return Stock(
        source=source,
        held=len(train),
        held_tokens=held_tokens,
        tokens_per_shard=None if mean_tokens is None else float(mean_tokens),
        measured=measured,
        needed=needed,
        missing=None if needed is None else max(0, needed - len(train)),
        parquet_bytes=None if needed is None or mean_bytes is None else int(needed * mean_bytes),
        bin_bytes=None if needed is None or mean_tokens is None else int(needed * mean_tokens) * TOKEN.itemsize,
    )
