"""Gathering: segments of bins become rows of inputs and targets; the same for training and for held-out rows.

In:  segments and the shards they index, memory-mapped. Out: `Rows`, int64 arrays_RT.
Holds: padding is never a target, and under the loss policy `assistant` neither is a token that its shard's mask
       gives to somebody else; a token that the vocabulary does not know is refused with its shard.
Rule: targets are bin[start : start + length], inputs the same one earlier, the end token before position 0.
      A position belongs to the document of its target: the end token as *input* opens a document.
"""

from dataclasses import dataclass

import numpy as np

from dataprep.bins import open_bin, open_planned_loss
from dataprep.errors import DataError
from dataprep.packing import Segments
from dataprep.paths import Paths
from dataprep.recipe import Recipe, RecipeShard
from train.head import UNCOUNTED


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
        self._bins = [
            open_bin(
                paths, recipe.tokenizer, shard.source, shard.shard, tokens=shard.tokens, bin_sha256=shard.bin_sha256
            )
            for shard in shards
        ]
        self._masks = [_open_mask(paths, recipe, shard) for shard in shards]

    def gather(self, segments: Segments, first_row: int, n_rows: int) -> Rows:
        """Rows [first_row, first_row + n_rows); those that no segment is of are padding, and one document."""
        inputs_RT, targets_RT, begins_RT = self._fill(segments, first_row, n_rows)
        by_document = self.recipe.attention == "document"
        documents_RT = number_documents(inputs_RT, begins_RT, self.recipe.end_id) if by_document else None
        return Rows(inputs_RT=inputs_RT, targets_RT=targets_RT, documents_RT=documents_RT)

    def _fill(self, segments: Segments, first_row: int, n_rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Fill rows segment by segment; what no segment fills stays padding. Marks where either of them begins."""
        inputs_RT = np.full((n_rows, self.recipe.seq_len), self.recipe.pad_id, dtype=np.int64)
        targets_RT = np.full_like(inputs_RT, UNCOUNTED)
        begins_RT = np.zeros_like(inputs_RT, dtype=bool)
        filled = np.zeros(n_rows, dtype=np.int64)
        columns = (segments.row - first_row, segments.shard, segments.start, segments.length)
        for row, shard, start, length in zip(*(column.tolist() for column in columns), strict=True):
            place = slice(filled[row], filled[row] + length)
            stored, mask = self._bins[shard], self._masks[shard]
            tokens = stored[start : start + length]
            inputs_RT[row, place.start] = stored[start - 1] if start else self.recipe.end_id
            inputs_RT[row, place.start + 1 : place.stop] = tokens[:-1]
            targets_RT[row, place] = tokens
            if mask is not None:
                targets_RT[row, place][mask[start : start + length] == 0] = UNCOUNTED
            begins_RT[row, place.start] = True
            filled[row] += length
        padded = np.flatnonzero(filled < self.recipe.seq_len)
        begins_RT[padded, filled[padded]] = True
        if max(inputs_RT.max(), targets_RT.max()) >= self.recipe.vocab_size:
            raise self._rotten(segments)
        return inputs_RT, targets_RT, begins_RT

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
    return np.cumsum(begins_RT | (inputs_RT == end_id), axis=1) - 1


def _open_mask(paths: Paths, recipe: Recipe, shard: RecipeShard) -> np.ndarray | None:
    """The shard's loss mask; None where every token counts: by the recipe's policy, or for want of roles."""
    if recipe.loss == "all":
        return None
    return open_planned_loss(paths, recipe.tokenizer, shard.source, shard.shard, loss_sha256=shard.loss_sha256)
