"""Packing: token streams cut into rows of exactly `seq_len` targets, by index only.

In:  pieces (runs of tokens of one shard) in stream order. Out: segments, each inside one row.
Holds: every token of the pieces is in exactly one segment; only a stream's last row may be short.

Pieces of 5 and 4 tokens, rows of 3 (row: piece/start+length):
    stream  a a a a a b b b b
    rows    0: a/0+3   1: a/3+2 b/0+1   2: b/1+3
"""

import hashlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

PACKER_VERSION = 1  # part of a recipe's hash: raise it when the same inputs would give other rows
_GOLDEN = 0x9E3779B97F4A7C15
_BLOCK = 1 << 20  # segments cut at once


@dataclass(frozen=True, kw_only=True)
class Pieces:
    """Runs of tokens in stream order: tokens [start, start + length) of shard number `shard`."""

    shard: np.ndarray  # int32[n]
    start: np.ndarray  # int64[n]
    length: np.ndarray  # int64[n], each at least 1

    def __getitem__(self, order: np.ndarray) -> "Pieces":
        return Pieces(shard=self.shard[order], start=self.start[order], length=self.length[order])


@dataclass(frozen=True, kw_only=True)
class Segments:
    """Runs of tokens inside rows, ascending by row and in order within a row."""

    row: np.ndarray  # int64[n]
    shard: np.ndarray  # int32[n], an index into the recipe's list of shards
    start: np.ndarray  # int64[n]
    length: np.ndarray  # int32[n]

    def __len__(self) -> int:
        return len(self.row)

    def __getitem__(self, chosen: np.ndarray | slice) -> "Segments":
        return Segments(
            row=self.row[chosen], shard=self.shard[chosen], start=self.start[chosen], length=self.length[chosen]
        )


def no_pieces() -> Pieces:
    """Nothing at all."""
    return Pieces(shard=np.empty(0, np.int32), start=np.empty(0, np.int64), length=np.empty(0, np.int64))


def whole_shards(shard: np.ndarray, tokens: np.ndarray) -> Pieces:
    """Each shard as one piece, empty shards left out."""
    held = tokens > 0
    return Pieces(shard=shard[held], start=np.zeros(held.sum(), dtype=np.int64), length=tokens[held])


def documents_of(shard: int, ends: np.ndarray) -> Pieces:
    """Each non-empty document of one shard as one piece; `ends` as in the bin's .docs file."""
    bounds = np.concatenate(([0], ends.astype(np.int64)))
    length = np.diff(bounds)
    held = length > 0
    return Pieces(shard=np.full(held.sum(), shard, dtype=np.int32), start=bounds[:-1][held], length=length[held])


def join(parts: list[Pieces]) -> Pieces:
    """Several lists of pieces as one, in order."""
    return Pieces(
        shard=np.concatenate([part.shard for part in parts]),
        start=np.concatenate([part.start for part in parts]),
        length=np.concatenate([part.length for part in parts]),
    )


def count_rows(pieces: Pieces, seq_len: int) -> int:
    """Rows the pieces fill; the last one may be short."""
    return -(-int(pieces.length.sum()) // seq_len)


def cut_rows(pieces: Pieces, seq_len: int) -> Segments:
    """Cut the stream of pieces into rows of `seq_len` targets, numbered from 0 in stream order."""
    piece_ends = np.cumsum(pieces.length)
    piece_starts = piece_ends - pieces.length
    # A piece has a segment in every row from the one it begins in to the one it ends in.
    first_row = piece_starts // seq_len
    n_segments = (piece_ends - 1) // seq_len - first_row + 1
    after = np.cumsum(n_segments)
    n = int(after[-1]) if len(after) else 0
    cut = Segments(
        row=np.empty(n, np.int64),
        shard=np.empty(n, np.int32),
        start=np.empty(n, np.int64),
        length=np.empty(n, np.int32),
    )
    # Some pieces at a time: what is needed on the way to 50 million segments is more than they are.
    begun = np.searchsorted(after, np.arange(0, n, _BLOCK), side="right")
    for first, last in itertools.pairwise(np.unique(np.append(begun, len(after))).tolist()):
        here = slice(int(after[first] - n_segments[first]), int(after[last - 1]))
        piece = np.repeat(np.arange(first, last), n_segments[first:last])
        row = np.repeat(first_row[first:last] - after[first:last] + n_segments[first:last], n_segments[first:last])
        row += np.arange(here.start, here.stop)
        begins = np.maximum(row * seq_len, piece_starts[piece])
        cut.row[here], cut.shard[here] = row, pieces.shard[piece]
        cut.start[here] = pieces.start[piece] + begins - piece_starts[piece]
        cut.length[here] = np.minimum((row + 1) * seq_len, piece_ends[piece]) - begins
    return cut


def shuffled(n: int, seed: int, purpose: str) -> np.ndarray:
    """A permutation of range(n), the same on every machine and numpy: int64[n].

    Positions are sorted by splitmix64 (Steele, Lea, Flood 2014) of their index; `purpose` names the
    stream, so that two sources shuffled with one seed are not shuffled alike.
    """
    digest = hashlib.sha256(f"{seed}:{purpose}".encode()).digest()
    z = np.arange(1, n + 1, dtype=np.uint64)  # in place from here: n may be 50 million
    z *= np.uint64(_GOLDEN)
    z += np.frombuffer(digest, dtype="<u8")[0]
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1)):
        z ^= z >> np.uint64(shift)
        z *= np.uint64(factor)
    return np.argsort(z, kind="stable")


def draw_order(n_rows: int, *, last_is_short: bool, seed: int, purpose: str) -> np.ndarray:
    """The order in which a source's rows are drawn: shuffled, a short last row kept for the very end."""
    if last_is_short:
        return np.append(shuffled(n_rows - 1, seed, purpose), n_rows - 1)
    return shuffled(n_rows, seed, purpose)


def repeat_order(n_rows: int, n_wanted: int, *, last_is_short: bool, seed: int, purpose: str) -> np.ndarray:
    """Rows drawn in whole passes over a source, each in an order of its own: int64[n_wanted].

    The first pass is `draw_order`'s, so a plan of one pass does not know that there could be more.
    """
    assert n_rows > 0 or n_wanted == 0, "no row to repeat"
    passes = [
        draw_order(n_rows, last_is_short=last_is_short, seed=seed, purpose=f"{purpose} pass {p}" if p else purpose)
        for p in range(-(-n_wanted // max(n_rows, 1)))
    ]
    return passes[0][:n_wanted] if len(passes) == 1 else np.concatenate([np.empty(0, np.int64), *passes])[:n_wanted]


def place(segments: Segments, drawn: np.ndarray, plan_rows: np.ndarray) -> Segments:
    """Send source row `drawn[j]` to plan row `plan_rows[j]`; rows not drawn are left over.

    A row drawn twice is placed twice. The result is in the order of `plan_rows`: `merge` sorts once
    for all sources.
    """
    n_of_row = np.bincount(segments.row)
    drawn = drawn[: len(plan_rows)]
    n, first = n_of_row[drawn], (np.cumsum(n_of_row) - n_of_row)[drawn]
    # Every drawn row's segments, one after another: first, first + 1, ….
    chosen = segments[np.repeat(first - np.cumsum(n) + n, n) + np.arange(n.sum())]
    return Segments(row=np.repeat(plan_rows, n), shard=chosen.shard, start=chosen.start, length=chosen.length)


def merge(parts: list[Segments]) -> Segments:
    """All sources' placed segments as one plan, ascending by row."""
    together = Segments(
        row=np.concatenate([part.row for part in parts]),
        shard=np.concatenate([part.shard for part in parts]),
        start=np.concatenate([part.start for part in parts]),
        length=np.concatenate([part.length for part in parts]),
    )
    return together[np.argsort(together.row, kind="stable")]


def count_documents(segments: Segments, ends: np.ndarray) -> tuple[int, int]:
    """Documents of one shard that end inside `segments`, and those that a segment's edge splits."""
    ends = np.append(0, distinct_ends(ends))
    # Documents that ended at or before each edge; an edge that is no end is inside the next one.
    edges = segments.start, segments.start + segments.length
    before, after = (np.searchsorted(ends, edge, side="right") - 1 for edge in edges)
    split = np.zeros(len(ends), dtype=bool)
    for edge, ended in zip(edges, (before, after), strict=True):
        split[ended[ends[ended] != edge]] = True
    return int((after - before).sum()), int(split.sum())


def distinct_ends(ends: np.ndarray) -> np.ndarray:
    """Ends of the documents that have tokens: int64, ascending. An empty document repeats the end before it."""
    ends = ends.astype(np.int64)
    return ends[np.diff(ends, prepend=0) > 0]


def by_shard(shard: np.ndarray) -> Iterator[tuple[int, np.ndarray | slice]]:
    """Each shard number there is, ascending, with where it stands in `shard`, in order."""
    if not len(shard):
        return
    if (shard[1:] >= shard[:-1]).all():
        bounds = [0, *(np.flatnonzero(np.diff(shard)) + 1).tolist(), len(shard)]
        yield from ((int(shard[a]), slice(a, b)) for a, b in itertools.pairwise(bounds))
        return
    # Sixteen bits sort by radix.
    order = np.argsort(shard.astype(np.min_scalar_type(int(shard.max()))), kind="stable")
    for number, here in by_shard(shard[order]):
        yield number, order[here]
