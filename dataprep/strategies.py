"""Strategies: documents put into rows of exactly `seq_len` targets, by index only.

In:  documents as pieces, in drawn order. Out: segments of rows 0, 1, … and what was cut away.
Holds: every token is in exactly one segment, or counted as truncated; in a row documents stay in
drawn order.

Documents of 5, 4 and 1 tokens, rows of 3 (row: document/start+length):
    concat    0: a/0+3   1: a/3+2 b/0+1   2: b/1+3   3: c/0+1
    best-fit  0: a/0+3   1: b/0+3   2: a/3+2 b/3+1   3: c/0+1
    pad       0: a/0+3   1: a/3+2   2: b/0+3   3: b/3+1   4: c/0+1
"""

from dataclasses import dataclass

import numpy as np

from dataprep.best_fit import best_fit
from dataprep.packing import Pieces, Segments, count_rows, cut_rows

STRATEGIES = ("concat", "best-fit", "pad")
LONGS = ("split", "truncate")  # what happens to a document longer than a row


@dataclass(frozen=True, kw_only=True)
class Filled:
    """What a strategy made of documents."""

    segments: Segments  # rows numbered 0..n_rows-1
    n_rows: int
    truncated_tokens: int  # dropped by long="truncate"
    last_is_short: bool  # for `draw_order`: concat's last row waits; the rows of the others have no order


def fill_rows(pieces: Pieces, seq_len: int, *, strategy: str, long: str) -> Filled:
    """Put documents, one piece each in drawn order, into rows of `seq_len` targets.

    concat cuts their stream wherever a row ends (`long` says nothing there); best-fit keeps whole
    what fits a row; pad gives each document rows of its own.
    """
    assert strategy in STRATEGIES, strategy
    assert long in LONGS, long
    if strategy == "concat":
        short = bool(pieces.length.sum() % seq_len)
        segments, n_rows = cut_rows(pieces, seq_len), count_rows(pieces, seq_len)
        return Filled(segments=segments, n_rows=n_rows, truncated_tokens=0, last_is_short=short)
    fitting = split_long(pieces, seq_len) if long == "split" else truncate_long(pieces, seq_len)
    own_rows = np.arange(len(fitting.length), dtype=np.int64), len(fitting.length)
    row, n_rows = best_fit(fitting.length, seq_len) if strategy == "best-fit" else own_rows
    truncated = int(pieces.length.sum() - fitting.length.sum())
    segments = _by_row(fitting, row)
    return Filled(segments=segments, n_rows=n_rows, truncated_tokens=truncated, last_is_short=False)


def split_long(pieces: Pieces, seq_len: int) -> Pieces:
    """Pieces longer than a row cut into full rows and a remainder, in place."""
    parts = -(-pieces.length // seq_len)
    if parts.max(initial=1) == 1:
        return pieces
    whole = pieces[np.repeat(np.arange(len(parts)), parts)]
    before = seq_len * (np.arange(len(whole.length)) - np.repeat(np.cumsum(parts) - parts, parts))
    return Pieces(shard=whole.shard, start=whole.start + before, length=np.minimum(whole.length - before, seq_len))


def truncate_long(pieces: Pieces, seq_len: int) -> Pieces:
    """Each piece up to the length of a row."""
    return Pieces(shard=pieces.shard, start=pieces.start, length=np.minimum(pieces.length, seq_len))


def _by_row(pieces: Pieces, row: np.ndarray) -> Segments:
    # Drawn order inside a row: longest first would teach that rows end in short documents.
    order = np.argsort(row, kind="stable")
    inside = pieces[order]
    return Segments(row=row[order], shard=inside.shard, start=inside.start, length=inside.length.astype(np.int32))
