"""The loader: rows as a pure function of plan, row range and rank, gathered from memory-mapped bins.

In:  a recipe's plan and bins. Out: `RankRows`, inputs and targets of one rank's share of one step.
Holds: the ranks' shares, in rank order, are the step's rows in plan order; padding is never a target, and under
       the loss policy `assistant` neither is a token that its shard's mask gives to somebody else.
Rule: targets are bin[start : start + length], inputs the same one earlier, the end token before position 0.
      A position belongs to the document of its target: the end token as *input* opens a document.
Rows [0, 5) at 2 ranks x micro-batch 2 x accumulation 2: rank 0 takes rows 0-3, rank 1 row 4 and three empty ones.
"""

from dataclasses import dataclass

import numpy as np

from dataprep.batch import Batch
from dataprep.bins import open_bin, open_planned_loss
from dataprep.errors import DataError
from dataprep.packing import Segments
from dataprep.paths import Paths
from dataprep.plan import Plan, RowHash, open_plan
from dataprep.recipe import Recipe, RecipeShard
from train.head import UNCOUNTED


@dataclass(frozen=True, kw_only=True)
class RankRows:
    """One rank's share of a step: int64 arrays_AMT (accumulation, micro-batch, seq_len) and what they are.

    documents_AMT numbers the documents of each row from 0; None where the recipe's attention is over whole rows.
    """

    inputs_AMT: np.ndarray
    targets_AMT: np.ndarray
    documents_AMT: np.ndarray | None
    segments: Segments

    @property
    def arrays(self) -> tuple[np.ndarray, ...]:
        """What the model takes: inputs, targets, and documents where there are any."""
        arrays = (self.inputs_AMT, self.targets_AMT)
        return arrays if self.documents_AMT is None else (*arrays, self.documents_AMT)

    @property
    def n_tokens(self) -> int:
        """Tokens of the plan in here, counted from the segments."""
        return int(self.segments.length.sum())

    @property
    def n_loss_tokens(self) -> int:
        """Targets that count, counted from the targets."""
        return int(np.count_nonzero(self.targets_AMT != UNCOUNTED))


class Loader:
    """Reads any rows of a plan. Holds maps, no position: where training stands is the caller's one integer."""

    def __init__(self, paths: Paths, recipe: Recipe) -> None:
        self.recipe = recipe
        self._plan: Plan = open_plan(paths, recipe)
        self._bins = [
            open_bin(
                paths, recipe.tokenizer, shard.source, shard.shard, tokens=shard.tokens, bin_sha256=shard.bin_sha256
            )
            for shard in recipe.shards
        ]
        self._masks = [_open_mask(paths, recipe, shard) for shard in recipe.shards]

    def rank_rows(self, row_from: int, row_to: int, *, batch: Batch, rank: int) -> RankRows:
        """Rank `rank`'s share of the step that takes rows [row_from, row_to)."""
        segments, first = self.rank_segments(row_from, row_to, batch=batch, rank=rank)
        inputs_RT, targets_RT, begins_RT = self._gather(segments, first, batch.rank_rows)
        shape = (batch.accumulation, batch.micro_batch, batch.seq_len)
        by_document = self.recipe.attention == "document"
        documents_RT = number_documents(inputs_RT, begins_RT, self.recipe.end_id) if by_document else None
        return RankRows(
            inputs_AMT=inputs_RT.reshape(shape),
            targets_AMT=targets_RT.reshape(shape),
            documents_AMT=None if documents_RT is None else documents_RT.reshape(shape),
            segments=segments,
        )

    def rank_segments(self, row_from: int, row_to: int, *, batch: Batch, rank: int) -> tuple[Segments, int]:
        """The segments of that share, and its first row: what is handed out, without its tokens."""
        first = min(row_from + rank * batch.rank_rows, row_to)
        return self._plan.segments(first, min(first + batch.rank_rows, row_to)), first

    def _gather(self, segments: Segments, first_row: int, n_rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
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
        held = self.recipe.shards[shard]
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


def handed_out(loader: Loader, batch: Batch, rank: int) -> list[Segments]:
    """What one rank is handed over the whole plan, step by step."""
    n_rows = loader.recipe.plan_rows
    return [
        loader.rank_segments(row_from, min(row_from + batch.rows, n_rows), batch=batch, rank=rank)[0]
        for row_from in range(0, n_rows, batch.rows)
    ]


def row_stream_hash(loader: Loader, of_ranks: list[list[Segments]]) -> str:
    """RowHash of what all ranks were handed: by step, then by rank. Equal to the packer's if nothing is wrong."""
    row_hash = RowHash(loader.recipe.shards)
    for of_step in zip(*of_ranks, strict=True):
        for segments in of_step:
            row_hash.update(segments)
    return row_hash.hexdigest()
