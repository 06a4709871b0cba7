"""Item tokens: an evaluation bundle's items as sequences of token ids, and the n-grams to look for.

In:  a bundle, a vocabulary, n. Out: `ItemTokens`: the sequences, whose they are, where n-grams begin.
Holds: an item's text is the one the right answer makes (query + delimiter + choices[gold]); shots are no part of it.
It is encoded as ordinary text without an end token, twice: as it stands, and with a space before it, as inside a
running text, where its first token is another. An item of m tokens has m - n + 1 n-grams; one of fewer than n but
SHORTEST or more has one, all of it; below SHORTEST it is not judged: "2 + 2 = 4" occurs somewhere whatever was read.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from dataprep.bundle import Bundle, Item, LanguageModeling, MultipleChoice, Task
from dataprep.vocab import Vocab

SHORTEST = 8  # as GPT-3's report has it: n-grams of 8 to 13


@dataclass(frozen=True, kw_only=True)
class ItemTokens:
    """All items' sequences, one behind the other. Items are numbered through all tasks, in the bundle's order.

    ids uint16[tokens]; sequence s is ids[bounds[s]:bounds[s+1]] and one of the two of item `item[s]`.
    """

    ids: np.ndarray
    bounds: np.ndarray  # int64[sequences + 1]
    item: np.ndarray  # int64[sequences]
    n: int

    def starts_by_length(self) -> dict[int, np.ndarray]:
        """Where n-grams begin, ascending: those of n tokens, and of each short sequence the whole."""
        lengths = np.diff(self.bounds)
        starts = {self.n: spread(self.bounds[:-1], np.maximum(lengths - self.n + 1, 0))}
        for length in range(min(SHORTEST, self.n), self.n):
            starts[length] = self.bounds[:-1][lengths == length]
        return starts

    def sequence_at(self, starts: np.ndarray) -> np.ndarray:
        """Which sequence each of these places is in: int64[starts]."""
        return np.searchsorted(self.bounds, starts, side="right") - 1


def item_text(item: Item, delimiter: str) -> str:
    """What the model reads where it is right, without shots.

    >>> item_text(LanguageModeling("One, two, ", "three"), " ")
    'One, two, three'
    """
    if isinstance(item, MultipleChoice):
        return item.query + delimiter + item.choices[item.gold]
    if isinstance(item, LanguageModeling):
        return item.context.strip() + delimiter + item.continuation
    return item.context_options[item.gold] + delimiter + item.continuation


def encode_items(bundle: Bundle, vocab: Vocab, n: int) -> ItemTokens:
    """Every item's two sequences. Task by task: texts of one task are in memory at a time."""
    parts = [_encode(task, vocab) for task in bundle.tasks]
    lengths = np.concatenate([lengths for _, lengths in parts])
    return ItemTokens(
        ids=np.concatenate([ids for ids, _ in parts]),
        bounds=np.append(0, np.cumsum(lengths)),
        item=np.arange(len(lengths)) // 2,
        n=n,
    )


def _encode(task: Task, vocab: Vocab) -> tuple[np.ndarray, np.ndarray]:
    texts = [item_text(item, task.delimiter) for item in task.items]
    both = [variant for text in texts for variant in (text, f" {text}")]
    ids, offsets = vocab.encode_texts(pa.array(both, pa.large_string()))
    return ids.astype(np.uint16), np.diff(offsets).astype(np.int64)


def spread(starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Each start and the counts[i] - 1 places behind it.

    >>> spread(np.array([0, 10, 20]), np.array([2, 0, 3])).tolist()
    [0, 1, 20, 21, 22]
    """
    before = np.cumsum(counts) - counts
    return np.repeat(starts - before, counts) + np.arange(counts.sum())
