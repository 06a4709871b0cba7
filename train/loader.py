"""The loader: rows as a pure function of plan, row range and rank.

In:  a recipe's plan and bins. Out: `RankRows`, inputs and targets of one rank's share of one step.
Holds: the ranks' shares, in rank order, are the step's rows in plan order; how segments become rows is `gathering`'s.
Rows [0, 5) at 2 ranks x micro-batch 2 x accumulation 2: rank 0 takes rows 0-3, rank 1 row 4 and three empty ones.
"""

from dataclasses import dataclass

import numpy as np

from dataprep.batch import Batch
from dataprep.packing import Segments
from dataprep.paths import Paths
from dataprep.plan import Plan, open_plan
from dataprep.recipe import Recipe
from train.gathering import Gatherer
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
        self._gatherer = Gatherer(paths, recipe, recipe.shards)

    def rank_rows(self, row_from: int, row_to: int, *, batch: Batch, rank: int) -> RankRows:
        """Rank `rank`'s share of the step that takes rows [row_from, row_to)."""
        segments, first = self.rank_segments(row_from, row_to, batch=batch, rank=rank)
        rows = self._gatherer.gather(segments, first, batch.rank_rows)
        shape = (batch.accumulation, batch.micro_batch, batch.seq_len)
        return RankRows(
            inputs_AMT=rows.inputs_RT.reshape(shape),
            targets_AMT=rows.targets_RT.reshape(shape),
            documents_AMT=None if rows.documents_RT is None else rows.documents_RT.reshape(shape),
            segments=segments,
        )

    def rank_segments(self, row_from: int, row_to: int, *, batch: Batch, rank: int) -> tuple[Segments, int]:
        """The segments of that share, and its first row: what is handed out, without its tokens."""
        first = min(row_from + rank * batch.rank_rows, row_to)
        return self._plan.segments(first, min(first + batch.rank_rows, row_to)), first
