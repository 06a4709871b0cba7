"""Judging: from n-grams that occur to items that are contaminated, and the documents that say so.

In:  the items' tokens, their index, and where its n-grams were found. Out: a `FoundItem` per contaminated item.
Holds: an item is contaminated when one of its n-grams occurs, and `n_matched` of its `n_grams` says how much of it;
of its two sequences the one that matched more speaks. Documents are those first found, most matched first.
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


def judge_items(
    bundle: Bundle, items: ItemTokens, index: NgramIndex, places: Places, shards: Sequence[RecipeShard]
) -> list[FoundItem]:
    """Every contaminated item, in the bundle's order."""
    occurs = np.zeros(index.n_grams, dtype=np.bool_)
    occurs[list(places)] = True
    starts_by_length = items.starts_by_length()
    sequence, gram = (
        np.concatenate([np.empty(0, np.int64), *parts])
        for parts in (
            [items.sequence_at(starts_by_length[length]) for length in index.lengths],
            [index.grams_at(length) for length in index.lengths],
        )
    )
    n_grams = np.bincount(sequence, minlength=len(items.item))
    matched = occurs[gram]
    sequence, gram = sequence[matched], gram[matched]
    order = np.argsort(sequence, kind="stable")
    sequence, gram = sequence[order], gram[order]
    n_matched = np.bincount(sequence, minlength=len(items.item))
    names = [(task.label, number) for task in bundle.tasks for number in range(len(task.items))]
    found = []
    for one in _better(n_matched):
        mine = slice(*np.searchsorted(sequence, [one, one + 1]))
        task, item = names[int(items.item[one])]
        documents = _documents([places[g] for g in gram[mine].tolist()], shards)
        found.append(
            FoundItem(
                task=task, item=item, n_grams=int(n_grams[one]), n_matched=int(n_matched[one]), documents=documents
            )
        )
    return found


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
