"""Best-fit decreasing: which row each document goes to, so that next to nothing is padding.

In:  document lengths in drawn order, none above `seq_len`. Out: a row number for each.
Holds: exactly what best-fit decreasing does one by one: the longest document left goes to the row
with the least room that still takes it, or opens a row. It is done for all rows of equal room at
once, so the loop runs over lengths, not documents.

Lengths 3 2 4 2 6 1, rows of 6:
    6 → row 0    4 → row 1    3 → row 2    2 → row 1 (2 left), 2 → row 2 (3 left)    1 → row 2 (1 left)
    row_of = 2 1 1 2 0 2, three rows, no padding
"""

import numpy as np

# Rows [first, first + n) take `each` documents apiece, the next n × each ones: (first, n, each).
_Take = tuple[int, int, int]


def best_fit(length: np.ndarray, seq_len: int) -> tuple[np.ndarray, int]:
    """The row of each document, int64[n], and the number of rows. Equal lengths go in drawn order."""
    # Sixteen bits sort by radix: 20 times as fast as a comparison sort.
    room = (seq_len - length).astype(np.min_scalar_type(seq_len))
    longest_first = np.argsort(room, kind="stable")
    takes, n_rows = _takes(np.bincount(length, minlength=seq_len + 1).tolist(), seq_len)
    row_of = np.empty(len(length), dtype=np.int64)
    row_of[longest_first] = _spread(np.array(takes, dtype=np.int64).reshape(-1, 3))
    return row_of, n_rows


def _takes(n_of_length: list[int], seq_len: int) -> tuple[list[_Take], int]:
    """Decide, length by length, which rows take how many: (takes, number of rows)."""
    takes: list[_Take] = []
    open_rows, n_rows = _OpenRows(seq_len), 0
    for length in range(seq_len, 0, -1):
        left = n_of_length[length]
        while left:
            new_rows = (seq_len, n_rows, -(-left // (seq_len // length)))
            room, first, n = open_rows.take_out(length) or new_rows
            n_rows = max(n_rows, first + n)
            # A row that took one of this length has the least room of all: it takes the next one, too.
            each = room // length
            n_full = min(n, left // each)
            part = left - n_full * each if n_full < n else 0  # the last row need not take its full share
            used = n_full + (part > 0)
            for begin, end, taken in ((0, n_full, each), (n_full, used, part), (used, n, 0)):
                takes.append((first + begin, end - begin, taken))
                open_rows.put_back(room - taken * length, first + begin, end - begin)
            left -= n_full * each + part
    return takes, n_rows


class _OpenRows:
    """Rows that are not full, by the room they have left; rows made alike stay together as a range."""

    def __init__(self, seq_len: int) -> None:
        self._ranges: list[list[tuple[int, int]]] = [[] for _ in range(seq_len + 1)]
        self._rooms = 0  # bit r is set where a row with room r is open

    def take_out(self, length: int) -> tuple[int, int, int] | None:
        """One range of the rows with the least room for `length`: (room, first row, rows)."""
        fitting = self._rooms >> length
        if not fitting:
            return None
        room = length + (fitting & -fitting).bit_length() - 1  # the lowest set bit
        first, n = self._ranges[room].pop()
        if not self._ranges[room]:
            self._rooms ^= 1 << room
        return room, first, n

    def put_back(self, room: int, first: int, n: int) -> None:
        """Keep rows [first, first + n) open, if any are left and they have room."""
        if room and n:
            self._ranges[room].append((first, n))
            self._rooms |= 1 << room


def _spread(takes: np.ndarray) -> np.ndarray:
    """The row of each document, longest first: int64[n]."""
    first, n, each = takes.T
    documents = n * each
    taken_before = np.repeat(np.cumsum(documents) - documents, documents)
    nth_of_take = np.arange(len(taken_before), dtype=np.int64) - taken_before
    return np.repeat(first, documents) + nth_of_take // np.repeat(each, documents)
