"""Packing, held to brute force over small sizes: nothing lost, nothing twice, order kept."""

import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from held import VOCAB, hold_shard, request
from hypothesis import given, settings
from hypothesis import strategies as st
from naive import tokens_in, tokens_of

from dataprep.errors import BudgetError
from dataprep.packing import (
    Pieces,
    Segments,
    count_documents,
    count_rows,
    cut_rows,
    documents_of,
    draw_order,
    join,
    merge,
    place,
    repeat_order,
    shuffled,
    whole_shards,
)
from dataprep.paths import Paths
from dataprep.planner import make_plan
from dataprep.recipe import Recipe

SETTINGS = settings(max_examples=120, deadline=None)
FEW = settings(max_examples=40, deadline=None)
document_lengths = st.lists(st.integers(0, 12), min_size=0, max_size=12)
shard_documents = st.lists(document_lengths, min_size=1, max_size=4)
seq_lens = st.integers(1, 11)


def rows_pieces(shards: list[list[int]]) -> Pieces:
    totals = np.array([sum(lengths) for lengths in shards], dtype=np.int64)
    return whole_shards(np.arange(len(shards), dtype=np.int32), totals)


def documents_pieces(shards: list[list[int]]) -> Pieces:
    return join([documents_of(i, np.cumsum(lengths, dtype=np.uint64)) for i, lengths in enumerate(shards)])


@SETTINGS
@given(shards=shard_documents, seq_len=seq_lens, seed=st.integers(0, 99), by_document=st.booleans())
def test_every_token_is_in_one_row_once_in_stream_order_and_only_the_last_row_is_short(
    shards: list[list[int]], seq_len: int, seed: int, *, by_document: bool
) -> None:
    pieces = documents_pieces(shards) if by_document else rows_pieces(shards)
    pieces = pieces[shuffled(len(pieces.length), seed, "any")]
    segments = cut_rows(pieces, seq_len)
    found = tokens_of(segments)
    assert [token for _, *token in found] == [list(token) for token in tokens_in(pieces)]
    assert len(found) == len({(shard, token) for _, shard, token in found}) == sum(map(sum, shards))
    row_sizes = Counter(row for row, _, _ in found)
    n_rows = count_rows(pieces, seq_len)
    assert sorted(row_sizes) == list(range(n_rows))
    assert all(row_sizes[row] == seq_len for row in range(n_rows - 1))
    assert all(length > 0 for length in segments.length)


def test_the_worked_example_of_the_module_is_true() -> None:
    pieces = Pieces(shard=np.array([0, 1], np.int32), start=np.array([0, 0]), length=np.array([5, 4]))
    found = cut_rows(pieces, 3)
    lines = zip(found.row.tolist(), found.shard.tolist(), found.start.tolist(), found.length.tolist(), strict=True)
    assert list(lines) == [(0, 0, 0, 3), (1, 0, 3, 2), (1, 1, 0, 1), (2, 1, 1, 3)]


@SETTINGS
@given(lengths=document_lengths)
def test_documents_become_pieces_without_their_empty_ones(lengths: list[int]) -> None:
    pieces = documents_of(7, np.cumsum(lengths, dtype=np.uint64))
    assert pieces.length.tolist() == [length for length in lengths if length]
    assert tokens_in(pieces) == [(7, token) for token in range(sum(lengths))]


@SETTINGS
@given(n=st.integers(0, 300), seed=st.integers(-(2**70), 2**70), purpose=st.text(max_size=9))
def test_a_shuffle_is_a_permutation(n: int, seed: int, purpose: str) -> None:
    assert sorted(shuffled(n, seed, purpose).tolist()) == list(range(n))


@pytest.mark.parametrize(
    ("n", "seed", "purpose", "wanted"),
    [  # made by splitmix64 in Python's own integers, apart from the code under test
        (8, 0, "rows of alpha", [0, 5, 7, 2, 1, 6, 3, 4]),
        (8, 0, "rows of beta", [2, 7, 3, 5, 1, 4, 0, 6]),
        (8, 1, "rows of alpha", [4, 5, 0, 7, 1, 3, 6, 2]),
        (12, -3, "documents of naïve", [9, 3, 1, 7, 10, 6, 5, 2, 4, 11, 0, 8]),
        (1, 0, "x", [0]),
        (0, 0, "x", []),
    ],
)
def test_a_shuffle_is_the_same_on_every_machine(n: int, seed: int, purpose: str, wanted: list[int]) -> None:
    assert shuffled(n, seed, purpose).tolist() == wanted


@SETTINGS
@given(n_rows=st.integers(1, 60), short=st.booleans(), seed=st.integers(0, 999))
def test_a_short_row_is_drawn_last_and_every_row_once(n_rows: int, seed: int, *, short: bool) -> None:
    order = draw_order(n_rows, last_is_short=short, seed=seed, purpose="p").tolist()
    assert sorted(order) == list(range(n_rows))
    assert not short or order[-1] == n_rows - 1


@SETTINGS
@given(n_rows=st.integers(1, 30), n_wanted=st.integers(0, 100), short=st.booleans(), seed=st.integers(0, 999))
def test_repeating_goes_through_all_rows_before_any_comes_again_and_the_first_pass_is_that_of_a_single_one(
    n_rows: int, n_wanted: int, seed: int, *, short: bool
) -> None:
    order = repeat_order(n_rows, n_wanted, last_is_short=short, seed=seed, purpose="p")
    assert (order.dtype, len(order)) == (np.int64, n_wanted)
    passes = [order[i : i + n_rows].tolist() for i in range(0, n_wanted, n_rows)]
    single = draw_order(n_rows, last_is_short=short, seed=seed, purpose="p").tolist()
    for number, rows in enumerate(passes):
        whole = draw_order(n_rows, last_is_short=short, seed=seed, purpose=f"p pass {number}").tolist()
        assert rows == (whole if number else single)[: len(rows)]
        assert len(set(rows)) == len(rows)


def test_passes_differ_in_order() -> None:
    passes = repeat_order(50, 150, last_is_short=True, seed=0, purpose="p").reshape(3, 50).tolist()
    assert len({tuple(rows) for rows in passes}) == 3
    assert [rows[-1] for rows in passes] == [49, 49, 49]


@SETTINGS
@given(shards=shard_documents, seq_len=seq_lens, passes=st.integers(1, 4), seed=st.integers(0, 9))
def test_a_row_drawn_in_each_pass_is_placed_in_each_pass(
    shards: list[list[int]], seq_len: int, passes: int, seed: int
) -> None:
    segments = cut_rows(documents_pieces(shards), seq_len)
    n_rows = len(np.unique(segments.row))
    drawn = repeat_order(n_rows, passes * n_rows, last_is_short=False, seed=seed, purpose="p")
    placed = tokens_of(place(segments, drawn, np.arange(len(drawn)) * 2))
    inside = {row: [token for r, *token in tokens_of(segments) if r == row] for row in range(n_rows)}
    assert placed == [(j * 2, *token) for j, row in enumerate(drawn.tolist()) for token in inside[row]]
    assert set(Counter((shard, token) for _, shard, token in placed).values()) <= {passes}


@SETTINGS
@given(shards=shard_documents, seq_len=seq_lens, seed=st.integers(0, 99), data=st.data())
def test_placing_moves_whole_rows_and_leaves_the_undrawn_ones_over(
    shards: list[list[int]], seq_len: int, seed: int, data: st.DataObject
) -> None:
    segments = cut_rows(rows_pieces(shards), seq_len)
    n_rows = len(np.unique(segments.row))
    n_drawn = data.draw(st.integers(0, n_rows))
    drawn = shuffled(n_rows, seed, "p")
    plan_rows = np.arange(n_drawn, dtype=np.int64) * 3 + 1  # other sources' rows lie between
    placed = merge([place(segments, drawn, plan_rows)])
    for row, source_row in zip(plan_rows.tolist(), drawn.tolist(), strict=False):
        wanted = [(s, t) for r, s, t in tokens_of(segments) if r == source_row]
        assert [(s, t) for r, s, t in tokens_of(placed) if r == row] == wanted
    assert set(placed.row.tolist()) == set(plan_rows.tolist())


@SETTINGS
@given(lengths=document_lengths, seq_len=seq_lens, seed=st.integers(0, 99), data=st.data())
def test_documents_are_counted_as_a_naive_count_does(
    lengths: list[int], seq_len: int, seed: int, data: st.DataObject
) -> None:
    ends = np.cumsum(lengths, dtype=np.uint64)
    pieces = documents_of(0, ends)
    segments = cut_rows(pieces[shuffled(len(pieces.length), seed, "p")], seq_len)
    kept = data.draw(st.lists(st.booleans(), min_size=len(segments), max_size=len(segments)))
    segments = segments[np.array(kept, dtype=bool)]

    runs = [set(range(s, s + n)) for s, n in zip(segments.start.tolist(), segments.length.tolist(), strict=True)]
    documents = [set(range(int(e) - n, int(e))) for e, n in zip(ends.tolist(), lengths, strict=True) if n]
    ended = sum(max(document) in run for document in documents for run in runs)
    split = sum(any(run & document and not document <= run for run in runs) for document in documents)
    assert count_documents(segments, ends) == (ended, split)


# End to end: receipts on disk, a request, and the plan that comes of it.


@st.composite
def mixes_of_held_sources(draw: st.DrawFn) -> tuple[list[int], list[list[list[int]]]]:
    mix = draw(st.lists(st.integers(1, 9), min_size=1, max_size=4))
    documents = st.lists(st.integers(0, 30), min_size=1, max_size=15).map(lambda lengths: [*lengths, 9])
    shards = st.lists(documents, min_size=1, max_size=3)
    return mix, draw(st.lists(shards, min_size=len(mix), max_size=len(mix)))


def assert_plan_is_exact(recipe: Recipe, segments: Segments, held: dict[str, int], held_out: int) -> None:
    targets = tokens_of(segments)
    assert len(targets) == len({(shard, token) for _, shard, token in targets}) == recipe.tokens
    assert all(0 <= token < recipe.shards[shard].tokens for _, shard, token in targets)

    source_of = {row: recipe.shards[shard].source for row, shard, _ in targets}
    assert sorted(source_of) == list(range(recipe.plan_rows))
    assert {(row, recipe.shards[shard].source) for row, shard, _ in targets} == set(source_of.items())
    assert max(Counter(row for row, _, _ in targets).values()) <= recipe.seq_len
    total = sum(recipe.mix)
    for source in recipe.sources:
        counts = np.cumsum([source_of[row] == source.source for row in range(recipe.plan_rows)])
        assert (np.abs(counts * total - np.arange(1, recipe.plan_rows + 1) * source.asked) <= total).all()
        known = source.tokens + source.excluded_tokens + source.held_out_tokens
        assert known + source.left_over_tokens + source.dropped_tokens == held[source.source] + held_out
        assert source.plan_rows == counts[-1]
        assert source.pad_tokens == source.plan_rows * recipe.seq_len - source.tokens
        assert source.left_over_tokens >= 0


@FEW
@given(
    mix_and_shards=mixes_of_held_sources(),
    seq_len=st.integers(1, 20),
    shuffle=st.sampled_from(["rows", "documents"]),
    seed=st.integers(0, 9),
)
def test_any_plan_has_no_token_twice_loses_none_and_keeps_every_prefix_within_one_row(
    mix_and_shards: tuple[list[int], list[list[list[int]]]], seq_len: int, shuffle: str, seed: int
) -> None:
    mix, shards_by_source = mix_and_shards
    with tempfile.TemporaryDirectory() as folder:
        paths, held = Paths(root=Path(folder)), {}
        for i, shards in enumerate(shards_by_source):
            held[f"source{i}"] = sum(hold_shard(paths, f"source{i}", n, lengths) for n, lengths in enumerate(shards))
            hold_shard(paths, f"source{i}", len(shards), [4, 1], split="holdout")
        asked = request(mix, seq_len=seq_len, shuffle=shuffle, seed=seed)
        recipe, segments = make_plan(paths, VOCAB, asked, None)
        again, segments_again = make_plan(paths, VOCAB, asked, None)
        too_much = replace(asked, budget_tokens=(recipe.plan_rows + 1) * seq_len)
        with pytest.raises(BudgetError, match=f"--tokens {recipe.plan_rows * seq_len} "):
            make_plan(paths, VOCAB, too_much, None)
    assert_plan_is_exact(recipe, segments, held, held_out=5)
    assert (recipe, tokens_of(segments)) == (again, tokens_of(segments_again))


@FEW
@given(shards=st.lists(st.lists(st.integers(0, 30), max_size=9), min_size=1, max_size=4), seq_len=st.integers(1, 20))
def test_a_full_plan_of_one_source_has_every_token_as_a_target_exactly_once(
    shards: list[list[int]], seq_len: int
) -> None:
    shards = [*shards, [3]]
    for shuffle in ("rows", "documents"):
        with tempfile.TemporaryDirectory() as folder:
            paths = Paths(root=Path(folder))
            held = sum(hold_shard(paths, "source0", n, lengths) for n, lengths in enumerate(shards))
            asked = request([1], seq_len=seq_len, shuffle=shuffle)
            recipe, segments = make_plan(paths, VOCAB, asked, "full")
        everything = Counter((n, token) for n, lengths in enumerate(shards) for token in range(sum(lengths)))
        assert Counter((shard, token) for _, shard, token in tokens_of(segments)) == everything
        source = recipe.sources[0]
        assert (source.tokens, source.left_over_tokens, recipe.pad_tokens) == (held, 0, -held % seq_len)
        assert source.documents == sum(length > 0 for lengths in shards for length in lengths)
        row_sizes = Counter(row for row, _, _ in tokens_of(segments))
        assert all(row_sizes[row] == seq_len for row in range(recipe.plan_rows - 1))
