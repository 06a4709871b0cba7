"""Intervals: what runs of tokens cover, count and leave, however they lie and overlap.

In:  segments or pieces, in any order. Out: exact counts, and pieces with what was seen taken out.
Holds: memory grows with the number of runs, never with the number of tokens.

Runs 0+4 and 2+4 of one shard cover 6 tokens, the most repeated ones twice; a piece 0+9 less both is 6+3.
"""

from collections.abc import Callable

import numpy as np

from dataprep.packing import Pieces, Segments

_BLOCK = 1 << 22  # tokens of a loss mask summed at once: 16 MiB of running counts


def covered_tokens(segments: Segments, n_shards: int) -> np.ndarray:
    """Tokens of each shard that are in at least one segment: int64[n_shards]."""
    span = _span(segments)
    start, stop = _bounds(segments, span)
    order = np.argsort(start, kind="stable")
    start, stop = start[order], stop[order]
    reached = np.maximum.accumulate(np.append(0, stop[:-1]))[: len(stop)]
    fresh = np.maximum(stop - np.maximum(start, reached), 0)
    before = np.append(0, np.cumsum(fresh))
    return np.diff(before[np.searchsorted(start, np.arange(n_shards + 1) * span)])


def max_cover(segments: Segments) -> int:
    """How often the most repeated token occurs; 0 where there is none."""
    start, stop = map(np.sort, _bounds(segments, _span(segments)))
    begun = np.arange(1, len(start) + 1)
    return int((begun - np.searchsorted(stop, start, side="right")).max(initial=0))


def subtract(pieces: Pieces, seen: Pieces) -> Pieces:
    """The pieces without the tokens in `seen`: what is left of each, in order, as zero or more pieces."""
    span = max(_span(pieces), _span(seen))
    seen_start, seen_stop = _union(*_bounds(seen, span))
    start, stop = _bounds(pieces, span)
    # A piece that meets n seen runs falls into n + 1 parts, some of them empty.
    met = np.searchsorted(seen_stop, start, side="right")
    n_parts = np.searchsorted(seen_start, stop, side="left") - met + 1
    last = np.cumsum(n_parts) - 1
    piece = np.repeat(np.arange(len(start)), n_parts)
    run = np.repeat(met - (last + 1 - n_parts), n_parts) + np.arange(len(piece))  # the seen run after each part

    part_start, part_stop = np.append(0, seen_stop)[run], np.append(seen_start, 0)[run]
    part_start[last + 1 - n_parts] = start
    part_stop[last] = stop
    length = part_stop - part_start
    held = length > 0
    shard = pieces.shard[piece[held]]
    return Pieces(shard=shard, start=part_start[held] - shard.astype(np.int64) * span, length=length[held])


def union(runs: Pieces | Segments) -> Pieces:
    """The same tokens, each once: runs that touch nowhere, ascending by shard and start."""
    span = _span(runs)
    start, stop = _union(*_bounds(runs, span))
    shard = (start // span).astype(np.int32)
    return Pieces(shard=shard, start=start - shard.astype(np.int64) * span, length=stop - start)


def loss_counts(segments: Segments, loss_by_shard: Callable[[int], np.ndarray | None]) -> np.ndarray:
    """Loss tokens of each segment: int64[len(segments)].

    `loss_by_shard` gives a shard's mask (uint8, 1 = counts), or None where every token counts.
    """
    counts = segments.length.astype(np.int64)
    by_shard = np.argsort(segments.shard, kind="stable")
    shards, first = np.unique(segments.shard[by_shard], return_index=True)
    for shard, mine in zip(shards.tolist(), np.split(by_shard, first[1:]), strict=False):
        mask = loss_by_shard(shard)
        if mask is not None:
            start = segments.start[mine]
            bounds, place = np.unique(np.concatenate((start, start + counts[mine])), return_inverse=True)
            before = _ones_before(mask, bounds)[place]
            counts[mine] = before[len(mine) :] - before[: len(mine)]
    return counts


def _ones_before(mask: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """Ones in mask[bounds[0]:bound] for each of the ascending bounds: int64. Each token is read once."""
    assert bounds[-1] <= len(mask), f"a segment ends at token {bounds[-1]} of a mask of {len(mask)}"
    ones = np.zeros(len(bounds), dtype=np.int64)
    total = 0
    for begin in range(int(bounds[0]), int(bounds[-1]), _BLOCK):
        running = np.cumsum(mask[begin : begin + _BLOCK], dtype=np.int32)
        mine = slice(*np.searchsorted(bounds, (begin, begin + _BLOCK), side="right"))
        ones[mine] = total + running[bounds[mine] - begin - 1]
        total += int(running[-1])
    return ones


# All shards on one line, `span` apart: one sort then serves every shard.


def _span(runs: Pieces | Segments) -> int:
    return int((runs.start + runs.length).max(initial=0)) + 1


def _bounds(runs: Pieces | Segments, span: int) -> tuple[np.ndarray, np.ndarray]:
    start = runs.shard.astype(np.int64) * span + runs.start
    return start, start + runs.length


def _union(start: np.ndarray, stop: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Overlapping and touching runs as one, ascending."""
    order = np.argsort(start, kind="stable")
    start, reached = start[order], np.maximum.accumulate(stop[order])
    opens = np.append(True, start[1:] > reached[:-1])[: len(start)]
    return start[opens], reached[np.append(opens[1:], True)[: len(start)]]
