"""Counting: what one source's part of a plan holds, counted from its segments.

In:  segments of one source, and its shards' document ends and loss masks. Out: counts by name.
Holds: `pack` states these counts and `verify` makes them again from the published plan; both are
held to brute force by tests/property/test_plans.py.
"""

from collections.abc import Sequence

import numpy as np

from dataprep import intervals, packing
from dataprep.packing import Pieces, Segments
from dataprep.request import Request
from dataprep.rows import ShardText


def count_part(part: Segments, texts: Sequence[ShardText], request: Request, seen: Pieces) -> dict[str, int]:
    """Counts of RecipeSource that the plan itself can tell; repeats count each time, `unique_tokens` once.

    `seen` is what was excluded as seen, each token once: what a cut dropped ends where that begins.
    """
    plan_rows, tokens = len(np.unique(part.row)), int(part.length.sum(dtype=np.int64))
    documents = [packing.count_documents(part[part.shard == i], texts[i].ends) for i in np.unique(part.shard).tolist()]
    masked = request.loss == "assistant"
    loss = intervals.loss_counts(part, lambda i: texts[i].loss) if masked else part.length
    truncated = request.long == "truncate" and request.strategy != "concat"
    return {
        "plan_rows": plan_rows,
        "tokens": tokens,
        "unique_tokens": int(intervals.covered_tokens(part, len(texts)).sum()),
        "loss_tokens": int(loss.sum(dtype=np.int64)),
        "pad_tokens": plan_rows * request.seq_len - tokens,
        "documents": sum(ended for ended, _ in documents),
        "split_documents": sum(split for _, split in documents),
        "passes": max(1, intervals.max_cover(part)),
        "dropped_tokens": _cut_off(part, texts, seen) if truncated else 0,
    }


def _cut_off(part: Segments, texts: Sequence[ShardText], seen: Pieces) -> int:
    """Tokens behind the cut of the truncated pieces that are in the plan, each once."""
    dropped = 0
    for shard in np.unique(part.shard).tolist():
        stops = np.unique((part.start + part.length)[part.shard == shard])
        ends = np.union1d(texts[shard].ends.astype(np.int64), seen.start[seen.shard == shard])
        dropped += int((ends[np.searchsorted(ends, stops)] - stops).sum())
    return dropped
