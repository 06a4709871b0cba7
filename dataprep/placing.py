"""Placing: the rows of a plan with their segments, some rows at a time.

In:  every source's segments by its own rows, and draws. Out: the plan's segments, group by group, in training order.
Holds: group by group they are the segments that `packing.place` and `merge` give for the whole plan, in the same
       order; a plan of 50 million rows is never in memory as a whole.
"""

from collections.abc import Iterator

import numpy as np

from dataprep.drawing import Draws
from dataprep.packing import Segments

# One segment's facts side by side: a row drawn at random is fetched from one place in memory, not from four.
_RECORD = np.dtype([("start", "<i8"), ("shard", "<i4"), ("length", "<i4")])


class PlacedRows:
    """`for group in PlacedRows(sources, draws, rows_per_group): …`, as often as one likes.

    `sources` is emptied: what it held is kept here, packed.
    """

    def __init__(self, sources: list[Segments], draws: Draws, rows_per_group: int) -> None:
        self._draws, self._rows_per_group = draws, rows_per_group
        self._records: list[np.ndarray] = []  # by source
        self._first: list[np.ndarray] = []  # by source: where each of its rows begins in them
        while sources:
            segments = sources.pop(0)
            records = np.empty(len(segments), dtype=_RECORD)
            for name in ("start", "shard", "length"):
                records[name] = getattr(segments, name)
            self._records.append(records)
            n_rows = int(segments.row[-1]) + 1 if len(segments) else 0
            self._first.append(np.searchsorted(segments.row, np.arange(n_rows + 1)))

    def __iter__(self) -> Iterator[Segments]:
        """One group at least, so that an empty plan has its columns."""
        for first in range(0, max(1, len(self._draws)), self._rows_per_group):
            drawn = self._draws[first : first + self._rows_per_group]
            begin, n = self._counts(drawn.source, drawn.row)
            records = np.empty(int(n.sum()), dtype=_RECORD)
            ends = np.cumsum(n)
            place = np.arange(len(records))
            wanted = np.repeat(begin - (ends - n), n) + place
            of = np.repeat(drawn.source, n)
            for number in range(len(self._records)):
                mine = of == number
                records[mine] = self._records[number][wanted[mine]]
            yield Segments(
                row=np.repeat(np.arange(first, first + len(n)), n),
                shard=records["shard"].copy(),
                start=records["start"].copy(),
                length=records["length"].copy(),
            )

    def whole(self) -> Segments:
        """All groups as one."""
        groups = list(self)
        names = ("row", "shard", "start", "length")
        return Segments(**{name: np.concatenate([getattr(group, name) for group in groups]) for name in names})

    def _counts(self, source: np.ndarray, row: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where each drawn row's segments begin in its source's, and how many there are."""
        begin, n = np.zeros(len(row), dtype=np.int64), np.zeros(len(row), dtype=np.int64)
        for number, first in enumerate(self._first):
            mine = source == number
            begin[mine] = first[row[mine]]
            n[mine] = first[row[mine] + 1] - begin[mine]
        return begin, n
