"""Assembly: where end tokens stand."""

import numpy as np
import pytest

from dataprep.assembly import close_documents


@pytest.mark.parametrize("lengths", [[], [0], [0, 0, 3], [3, 0, 1, 0], [1] * 50])
def test_end_tokens_stand_where_a_naive_loop_puts_them(lengths: list[int]) -> None:
    ids = np.arange(sum(lengths), dtype=np.uint32)
    offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64)
    wanted, wanted_ends = [], []
    for start, stop in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
        wanted += [*ids[start:stop].tolist(), 99] if stop > start else []
        wanted_ends.append(len(wanted))
    tokens, ends = close_documents(ids, offsets, 99)
    assert (tokens.dtype, tokens.tolist(), ends.tolist()) == (np.dtype("<u2"), wanted, wanted_ends)
