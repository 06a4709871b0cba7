"""Foreign documents: a stream of tokens cut anew, so that every document with text ends with one end token.

In:  the stream block by block, perhaps its loss mask, and where documents end, if an index says it.
Out: blocks of tokens, cumulative document ends and loss, as a bin has them; counts of what was changed.
Holds: no token of text is lost or moved; memory is one block; how the stream is cut into blocks changes nothing.

    [A, B, end, end, C]   A B end | (nothing: a lone end token is an empty document) | C end (added)
"""

from dataclasses import dataclass

import numpy as np

from dataprep.bins import LOSS, TOKEN


@dataclass(frozen=True, kw_only=True)
class Recut:
    """`tokens` uint16 to write, `ends` int64 cumulative in the whole bin, `loss` uint8 or None."""

    tokens: np.ndarray
    ends: np.ndarray
    loss: np.ndarray | None


class Recutter:
    """Feed `cut` with blocks in order, then `close`. Documents end behind end tokens, and where `index` says."""

    def __init__(self, end_id: int, *, index: np.ndarray | None = None) -> None:
        self._end_id, self._index = end_id, index
        self._place = self._opened = 0  # in the stream: where the next block begins, where its first document began
        self._closed_at = self._learned_at = 0  # tokens and loss of the documents that are finished
        self.tokens = self.loss_tokens = 0
        self.documents = self.empty_documents = self.unsupervised_documents = 0
        self.end_tokens = self.seen_ends = self.lone_ends = self.added_ends = 0

    def cut(self, tokens: np.ndarray, loss: np.ndarray | None = None) -> Recut:
        """The next block, uint16[n], with its mask uint8[n] where there is one."""
        behind_ends = np.flatnonzero(tokens == self._end_id) + 1 + self._place
        stops = self._stops(behind_ends, self._place + len(tokens))
        recut = self._recut(tokens, loss, stops, behind_ends)
        self._place += len(tokens)
        self.seen_ends += len(behind_ends)
        return recut

    def close(self, *, masked: bool, begun: bool = False) -> Recut:
        """The end of the stream: what is open is a document, and where `begun`, one without text as well."""
        stops = [self._place] if begun or self._opened < self._place else []
        nothing = np.empty(0, dtype=TOKEN)
        mask = np.empty(0, dtype=LOSS) if masked else None
        return self._recut(nothing, mask, np.array(stops, dtype=np.int64), np.empty(0, dtype=np.int64))

    def _stops(self, behind_ends: np.ndarray, block_stop: int) -> np.ndarray:
        """Where documents end in this block, ascending; a repeated place is an empty document."""
        if self._index is None:
            return behind_ends
        n_here = np.searchsorted(self._index, block_stop, side="right")
        given, self._index = self._index[:n_here], self._index[n_here:]
        repeated = given[1:][given[1:] == given[:-1]]
        return np.sort(np.concatenate([np.union1d(behind_ends, given), repeated]))

    def _recut(self, tokens: np.ndarray, loss: np.ndarray | None, stops: np.ndarray, behind_ends: np.ndarray) -> Recut:
        lengths = np.diff(stops, prepend=self._opened)
        closed = (lengths > 0) & np.isin(stops, behind_ends)
        has_text = lengths > closed
        lone, open_ = stops[closed & ~has_text] - 1 - self._place, stops[has_text & ~closed] - self._place
        tokens = _edit(tokens, lone, open_, self._end_id)
        loss = None if loss is None else _edit(loss, lone, open_, 0)  # the end token is nobody's words
        ends = self._closed_at + np.cumsum(np.where(has_text, lengths - closed + 1, 0))
        self._count_learned(tokens, loss, ends, has_text)
        self.documents += len(stops)
        self.empty_documents += int(np.count_nonzero(~has_text))
        self.end_tokens += int(np.count_nonzero(has_text))
        self.lone_ends += len(lone)
        self.added_ends += len(open_)
        self.tokens += len(tokens)
        if len(stops):
            self._opened, self._closed_at = int(stops[-1]), int(ends[-1])
        return Recut(tokens=tokens, ends=ends, loss=loss)

    def _count_learned(
        self, tokens: np.ndarray, loss: np.ndarray | None, ends: np.ndarray, has_text: np.ndarray
    ) -> None:
        """Loss tokens, and documents with text that have none. Without a mask every token counts."""
        if loss is None:
            self.loss_tokens += len(tokens)
            return
        learned = self.loss_tokens + np.concatenate([[0], np.cumsum(loss, dtype=np.int64)])
        at_ends = learned[ends - self.tokens]
        self.unsupervised_documents += int(
            np.count_nonzero(has_text & (np.diff(at_ends, prepend=self._learned_at) == 0))
        )
        self.loss_tokens = int(learned[-1])
        self._learned_at = int(at_ends[-1]) if len(at_ends) else self._learned_at


def _edit(values: np.ndarray, dropped: np.ndarray, before: np.ndarray, added: int) -> np.ndarray:
    """`values` without those at `dropped`, with `added` put in before each place of `before`."""
    if not len(dropped) and not len(before):
        return values
    kept = np.ones(len(values), dtype=bool)
    kept[dropped] = False
    return np.insert(values, before, added)[np.insert(kept, before, True)]
