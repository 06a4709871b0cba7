"""Gathering: segments of bins become rows of inputs and targets; the same for training and for held-out rows.

In:  segments and the shards they index, memory-mapped. Out: `Rows`, int64 arrays_RT.
Holds: padding is never a target, and under the loss policy `assistant` neither is a token that its shard's mask
       gives to somebody else; a token that the vocabulary does not know is refused with its shard.
Rule: targets are bin[start : start + length], inputs the same one earlier, the end token before position 0.
      A position belongs to the document of its target: the end token as *input* opens a document.
"""

from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from dataprep.bins import LOSS, TOKEN, open_bin, open_planned_loss
from dataprep.errors import DataError
from dataprep.packing import Segments
from dataprep.paths import Paths
from dataprep.recipe import Recipe, RecipeShard
from train.head import UNCOUNTED

_Run = tuple[int, int, int]  # tokens [start, start + length) of a shard: (shard, start, length)


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Rows as the model takes them.

    documents_RT numbers the documents of each row from 0; None where the recipe's attention is over whole rows.
    """

    inputs_RT: np.ndarray
    targets_RT: np.ndarray
    documents_RT: np.ndarray | None

    @property
    def arrays(self) -> tuple[np.ndarray, ...]:
        """What the model takes: inputs, targets, and documents where there are any."""
        arrays = (self.inputs_RT, self.targets_RT)
        return arrays if self.documents_RT is None else (*arrays, self.documents_RT)


class Gatherer:
    """Maps of some shards, read as a recipe says: its row length, its loss policy, its attention."""

    def __init__(self, paths: Paths, recipe: Recipe, shards: tuple[RecipeShard, ...]) -> None:
        self.recipe, self.shards = recipe, shards
        padding = np.full(recipe.seq_len + 1, recipe.pad_id, dtype=TOKEN)
        self._bins = [_open_bin(paths, recipe, shard) for shard in shards] + [padding]
        self._masks = [_open_mask(paths, recipe, shard) for shard in shards] + [None]
        self._all_count = np.ones(recipe.seq_len, dtype=LOSS)

    def gather(self, segments: Segments, first_row: int, n_rows: int) -> Rows:
        """Rows [first_row, first_row + n_rows); those that no segment is of are padding, and one document."""
        shape, runs = (n_rows, self.recipe.seq_len), self._runs(segments, first_row, n_rows)
        begins = list(accumulate((length for _, _, length in runs[:-1]), initial=0))  # each run's place, end to end

        # Tokens are put together as they are stored, widened once, and once more one place later: those are the inputs.
        stored = np.concatenate([self._bins[shard][start : start + length] for shard, start, length in runs])
        before = [self._bins[shard].item(start - 1) if start else self.recipe.end_id for shard, start, _ in runs]
        if max(int(stored.max()), *before) >= self.recipe.vocab_size:
            raise self._rotten(segments)
        targets = stored.astype(np.int64)
        inputs = np.empty_like(targets)
        inputs[1:] = stored[:-1]
        inputs[begins] = before
        self._uncount(targets, runs, begins)

        inputs_RT, targets_RT, documents_RT = inputs.reshape(shape), targets.reshape(shape), None
        if self.recipe.attention == "document":
            begins_RT = np.zeros(shape, dtype=bool)
            begins_RT.reshape(-1)[begins] = True
            documents_RT = number_documents(inputs_RT, begins_RT, self.recipe.end_id)
        return Rows(inputs_RT=inputs_RT, targets_RT=targets_RT, documents_RT=documents_RT)

    def _runs(self, segments: Segments, first_row: int, n_rows: int) -> list[_Run]:
        """What the rows hold, one after another: the segments, and in each row that they do not fill, padding."""
        columns = (segments.shard, segments.start, segments.length)
        runs = list(zip(*(column.tolist() for column in columns), strict=True))
        row = segments.row - first_row
        lacking = self.recipe.seq_len - np.bincount(row, weights=segments.length, minlength=n_rows).astype(np.int64)
        short = np.flatnonzero(lacking)[::-1]  # from the back: what is put in moves nothing that is still to be found
        after = np.searchsorted(row, short, side="right")
        for place, length in zip(after.tolist(), lacking[short].tolist(), strict=True):
            runs.insert(place, (len(self.shards), 1, length))
        return runs

    def _uncount(self, targets: np.ndarray, runs: list[_Run], begins: list[int]) -> None:
        """Write UNCOUNTED over the targets that are padding, or by their shard's mask not the assistant's."""
        for (shard, _, length), begin in zip(runs, begins, strict=True):
            if shard == len(self.shards):
                targets[begin : begin + length] = UNCOUNTED
        if all(mask is None for mask in self._masks):
            return
        masks = [
            self._all_count[:length] if (mask := self._masks[shard]) is None else mask[start : start + length]
            for shard, start, length in runs
        ]
        targets[np.concatenate(masks) == 0] = UNCOUNTED

    def _rotten(self, segments: Segments) -> DataError:
        """Which shard holds a token that the vocabulary does not know."""
        ends = (segments.start + segments.length).tolist()
        largest = [
            (int(self._bins[shard][max(start - 1, 0) : end].max()), shard, start, end)
            for shard, start, end in zip(segments.shard.tolist(), segments.start.tolist(), ends, strict=True)
        ]
        token, shard, start, end = max(largest)
        held = self.shards[shard]
        return DataError(
            f"{held.shard}.bin of {held.source} holds a token that is not in the vocabulary",
            seen=f"{token} between tokens {start:,} and {end:,}",
            wanted=f"less than {self.recipe.vocab_size:,}",
            fix="python -m dataprep.verify --full",
        )


def number_documents(inputs_RT: np.ndarray, begins_RT: np.ndarray, end_id: int) -> np.ndarray:
    """Numbers_RT of the documents in each row, int64 from 0.

    A new one begins where a segment or the padding does, and where the end token is the input (so, after each target
    that is one).

    inputs   end The cat end A dog | the rest of another | pad pad
    numbers  0   0   0   1   1 1     2   2    2  2         3   3
    """
    n_rows, seq_len = inputs_RT.shape
    begins = np.flatnonzero(begins_RT | (inputs_RT == end_id))
    numbers = np.arange(len(begins)) - np.searchsorted(begins, np.arange(n_rows) * seq_len)[begins // seq_len]
    return np.repeat(numbers, np.diff(begins, append=inputs_RT.size)).reshape(inputs_RT.shape)


def _open_bin(paths: Paths, recipe: Recipe, shard: RecipeShard) -> np.ndarray:
    """The shard's tokens, as a plain array: a slice of a np.memmap costs several times as much."""
    held = open_bin(
        paths, recipe.tokenizer, shard.source, shard.shard, tokens=shard.tokens, bin_sha256=shard.bin_sha256
    )
    return np.asarray(held)


def _open_mask(paths: Paths, recipe: Recipe, shard: RecipeShard) -> np.ndarray | None:
    """The shard's loss mask; None where every token counts: by the recipe's policy, or for want of roles."""
    if recipe.loss == "all":
        return None
    mask = open_planned_loss(paths, recipe.tokenizer, shard.source, shard.shard, loss_sha256=shard.loss_sha256)
    return None if mask is None else np.asarray(mask)
