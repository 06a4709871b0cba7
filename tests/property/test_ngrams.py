"""N-grams in a plan's runs against a set of tuples: nothing missed, nothing invented, the first documents named."""

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dataprep.item_tokens import ItemTokens
from dataprep.ngrams import NgramIndex
from dataprep.overlap import DOCUMENTS_KEPT, search_runs

END = 9
SETTINGS = settings(max_examples=80, deadline=None)


def make_shard(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(tokens uint16, document ends), each document closed by END, some empty; of 3 ids, so that much occurs twice."""
    lengths = rng.choice([0, 1, 5, 20, 60], rng.integers(1, 10))
    closed = [[*rng.integers(0, 3, length).tolist(), END] if length else [] for length in lengths]
    return np.array(list(itertools.chain(*closed)), np.uint16), np.cumsum([len(document) for document in closed])


def make_runs(rng: np.random.Generator, n_tokens: int) -> tuple[np.ndarray, np.ndarray]:
    """Runs that touch nowhere, ascending; often one that is everything."""
    n_runs = min(int(rng.choice([0, 1, 1, 3, 8])), (n_tokens + 1) // 2)
    edges = np.sort(rng.choice(n_tokens + 1, 2 * n_runs, replace=False))
    return (edges[::2], edges[1::2]) if rng.random() < 0.6 else (np.zeros(1, np.int64), np.full(1, n_tokens))


def make_sequences(rng: np.random.Generator, tokens: np.ndarray) -> list[list[int]]:
    """Some at random, most of what is there, joined where a document's end was taken out."""
    cuts = [(int(start), int(rng.integers(0, 30))) for start in rng.integers(0, len(tokens) + 1, 6)]
    there = [[token for token in tokens[start : start + length].tolist() if token != END] for start, length in cuts]
    return [*there, rng.integers(0, 3, rng.integers(0, 20)).tolist()]


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


@SETTINGS
@given(seed=st.integers(0, 2**32), n=st.integers(1, 14), block=st.integers(1, 50))
def test_exactly_the_ngrams_that_stand_inside_runs_are_found_whatever_the_block(seed: int, n: int, block: int) -> None:
    rng = np.random.default_rng(seed)
    tokens, ends = make_shard(rng)
    runs, sequences = make_runs(rng, len(tokens)), make_sequences(rng, tokens)
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
