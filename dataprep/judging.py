"""Judging: from n-grams that occur to items that are contaminated, and the documents that say so.

In:  the items' tokens, their index, and where its n-grams were found. Out: a `FoundItem` per contaminated item.
Holds: an item is contaminated when one of its n-grams occurs, and `n_matched` of its `n_grams` says how much of it;
of its two sequences the one that matched more speaks. Documents are those first found, most matched first.
What more than WORDING_ITEMS of a task's items and more than one in WORDING_SHARE have in common is the task's own
wording ("Given two strings, determine the length of …"): it tells of no item, so it neither counts nor matches.
An item of 20 tokens has 8 n-grams of 13: n_matched 8 is the whole item, 1 may be a turn of phrase.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dataprep.bundle import Bundle
from dataprep.item_tokens import ItemTokens
from dataprep.ngrams import NgramIndex
from dataprep.overlap import DOCUMENTS_KEPT, Places
from dataprep.recipe import RecipeShard

WORDING_ITEMS, WORDING_SHARE = 20, 20  # a passage that several questions are about is in fewer than one in twenty


@dataclass(frozen=True, kw_only=True)
class FoundDocument:
    """Row `document` of a shard's file holds `n_matched` of the item's n-grams, or more: common ones are not traced."""

    source: str
    shard: str
    document: int
    n_matched: int


@dataclass(frozen=True, kw_only=True)
class FoundItem:
    """Item `item` of task `task`, counted from 0 in file order: `n_matched` of its `n_grams` occur."""

    task: str
    item: int
    n_grams: int
    n_matched: int
    documents: tuple[FoundDocument, ...]


@dataclass(frozen=True, kw_only=True)
class Judged:
    """The contaminated items, in the bundle's order, and how many n-grams that occur are each task's own wording."""

    found: list[FoundItem]
    wording: dict[str, int]


def judge_items(
    bundle: Bundle, items: ItemTokens, index: NgramIndex, places: Places, shards: Sequence[RecipeShard]
) -> Judged:
    """Which items are contaminated, by the n-grams that occur at `places`."""
    names = [(task.label, number) for task in bundle.tasks for number in range(len(task.items))]
    task_of = np.repeat(np.arange(len(bundle.tasks)), [len(task.items) for task in bundle.tasks])
    n_grams, sequence, gram = _occurring(items, index, places)
    common, wording = _own_wording(items.item[sequence], gram, task_of)
    n_grams -= np.bincount(sequence[common], minlength=len(n_grams))
    sequence, gram = sequence[~common], gram[~common]
    n_matched = np.bincount(sequence, minlength=len(n_grams))
    found = []
    for one in _better(n_matched):
        mine = gram[slice(*np.searchsorted(sequence, [one, one + 1]))]
        task, item = names[int(items.item[one])]
        documents = _documents([places[number] for number in mine.tolist()], shards)
        matched = {"n_grams": int(n_grams[one]), "n_matched": int(n_matched[one])}
        found.append(FoundItem(task=task, item=item, documents=documents, **matched))
    counts = zip(bundle.tasks, wording.tolist(), strict=True)
    return Judged(found=found, wording={task.label: count for task, count in counts})


def _occurring(items: ItemTokens, index: NgramIndex, places: Places) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(n-grams of each sequence, and of every place where one that occurs begins its sequence, ascending, and it)."""
    occurs = np.zeros(index.n_grams, dtype=np.bool_)
    occurs[list(places)] = True
    starts = items.starts_by_length()
    none = np.empty(0, np.int64)
    sequence = np.concatenate([none, *(items.sequence_at(starts[length]) for length in index.lengths)])
    gram = np.concatenate([none, *(index.grams_at(length) for length in index.lengths)])
    n_grams, matched = np.bincount(sequence, minlength=len(items.item)), occurs[gram]
    order = np.argsort(sequence[matched], kind="stable")
    return n_grams, sequence[matched][order], gram[matched][order]


def _own_wording(item: np.ndarray, gram: np.ndarray, task_of: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(Whether each n-gram is wording of its item's task: bool[places], how many such n-grams each task has)."""
    n_grams = int(gram.max(initial=-1)) + 1
    pairs = np.unique(np.stack([task_of[item] * n_grams + gram, item], axis=1), axis=0)  # an item has one only once
    keys, counts = np.unique(pairs[:, 0], return_counts=True)
    task = keys // max(1, n_grams)
    n_items = np.bincount(task_of)
    common = (counts > WORDING_ITEMS) & (counts * WORDING_SHARE > n_items[task])
    return np.isin(task_of[item] * n_grams + gram, keys[common]), np.bincount(task[common], minlength=len(n_items))


def count_unjudged(bundle: Bundle, items: ItemTokens) -> dict[str, int]:
    """How many items of each task are too short for a single n-gram."""
    judged = np.zeros(items.item[-1] + 1, dtype=np.bool_)
    for starts in items.starts_by_length().values():
        judged[items.item[items.sequence_at(starts)]] = True
    firsts = np.cumsum([0, *(len(task.items) for task in bundle.tasks)]).tolist()
    spans = zip(bundle.tasks, firsts[:-1], firsts[1:], strict=True)
    return {task.label: int((~judged[first:last]).sum()) for task, first, last in spans}


def _better(n_matched: np.ndarray) -> list[int]:
    """Of each item's two sequences, which stand side by side, the one that matched more; none where none did."""
    pairs = n_matched.reshape(-1, 2)
    best = pairs.argmax(axis=1) + 2 * np.arange(len(pairs))
    return best[pairs.any(axis=1)].tolist()


def _documents(places: list[list[tuple[int, int]]], shards: Sequence[RecipeShard]) -> tuple[FoundDocument, ...]:
    counts = Counter(place for held in places for place in held)
    first = sorted(counts, key=lambda place: (-counts[place], place))[:DOCUMENTS_KEPT]
    return tuple(
        FoundDocument(
            source=shards[number].source,
            shard=shards[number].shard,
            document=document,
            n_matched=counts[number, document],
        )
        for number, document in first
    )
