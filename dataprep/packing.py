"""Packing: token streams cut into rows of exactly `seq_len` targets, by index only.

In:  pieces (runs of tokens of one shard) in stream order. Out: segments, each inside one row.
Holds: every token of the pieces is in exactly one segment; only a stream's last row may be short.

Pieces of 5 and 4 tokens, rows of 3 (row: piece/start+length):
    stream  a a a a a b b b b
    rows    0: a/0+3   1: a/3+2 b/0+1   2: b/1+3
"""

import hashlib
from dataclasses import dataclass

import numpy as np

PACKER_VERSION = 1  # part of a recipe's hash: raise it when the same inputs would give other rows
_GOLDEN = 0x9E3779B97F4A7C15


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
    piece = np.repeat(np.arange(len(n_segments)), n_segments)
    row = np.repeat(first_row - np.cumsum(n_segments) + n_segments, n_segments) + np.arange(len(piece))
    begins = np.maximum(row * seq_len, piece_starts[piece])
    ends = np.minimum((row + 1) * seq_len, piece_ends[piece])
    return Segments(
        row=row,
        shard=pieces.shard[piece],
        start=pieces.start[piece] + begins - piece_starts[piece],
        length=(ends - begins).astype(np.int32),
    )


def shuffled(n: int, seed: int, purpose: str) -> np.ndarray:
    """A permutation of range(n), the same on every machine and numpy: int64[n].

    Positions are sorted by splitmix64 (Steele, Lea, Flood 2014) of their index; `purpose` names the
    stream, so that two sources shuffled with one seed are not shuffled alike.
    """
    digest = hashlib.sha256(f"{seed}:{purpose}".encode()).digest()
    z = np.arange(1, n + 1, dtype=np.uint64) * np.uint64(_GOLDEN) + np.frombuffer(digest, dtype="<u8")[0]
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.argsort(z ^ (z >> np.uint64(31)), kind="stable")


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
    return np.concatenate([np.empty(0, dtype=np.int64), *passes])[:n_wanted]


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
    ends = np.unique(ends.astype(np.int64))  # empty documents repeat the end before them
    ends = ends[ends > 0]
    stop = segments.start + segments.length
    ended = np.searchsorted(ends, stop, side="right") - np.searchsorted(ends, segments.start, side="right")
    inner = np.concatenate((segments.start, stop))
    inner = inner[(inner > 0) & ~np.isin(inner, ends)]
    return int(ended.sum()), len(np.unique(np.searchsorted(ends, inner, side="right")))
