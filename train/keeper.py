"""The keeper: when an attempt's weights are saved, and the journal's word for it.

In:  a job, its ranks, its journal; the cursor, model and optimizer to save. Out: checkpoints, checkpoint records.
Holds: steps are durable before the weights that hold them; a checkpoint is in the journal before an older one goes;
       what the writer met is raised on every rank, where the loop looks next.
keeper.save(cursor, model, optimizer) … keeper.look() … keeper.save(…) … keeper.look(wait=True)
"""

import time
from functools import partial

from torch import nn

from train.checkpoint import Cursor
from train.journal import Journal
from train.optim import Optimizer
from train.prepare import Job
from train.ranks import Ranks
from train.records import checkpoint_record
from train.saving import Saver


class Keeper:
    """Keeps the weights of one attempt. Every rank has one; the first rank's writes."""

    def __init__(self, job: Job, ranks: Ranks, journal: Journal, saved: Cursor) -> None:
        self._job, self._ranks, self._journal = job, ranks, journal
        self._saver = Saver(job.checkpoints, job.identity, keep=job.routine.keep, keep_every=job.routine.keep_every)
        self.saved = saved  # the newest cursor whose checkpoint was begun
        self._saved_at = time.monotonic()

    @property
    def is_overdue(self) -> bool:
        """Whether --checkpoint-minutes have passed without a checkpoint, by the first rank's clock alone."""
        minutes = self._job.routine.checkpoint_minutes
        return bool(minutes and self._ranks.is_first and time.monotonic() - self._saved_at >= 60 * minutes)

    def save(self, cursor: Cursor, model: nn.Module, optimizer: Optimizer) -> None:
        """Begin a checkpoint, once per step; it is written while training goes on. Raises what the last one met."""
        if self.saved == cursor:
            return
        self._ranks.agree(partial(self._begin, cursor, model, optimizer))
        self.saved, self._saved_at = cursor, time.monotonic()

    def look(self, *, wait: bool = False) -> None:
        """Journal what was published since the last look; only then may older ones go. Raises what the saver met."""
        saved = self._saver.published(wait=wait)
        if saved:
            measured = {"stall_seconds": saved.stall_seconds, "write_seconds": saved.write_seconds}
            self._journal.write("checkpoint", **checkpoint_record(self._job, saved.checkpoint), **measured)
            self._journal.make_durable()
            self._saver.remove_old()
        for warning in self._saver.removed(wait=wait):
            self._ranks.say(warning)

    def finish(self) -> None:
        """Wait for the checkpoint in flight, and for older ones to go, on every rank. Raises what their writer met."""
        self._ranks.agree(self._finish)

    def close(self) -> None:
        """Wait for the writer's thread to end."""
        self._saver.close()

    def _finish(self) -> None:
        self.look(wait=True)
        if self._ranks.is_first:  # an attempt before this one may have saved the last, and failed to remove
            self._saver.remove_old()
            self.look(wait=True)

    def _begin(self, cursor: Cursor, model: nn.Module, optimizer: Optimizer) -> None:
        self.look(wait=True)
        if self._ranks.is_first:
            self._journal.make_durable()
            self._saver.begin(cursor, model, optimizer)
