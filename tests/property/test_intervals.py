"""Intervals, held to one boolean per token: covered, repeated, seen, counted."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from naive import tokens_in, tokens_of

from dataprep import intervals
from dataprep.intervals import covered_tokens, loss_counts, max_cover, subtract
from dataprep.packing import Pieces, Segments

SETTINGS = settings(max_examples=200, deadline=None)
N_SHARDS, SHARD_TOKENS = 4, 30


@st.composite
def runs(draw: st.DrawFn) -> Pieces:
    """Runs of tokens in any order, overlapping or not."""
    run = st.tuples(st.integers(0, N_SHARDS - 1), st.integers(0, SHARD_TOKENS - 1), st.integers(1, SHARD_TOKENS))
    drawn = draw(st.lists(run, max_size=12))
    held = [(shard, start, min(length, SHARD_TOKENS - start)) for shard, start, length in drawn]
    shard, start, length = np.array(held, dtype=np.int64).reshape(-1, 3).T
    return Pieces(shard=shard.astype(np.int32), start=start, length=length)


def as_segments(pieces: Pieces) -> Segments:
    row = np.arange(len(pieces.length), dtype=np.int64)
    return Segments(row=row, shard=pieces.shard, start=pieces.start, length=pieces.length.astype(np.int32))


@SETTINGS
@given(drawn=runs())
def test_covered_tokens_are_counted_once_however_often_they_occur(drawn: Pieces) -> None:
    by_shard = Counter(shard for shard, _ in set(tokens_in(drawn)))
    found = covered_tokens(as_segments(drawn), N_SHARDS)
    assert (found.dtype, found.tolist()) == (np.int64, [by_shard[shard] for shard in range(N_SHARDS)])


@SETTINGS
@given(drawn=runs())
def test_the_most_repeated_token_is_found(drawn: Pieces) -> None:
    assert max_cover(as_segments(drawn)) == max(Counter(tokens_in(drawn)).values(), default=0)


@SETTINGS
@given(pieces=runs(), seen=runs())
def test_subtracting_leaves_each_piece_less_what_was_seen_in_order(pieces: Pieces, seen: Pieces) -> None:
    mask = set(tokens_in(seen))
    left = subtract(pieces, seen)
    assert tokens_in(left) == [token for token in tokens_in(pieces) if token not in mask]
    assert (left.length > 0).all()
    assert [column.dtype for column in vars(left).values()] == [np.int32, np.int64, np.int64]


@SETTINGS
@given(pieces=runs())
def test_subtracting_nothing_changes_nothing_and_subtracting_all_leaves_nothing(pieces: Pieces) -> None:
    unchanged = subtract(pieces, pieces[np.zeros(0, dtype=int)])
    assert [column.tolist() for column in vars(unchanged).values()] == [c.tolist() for c in vars(pieces).values()]
    assert len(subtract(pieces, pieces).length) == 0


def test_the_worked_example_of_the_module_is_true() -> None:
    shard = np.zeros(2, np.int32)
    both = Pieces(shard=shard, start=np.array([0, 2]), length=np.array([4, 4]))
    piece = Pieces(shard=shard[:1], start=np.array([0]), length=np.array([9]))
    assert covered_tokens(as_segments(both), 1).tolist() == [6]
    assert max_cover(as_segments(both)) == 2
    left = subtract(piece, both)
    assert (left.start.tolist(), left.length.tolist()) == ([6], [3])


@SETTINGS
@given(drawn=runs(), data=st.data(), block=st.integers(1, 40))
def test_loss_tokens_are_those_of_the_mask_whatever_the_block(drawn: Pieces, data: st.DataObject, block: int) -> None:
    mask = st.lists(st.integers(0, 1), min_size=SHARD_TOKENS, max_size=SHARD_TOKENS)
    masks = data.draw(st.lists(st.none() | mask, min_size=N_SHARDS, max_size=N_SHARDS))
    segments, asked = as_segments(drawn), []

    def loss_by_shard(shard: int) -> np.ndarray | None:
        asked.append(shard)
        return None if masks[shard] is None else np.array(masks[shard], dtype=np.uint8)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(intervals, "_BLOCK", block)
        found = loss_counts(segments, loss_by_shard)
    wanted = Counter(row for row, shard, token in tokens_of(segments) if masks[shard] is None or masks[shard][token])
    assert (found.dtype, found.tolist()) == (np.int64, [wanted[row] for row in range(len(segments))])
    assert sorted(asked) == sorted(set(drawn.shard.tolist()))


def test_a_mask_of_many_blocks_is_counted_from_disk_and_a_segment_past_its_end_is_noticed(tmp_path: Path) -> None:
    n_tokens = 3 * intervals._BLOCK + 17
    content = (np.arange(n_tokens) % 7 < 3).astype(np.uint8)
    content.tofile(tmp_path / "shard.loss")
    mask = np.memmap(tmp_path / "shard.loss", dtype=np.uint8, mode="r")
    start = np.array([0, intervals._BLOCK - 1, 5, 2 * intervals._BLOCK])
    length = np.array([n_tokens, 2, 10, intervals._BLOCK + 17])
    segments = as_segments(Pieces(shard=np.zeros(4, np.int32), start=start, length=length))
    wanted = [int(content[s : s + n].sum()) for s, n in zip(start.tolist(), length.tolist(), strict=True)]
    assert loss_counts(segments, lambda _: mask).tolist() == wanted
    with pytest.raises(AssertionError, match="a mask of 20"):
        loss_counts(segments, lambda _: mask[:20])
