"""Supply: what is held of each source under one tokenizer, read from receipts.

In:  receipts below data/bins/<tokenizer>/. Out: per source, the receipts by split and their tokens.
Holds: only shards whose files have the size their receipts name count as held, and every one of
them was made with the very vocabulary that is on disk under that name.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from dataprep.bins import Receipt, check_files, find_receipts, read_receipt
from dataprep.errors import DataError, UsageError
from dataprep.mending import make_again
from dataprep.paths import Paths
from dataprep.vocab import Vocab


@dataclass(frozen=True, kw_only=True)
class Supply:
    """One source's held shards: those to draw from, and the tokens of the other split."""

    source: str
    receipts: tuple[Receipt, ...]
    held_out_tokens: int

    @property
    def tokens(self) -> int:
        """Tokens that may be drawn."""
        return sum(receipt.tokens for receipt in self.receipts)


def load_supply(
    paths: Paths, vocab: Vocab, source: str, split: str, *, only: frozenset[tuple[str, str]] | None = None
) -> Supply:
    """What is held of `source`, of the (source, shard)s in `only` if given.

    Raises DataError when nothing is, or when a bin is not what it was.
    """
    receipts = [read_receipt(file) for file in find_receipts(paths, vocab.name, source)]
    for receipt in receipts:
        check_tokenizer(receipt, vocab)
        check_files(paths.bins(vocab.name, source), receipt)
    drawn = tuple(
        receipt for receipt in receipts if receipt.split == split and (only is None or (source, receipt.shard) in only)
    )
    if not drawn:
        raise DataError(
            f"no {split} shard of {source!r} is held under tokenizer {vocab.name!r}",
            seen=f"{len(receipts)} shards in {paths.shown(paths.bins(vocab.name, source))}",
            wanted=f"at least one {split} shard",
            fix=make_again(paths, source, vocab.name),
        )
    held_out = sum(receipt.tokens for receipt in receipts if receipt.split != split)
    return Supply(source=source, receipts=drawn, held_out_tokens=held_out)


def check_tokenizer(receipt: Receipt, vocab: Vocab) -> None:
    """Refuse a bin made with another vocabulary than `vocab`. Raises DataError."""
    if receipt.tokenizer.fingerprint != vocab.fingerprint:
        raise DataError(
            f"{receipt.shard} of {receipt.source} was made with another vocabulary called {vocab.name!r}",
            seen=f"fingerprint {receipt.tokenizer.fingerprint[:12]}…",
            wanted=f"{vocab.fingerprint[:12]}…",
            fix=f"bring the old data/vocab/{vocab.name}.tiktoken back, or use another --tokenizer name",
        )


def held_tokenizers(paths: Paths) -> list[str]:
    """Tokenizers that have at least one bin."""
    return sorted({file.parent.parent.name for file in find_receipts(paths)})


def held_sources(paths: Paths, tokenizer: str, catalogue_order: Iterable[str]) -> list[str]:
    """Sources with bins under `tokenizer`: in catalogue order, then those no catalogue knows, by name."""
    held = {file.parent.name for file in find_receipts(paths, tokenizer)}
    known = [name for name in catalogue_order if name in held]
    return known + sorted(held.difference(known))


def choose_tokenizer(paths: Paths, asked: str | None) -> str:
    """The tokenizer asked for, or the only one that has bins."""
    held = held_tokenizers(paths)
    if asked is None and len(held) == 1:
        return held[0]
    if asked is None:
        raise UsageError(
            "it is not clear which tokenizer's bins to use" if held else "there are no bins yet",
            seen=", ".join(held) or "nothing in data/bins",
            wanted="one tokenizer",
            fix=f"--tokenizer {held[0]}" if held else "make shards N=1, or make demo",
        )
    return asked
