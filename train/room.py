"""Room: whether the checkpoints that a run will keep fit its disk, asked before its first step.

In:  a job, where it stands, its parameters. Out: nothing, or EnvironmentProblem with bytes needed and free.
Holds: what the run keeps already is on the disk and counts no more; one more is whole before the oldest goes.
--keep 2, nothing saved yet, ten saves to come: three checkpoints.
"""

from dataprep.errors import quoted
from dataprep.footprint import estimate_checkpoints
from dataprep.space import check_free
from train.checkpoint import Cursor
from train.prepare import Job
from train.step_folders import list_checkpoints


def check_room(job: Job, cursor: Cursor, last_row: int, parameters: int) -> None:
    """Refuse a run whose checkpoints the disk cannot hold."""
    n_steps = -(-(last_row - cursor.rows_done) // job.batch.rows)
    n_new = count_new(
        n_steps,
        every=job.routine.checkpoint_every,
        keep=job.routine.keep,
        keep_every=job.routine.keep_every,
        n_held=len(list_checkpoints(job.checkpoints)),
    )
    one = estimate_checkpoints(parameters, keep=1, optimizer=job.settings.optimizer).one
    what = f"{n_new:,} checkpoints of run {job.run!r}, {one:,} bytes each"
    fix = f"df -h {quoted(job.paths.root)}; free space, or --keep 1, or DATAPREP_ROOT on a larger disk"
    check_free(job.checkpoints, n_new * one, what, fix=fix)


def count_new(n_steps: int, *, every: int, keep: int, keep_every: int | None, n_held: int) -> int:
    """How many checkpoints more there are at the fullest moment than there are now."""
    n_saves = -(-n_steps // every)
    kept_for_good = n_steps // keep_every if keep_every else 0
    return min(n_saves, max(1, keep + 1 - n_held) + kept_for_good)
