"""Stock: how many shards of a source so many tokens need, and how many are held, by what its held shards measure.

In:  receipts of train shards under one tokenizer. Out: `Stock`, one per source.
Holds: tokens per shard are measured where one shard is held; a stated default stands in until then, and says so;
       where neither is there, the shards needed are not known.
shards needed = ⌈tokens / mean tokens per shard⌉
"""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from dataprep.bins import TOKEN, find_receipts, read_receipt
from dataprep.mending import IMPORTED
from dataprep.paths import Paths
from dataprep.rank_file import N_SPECIALS
from dataprep.sources import find_source, load_catalogue
from dataprep.supply import held_sources, held_tokenizers
from dataprep.vocab_store import load_vocab

DEFAULT_SOURCE = "fineweb-edu"
_GPT2_RANKS = 50_256
# Tokens and parquet bytes of one shard until one is held: as its entry in catalogue.toml says.
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
    imported: bool  # made by another tool: no catalogue tells where there is more of it
    parquet_bytes: int | None  # of the shards needed
    bin_bytes: int | None


def take_stock_of(
    paths: Paths, tokenizer: str, source: str | None, catalogue: Path | None, tokens: int
) -> tuple[Stock, ...]:
    """Of the source asked for, else of every one held, largest first, else of the default one."""
    if source is not None and not find_receipts(paths, tokenizer, source):
        find_source(load_catalogue(catalogue), source)  # a name that nobody knows is said to be one
    names = [source] if source else held_sources(paths, tokenizer, load_catalogue(catalogue)) or [DEFAULT_SOURCE]
    stocks = [take_stock(paths, tokenizer, name, tokens) for name in names]
    return tuple(sorted(stocks, key=lambda stock: -stock.held_tokens))


def vocabulary(paths: Paths, asked: str | None) -> tuple[str, int]:
    """The tokenizer asked for, or the only one with bins, or gpt2; and the number of its ids."""
    held = held_tokenizers(paths)
    name = asked or (held[0] if len(held) == 1 else "gpt2")
    receipts = find_receipts(paths, name)
    if receipts:
        return name, read_receipt(receipts[0]).tokenizer.vocab_size
    if name == "gpt2":
        return name, _GPT2_RANKS + N_SPECIALS
    return name, load_vocab(paths, name).vocab_size


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
        imported=any(receipt.origin.kind == IMPORTED for receipt in receipts),
        parquet_bytes=None if needed is None or mean_bytes is None else int(needed * mean_bytes),
        bin_bytes=None if needed is None or mean_tokens is None else int(needed * mean_tokens) * TOKEN.itemsize,
    )
