"""N-grams in a plan's runs against a set of tuples: nothing missed, nothing invented, the first documents named."""

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dataprep.item_tokens import ItemTokens
from dataprep.ngrams import NgramIndex
from dataprep.overlap import DOCUMENTS_KEPT, search_runs

END = 9
few_ids = st.integers(0, 2)  # so few that everything occurs somewhere


@st.composite
def shards(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """(tokens uint16, document ends), each document closed by END; some are empty."""
    documents = draw(st.lists(st.lists(few_ids, max_size=40), min_size=1, max_size=8))
    closed = [[*document, END] if document else [] for document in documents]
    return np.array(list(itertools.chain(*closed)), np.uint16), np.cumsum([len(document) for document in closed])


@st.composite
def runs_of(draw: st.DrawFn, n_tokens: int) -> tuple[np.ndarray, np.ndarray]:
    """Runs that touch nowhere, ascending."""
    edges = sorted(draw(st.sets(st.integers(0, n_tokens), max_size=8)))
    edges = edges[: len(edges) // 2 * 2]
    return np.array(edges[::2], np.int64), np.array(edges[1::2], np.int64)


def naive(
    tokens: np.ndarray, ends: np.ndarray, runs: tuple[np.ndarray, np.ndarray], wanted: set[tuple[int, ...]]
) -> dict[tuple[int, ...], list[int]]:
    found: dict[tuple[int, ...], list[int]] = {}
    for gram in wanted:
        for start, stop in zip(*runs, strict=True):
            for place in range(start, stop - len(gram) + 1):
                if tuple(tokens[place : place + len(gram)].tolist()) == gram:
                    document = int((ends <= place).sum())
                    held = found.setdefault(gram, [])
                    if document not in held and len(held) < DOCUMENTS_KEPT:
                        held.append(document)
    return found


@given(data=st.data(), shard=shards(), n=st.integers(1, 13), block=st.integers(1, 30))
def test_exactly_the_ngrams_that_stand_inside_runs_are_found_whatever_the_block(
    data: st.DataObject, shard: tuple[np.ndarray, np.ndarray], n: int, block: int
) -> None:
    tokens, ends = shard
    runs = data.draw(runs_of(len(tokens)))
    sequences = data.draw(st.lists(st.lists(few_ids, max_size=20), max_size=5))
    if data.draw(st.booleans()) and len(tokens) > 3:
        sequences.append([t for t in tokens[1:30].tolist() if t != END])  # one that is there, but for documents' ends
    items = ItemTokens(
        ids=np.array(list(itertools.chain(*sequences)), np.uint16),
        bounds=np.cumsum([0, *map(len, sequences)]),
        item=np.arange(len(sequences)),
        n=n,
    )
    starts = items.starts_by_length()
    index = NgramIndex(items.ids, starts)
    tuple_of = {
        gram: tuple(items.ids[place : place + length].tolist())
        for length in index.lengths
        for place, gram in zip(starts[length].tolist(), index.grams_at(length).tolist(), strict=True)
    }
    judged = [s for s in sequences if len(s) >= min(8, n)]
    wanted = {tuple(s[i : i + min(n, len(s))]) for s in judged for i in range(max(1, len(s) - n + 1))}
    assert set(tuple_of.values()) == wanted
    assert len(tuple_of) == index.n_grams == len(wanted)

    found = search_runs(index, tokens, ends, runs, block=block)
    assert {tuple_of[gram]: documents for gram, documents in found.items()} == naive(tokens, ends, runs, wanted)


def test_equal_hashes_of_other_tokens_are_no_match() -> None:
    index = NgramIndex(np.array([1, 2, 3], np.uint16), {3: np.array([0])})
    table = index._hasher._table
    table[7] = table[1]  # 7 2 3 now hashes as 1 2 3 does
    tokens = np.array([7, 2, 3, 1, 2, 3, END], np.uint16)
    [hits] = index.find(tokens, len(tokens))
    assert hits.position.tolist() == [3]
