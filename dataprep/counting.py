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


def count_part(
    part: Segments, texts: Sequence[ShardText], request: Request, seen: Pieces, *, times: np.ndarray | None = None
) -> dict[str, int]:
    """Counts of RecipeSource that the plan itself can tell; repeats count each time, `unique_tokens` once.

    `seen` is what was excluded as seen, each token once: what a cut dropped ends where that begins. `times` says how
    often each row of `part` is in the plan; without it, `part` is the plan's own segments, once each.
    """
    plan_rows = int(times.sum()) if times is not None else len(np.unique(part.row))
    counts = dict.fromkeys(("tokens", "unique_tokens", "loss_tokens", "documents", "split_documents"), 0)
    counts |= {"passes": 1, "dropped_tokens": 0}
    for shard, here in packing.by_shard(part.shard):
        mine = part[here]
        if times is not None:
            mine = _repeated(mine, times[mine.row])
        text = texts[shard]
        ended, split = packing.count_documents(mine, text.ends)
        loss = intervals.loss_counts(mine, lambda i: texts[i].loss) if request.loss == "assistant" else mine.length
        counts["tokens"] += int(mine.length.sum(dtype=np.int64))
        counts["unique_tokens"] += int(intervals.union(mine).length.sum())
        counts["loss_tokens"] += int(loss.sum(dtype=np.int64))
        counts["documents"] += ended
        counts["split_documents"] += split
        counts["passes"] = max(counts["passes"], intervals.max_cover(mine))
        if request.long == "truncate" and request.strategy != "concat":
            counts["dropped_tokens"] += _cut_off(mine, text.ends, seen.start[seen.shard == shard])
    return {"plan_rows": plan_rows, **counts, "pad_tokens": plan_rows * request.seq_len - counts["tokens"]}


def _repeated(segments: Segments, times: np.ndarray) -> Segments:
    if (times == 1).all():
        return segments
    return segments[np.repeat(np.arange(len(segments)), times)]


def _cut_off(mine: Segments, ends: np.ndarray, seen_starts: np.ndarray) -> int:
    """Tokens of one shard behind the cut of the truncated pieces that are in the plan, each once."""
    stops = np.unique(mine.start + mine.length)
    stoppers = np.union1d(ends.astype(np.int64), seen_starts)
    return int((stoppers[np.searchsorted(stoppers, stops)] - stops).sum())
