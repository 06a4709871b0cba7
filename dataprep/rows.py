"""Rows: one source's documents filled into rows, and what each row gives.

In:  a supply, the strategy, the loss policy. Out: segments by row; tokens, loss tokens, documents per row.
Holds: what cannot be in the plan (tokens seen by a run that is excluded; under `assistant`, pieces and rows
without a loss target) is taken out and counted before anything is drawn; nothing is lost without a number.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from dataprep import intervals, packing
from dataprep.packing import Pieces, Segments
from dataprep.request import Request
from dataprep.strategies import fill_rows
from dataprep.supply import Supply


@dataclass(frozen=True, kw_only=True)
class ShardText:
    """What the planner reads of one shard: its document ends, and its loss mask where it has one."""

    tokens: int
    ends: np.ndarray  # uint64[documents]
    loss: np.ndarray | None  # uint8[tokens]


@dataclass(frozen=True, kw_only=True)
class SourceRows:
    """Every row that one source can give; rows are numbered from 0. What rows hold is counted when it is asked for."""

    supply: Supply
    segments: Segments
    last_is_short: bool  # concat: the one row with padding is drawn after all others
    excluded_tokens: int  # with the seen ones
    seen_tokens: int
    n_rows: int
    texts: Sequence[ShardText]  # of every source
    masked: bool  # only what the assistant said counts

    def units(self, unit: str) -> np.ndarray:
        """What each row counts in `unit`: int64[n_rows]."""
        if unit == "documents":
            return self._documents
        return self._loss_tokens if unit == "loss-tokens" and self.masked else self._tokens

    @cached_property
    def _tokens(self) -> np.ndarray:
        return _by_row(self.segments, self.segments.length, self.n_rows)

    @cached_property
    def _loss_tokens(self) -> np.ndarray:
        return _by_row(self.segments, _loss(self.segments, self.texts), self.n_rows)

    @cached_property
    def _documents(self) -> np.ndarray:
        """Documents that end in each row."""
        return _by_row(self.segments, documents_ended(self.segments, self.texts), self.n_rows)


def fill_source(
    supply: Supply, numbers: Sequence[int], texts: Sequence[ShardText], request: Request, seen: Pieces
) -> SourceRows:
    """Fill one source's rows. `numbers` are its shards' places in `texts`; `texts` and `seen` are of every source.

    `seen` names each token once.
    """
    pieces, excluded_tokens = _pieces(supply, numbers, texts, request, seen)
    seen_tokens = int(seen.length[np.isin(seen.shard, numbers)].sum())
    excluded_tokens += seen_tokens
    filled = fill_rows(pieces, request.seq_len, strategy=request.strategy, long=request.long)
    segments, n_rows = filled.segments, filled.n_rows
    masked = request.loss == "assistant"
    if masked:
        kept = _by_row(segments, _loss(segments, texts), n_rows) > 0
        excluded_tokens += int(_by_row(segments, segments.length, n_rows)[~kept].sum())
        if not kept.all():
            segments, n_rows = _keep_rows(segments, kept), int(kept.sum())
    return SourceRows(
        supply=supply,
        segments=segments,
        last_is_short=filled.last_is_short and n_rows == filled.n_rows,
        excluded_tokens=excluded_tokens,
        seen_tokens=seen_tokens,
        n_rows=n_rows,
        texts=texts,
        masked=masked,
    )


def _pieces(
    supply: Supply, numbers: Sequence[int], texts: Sequence[ShardText], request: Request, seen: Pieces
) -> tuple[Pieces, int]:
    """What is filled into rows, in drawn order, and the unseen tokens that may not be in the plan all the same.

    What is left of a document that was seen in part is a piece like any other.
    """
    if request.strategy == "concat" and request.shuffle == "rows" and request.loss == "all":
        index = np.array(numbers, dtype=np.int32)
        shards = packing.whole_shards(index, np.array([texts[i].tokens for i in numbers], dtype=np.int64))
        return intervals.subtract(shards, seen), 0
    documents = packing.join([packing.documents_of(i, texts[i].ends) for i in numbers])
    documents = intervals.subtract(documents, seen)
    excluded_tokens = 0
    if request.loss == "assistant":
        supervised = _loss(_as_segments(documents), texts) > 0
        excluded_tokens = int(documents.length[~supervised].sum())
        documents = documents[supervised]
    if request.strategy != "concat" or request.shuffle == "documents":
        documents = documents[packing.shuffled(len(documents.length), request.seed, f"documents of {supply.source}")]
    return documents, excluded_tokens


def _loss(segments: Segments, texts: Sequence[ShardText]) -> np.ndarray:
    return intervals.loss_counts(segments, lambda shard: texts[shard].loss)


def _as_segments(pieces: Pieces) -> Segments:
    return Segments(row=np.arange(len(pieces.length)), shard=pieces.shard, start=pieces.start, length=pieces.length)


def _keep_rows(segments: Segments, kept: np.ndarray) -> Segments:
    """The rows that `kept` marks, numbered anew."""
    number = np.cumsum(kept) - 1
    chosen = segments[kept[segments.row]]
    return Segments(row=number[chosen.row], shard=chosen.shard, start=chosen.start, length=chosen.length)


def _by_row(segments: Segments, counts: np.ndarray, n_rows: int) -> np.ndarray:
    """Per-segment counts added up by row: int64[n_rows]. Exact: a row's sum is far below 2**53."""
    return np.bincount(segments.row, weights=counts, minlength=n_rows).astype(np.int64)


def documents_ended(segments: Segments, texts: Sequence[ShardText]) -> np.ndarray:
    """Documents whose last token is in each segment: int64[n]."""
    ended = np.zeros(len(segments), dtype=np.int64)
    for shard, lines in packing.by_shard(segments.shard):
        ends = packing.distinct_ends(texts[shard].ends)
        start, length = segments.start[lines], segments.length[lines]
        last = np.searchsorted(ends, start + length, side="right")
        ended[lines] = last - np.searchsorted(ends, start, side="right")
    return ended
