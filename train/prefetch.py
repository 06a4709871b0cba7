"""Prefetch: the next step's rows are gathered while this one is computed.

In:  a loader, this rank's place, where to stop. Out: `RankRows` of the step asked for.
Holds: what is handed out is what the loader gives for those rows, whether it was ready or not; one step is held
       ahead and no more; a complaint about a row is raised when that row is asked for.
take(0, 8) gathers 0-8 and begins with 8-16; take(8, 16) finds them ready.
"""

from concurrent.futures import Future, ThreadPoolExecutor

from dataprep.batch import Batch
from train.loader import Loader, RankRows


class RowsAhead:
    """Gathers in one thread of its own, until it is closed."""

    def __init__(self, loader: Loader, batch: Batch, *, rank: int, last_row: int) -> None:
        self._loader, self._batch, self._rank, self._last_row = loader, batch, rank, last_row
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="rows")
        self._ahead: tuple[int, int] | None = None
        self._rows: Future[RankRows]

    def take(self, row_from: int, row_to: int) -> RankRows:
        """Rows [row_from, row_to) as this rank gets them. Raises what the loader raises."""
        if self._ahead != (row_from, row_to):
            self._gather(row_from, row_to)
        rows = self._rows.result()
        if row_to < self._last_row:
            self._gather(row_to, min(row_to + self._batch.rows, self._last_row))
        return rows

    def close(self) -> None:
        """End the thread; what it holds is dropped."""
        self._pool.shutdown(cancel_futures=True)

    def _gather(self, row_from: int, row_to: int) -> None:
        self._ahead = (row_from, row_to)
        self._rows = self._pool.submit(self._loader.rank_rows, row_from, row_to, batch=self._batch, rank=self._rank)
