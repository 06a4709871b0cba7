"""Overlap: where n-grams stand in what a plan covers of its shards.

In:  an index of n-grams; a recipe's plan and its bins. Out: which n-grams occur, and the first documents they are in.
Holds: an n-gram counts only where all its tokens are in the plan; rows that touch in the shard are one run of it, so
neither a row's edge nor a block's hides one. None crosses a document's end: the end token is in no item.
Costs: a bin is read where rows lie, one block of 128 KiB at a time and one shard per thread; the plan's segments are
in memory, 28 bytes each.
"""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from dataprep import intervals
from dataprep.ngrams import NgramIndex
from dataprep.packing import Pieces
from dataprep.paths import Paths
from dataprep.plan import open_plan
from dataprep.recipe import Recipe
from dataprep.row_documents import open_shard

DOCUMENTS_KEPT = 3  # of each n-gram: a common one is in millions
_BLOCK = 1 << 16
Documents = dict[int, list[int]]  # n-gram → documents, ascending, at most DOCUMENTS_KEPT
Places = dict[int, list[tuple[int, int]]]  # n-gram → (number of the shard in the recipe, document)


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """What was found, in how many tokens. `places` has exactly the n-grams that occur."""

    places: Places = field(default_factory=dict)
    tokens: int


def find_overlap(paths: Paths, recipe: Recipe, index: NgramIndex, report: Callable[[int], None]) -> Overlap:
    """Look for the index's n-grams in all that the plan covers. `report` gets tokens as they are done."""
    plan = open_plan(paths, recipe)
    covered = intervals.union(plan.segments(0, plan.n_rows))

    def search(number: int) -> tuple[int, Documents]:
        runs = covered_runs(covered, number)
        shard = open_shard(paths, recipe, number)
        documents = search_runs(index, shard.tokens, shard.ends, runs)
        report(int((runs[1] - runs[0]).sum()))
        return number, documents

    places: Places = {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for number, found in pool.map(search, np.unique(covered.shard).tolist()):  # in the recipe's order
            for gram, documents in found.items():
                held = places.setdefault(gram, [])
                held += [(number, document) for document in documents[: DOCUMENTS_KEPT - len(held)]]
    return Overlap(places=places, tokens=int(covered.length.sum()))


def covered_runs(covered: Pieces, number: int) -> tuple[np.ndarray, np.ndarray]:
    """One shard's runs of tokens: (starts, stops), int64 each, ascending."""
    mine = covered.shard == number
    starts = covered.start[mine]
    return starts, starts + covered.length[mine]


def search_runs(
    index: NgramIndex, tokens: np.ndarray, ends: np.ndarray, runs: tuple[np.ndarray, np.ndarray], *, block: int = _BLOCK
) -> Documents:
    """The n-grams that stand in the runs of one shard, uint16[tokens], and the first documents they are in."""
    starts, stops = runs
    found: Documents = {}
    settled = np.zeros(index.n_grams, dtype=np.bool_)  # those that need no further document
    longest = max(index.lengths, default=1)
    for begin in _blocks(starts, stops, block):
        ids = np.asarray(tokens[begin : min(begin + block + longest - 1, int(stops[-1]))])
        for hits in index.find(ids, block):
            wanted = ~settled[hits.gram]
            gram, position = hits.gram[wanted], hits.position[wanted] + begin
            run = np.searchsorted(starts, position, side="right") - 1
            inside = (run >= 0) & (position + hits.length <= stops[run])
            document = np.searchsorted(ends, position[inside], side="right")
            _keep(found, settled, gram[inside], document)
    return found


def _blocks(starts: np.ndarray, stops: np.ndarray, block: int) -> Iterator[int]:
    """Where to read blocks so that every run is read; what lies between runs is skipped by whole blocks."""
    begin = int(starts[0]) if len(starts) else 0
    while len(stops) and begin < stops[-1]:
        yield begin
        next_run = int(np.searchsorted(stops, begin + block, side="right"))  # the first that ends behind this block
        begin = max(begin + block, int(starts[next_run])) if next_run < len(starts) else int(stops[-1])


def _keep(found: Documents, settled: np.ndarray, gram: np.ndarray, document: np.ndarray) -> None:
    for one, its in np.unique(np.stack([gram, document], axis=1), axis=0).tolist():
        held = found.setdefault(one, [])
        if len(held) < DOCUMENTS_KEPT and its not in held:
            held.append(its)
        settled[one] = len(held) == DOCUMENTS_KEPT
