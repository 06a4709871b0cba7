"""What packers are compared by: the room left in each row, as a multiset, and tokens lost.

In:  tokens per row, any order. Out: the `check` of a reply: rows, tokens, fill, and a hash of the sorted rooms.
Holds: needs nothing but numpy, so every peer's venv can use it.
"""

import hashlib

import numpy as np


def check(row_tokens: np.ndarray, seq_len: int, n_tokens: int) -> dict[str, int | float | str]:
    """`row_tokens` is int64[rows]; `n_tokens` is what there was to pack."""
    assert row_tokens.max() <= seq_len, "a row holds more than fits"
    held, n_rows = int(row_tokens.sum()), len(row_tokens)
    rooms = hashlib.sha256(np.sort(seq_len - row_tokens).astype("<i8").tobytes()).hexdigest()
    fill = 100 * held / (n_rows * seq_len)
    return {"rows": n_rows, "tokens": held, "lost": n_tokens - held, "fill_percent": fill, "rooms_sha256": rooms}
