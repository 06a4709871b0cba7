"""Held-out rows: the fixed list by which every run of a tokenizer is judged, source by source.

In:  the held-out shards of a recipe's sources, under its tokenizer. Out: `HeldOutRows`, read in any stretch.
Holds: which rows they are follows from the held-out shards, the row length and N alone, never from ratio, seed or
       budget; none is of a shard in the plan; every one was read once, and found sound, before training begins.
Rule: a source's held-out shards, in the order of their names, are one stream, cut into rows of `seq_len`; the list
      takes N of them, evenly spread. What counts in a row, and what it sees, is as in training.
10 rows held, N = 4: rows 0, 2, 5 and 7. With N = 2: rows 0 and 5, which are among them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from dataprep.bins import find_receipts, read_receipt
from dataprep.packing import Segments, count_rows, cut_rows, merge, place, whole_shards
from dataprep.paths import Paths
from dataprep.plan import hash_rows
from dataprep.recipe import Recipe, RecipeShard
from dataprep.supply import check_tokenizer
from dataprep.vocab import Vocab
from train.gathering import Gatherer, Rows
from train.head import UNCOUNTED

_CHECKED_ROWS = 64  # read at once when the list is opened


@dataclass(frozen=True, kw_only=True)
class HeldOutSource:
    """Rows [row_from, row_to) of the list are of this source. Equal hashes are equal rows, whatever the recipe."""

    source: str
    row_from: int
    row_to: int
    rows_sha256: str


@dataclass(frozen=True, kw_only=True)
class HeldOutRows:
    """The list. `notes` names what cannot be judged and why; without sources, nothing can."""

    gatherer: Gatherer
    segments: Segments
    n_rows: int
    sources: tuple[HeldOutSource, ...]
    notes: tuple[str, ...]
    byte_lengths: np.ndarray  # int64 by id, 0 for specials

    def rows(self, row_from: int, row_to: int, *, n_rows: int) -> Rows:
        """Rows [row_from, row_to), filled up to `n_rows` with padding: every micro-batch has the same shape."""
        first, last = np.searchsorted(self.segments.row, [row_from, row_to])
        return self.gatherer.gather(self.segments[slice(first, last)], row_from, n_rows)

    def byte_counts(self, rows: Rows) -> np.ndarray:
        """Bytes of text of each target that counts, int64[R, T]; 0 for specials."""
        return np.where(rows.targets_RT == UNCOUNTED, 0, self.byte_lengths[rows.targets_RT])

    def summary(self, every: int) -> str:
        """What a run's header says about it."""
        counts = [f"{held.row_to - held.row_from} of {held.source}" for held in self.sources]
        judged = f"every {every:,} steps and at the end by held-out rows: {', '.join(counts)}"
        return "; ".join([judged if self.sources else "validation is off", *self.notes])


def open_held_out(paths: Paths, recipe: Recipe, vocab: Vocab, n_rows: int) -> HeldOutRows:
    """Choose and check `n_rows` rows of each of the recipe's sources. Raises DataError naming a damaged shard."""
    shards, parts, sources, notes = [], [_choose([], recipe, n_rows)], [], []
    row_from = 0
    for source in recipe.source_names:
        held, refused = _held_out_shards(paths, recipe, vocab, source)
        notes += refused
        if not held:
            notes.append(f"no held-out shard of {source}")
            continue
        part = _choose(held, recipe, n_rows)
        row_to = row_from + int(part.row[-1]) + 1
        rows_sha256 = hash_rows(part, tuple(held))
        sources.append(HeldOutSource(source=source, row_from=row_from, row_to=row_to, rows_sha256=rows_sha256))
        parts.append(replace(part, row=part.row + row_from, shard=part.shard + len(shards)))
        shards, row_from = shards + held, row_to
    opened = HeldOutRows(
        gatherer=Gatherer(paths, recipe, tuple(shards)),
        segments=merge(parts),
        n_rows=row_from,
        sources=tuple(sources),
        notes=tuple(notes),
        byte_lengths=vocab.byte_lengths,
    )
    return _checked(opened)


def _held_out_shards(paths: Paths, recipe: Recipe, vocab: Vocab, source: str) -> tuple[list[RecipeShard], list[str]]:
    """The source's held-out shards, by name; and a note for each that the plan may draw from all the same."""
    planned = {shard.shard for shard in recipe.shards if shard.source == source}
    held, notes = [], []
    for receipt in map(read_receipt, find_receipts(paths, recipe.tokenizer, source)):
        if receipt.split != "holdout" or not receipt.tokens:
            continue
        check_tokenizer(receipt, vocab)
        if receipt.shard in planned:  # it was pinned after packing: weights that saw it cannot be judged by it
            notes.append(f"{receipt.shard} of {source} is held out by now, but in the plan")
            continue
        mask = receipt.loss.sha256 if receipt.loss and recipe.loss == "assistant" else None
        shard = RecipeShard(
            source=source,
            shard=receipt.shard,
            tokens=receipt.tokens,
            bin_sha256=receipt.bin.sha256,
            loss_sha256=mask,
        )
        held.append(shard)
    return held, notes


def _choose(shards: Sequence[RecipeShard], recipe: Recipe, n_rows: int) -> Segments:
    """`n_rows` rows of the shards' stream, evenly spread, or all where there are fewer; numbered from 0."""
    tokens = np.array([shard.tokens for shard in shards], dtype=np.int64)
    stream = whole_shards(np.arange(len(shards), dtype=np.int32), tokens)
    n_held = count_rows(stream, recipe.seq_len)
    numbers = np.arange(min(n_rows, n_held))
    return place(cut_rows(stream, recipe.seq_len), numbers * n_held // max(1, len(numbers)), numbers)


def _checked(opened: HeldOutRows) -> HeldOutRows:
    """Read every row once: damage is told before training, and a source in whose rows no text counts is left out."""
    n_bytes = np.zeros(opened.n_rows, dtype=np.int64)
    for row_from in range(0, opened.n_rows, _CHECKED_ROWS):
        row_to = min(row_from + _CHECKED_ROWS, opened.n_rows)
        rows = opened.rows(row_from, row_to, n_rows=row_to - row_from)
        n_bytes[row_from:row_to] = opened.byte_counts(rows).sum(axis=1)
    silent = [held for held in opened.sources if not n_bytes[held.row_from : held.row_to].any()]
    notes = [f"no target counts in the held-out rows of {held.source}" for held in silent]
    judged = tuple(held for held in opened.sources if held not in silent)
    return replace(opened, sources=judged, notes=(*opened.notes, *notes))
