"""Row hash: proof that the ranks are handed exactly the rows that were packed, in that order.

In:  a job, the ranks. Out: the sha256 of the ordered rows, printed; nothing is trained.
Holds: it is made from what each rank's loader hands out, step by step, and is the one the recipe names, or an error.
python train/main.py --manifest --recipe demo --print-row-hash
"""

from functools import partial

from dataprep.batch import Batch
from dataprep.errors import DataError
from dataprep.packing import Segments
from dataprep.plan import RowHash
from train.loader import Loader
from train.prepare import Job
from train.ranks import Ranks


def print_row_hash(job: Job, ranks: Ranks) -> int:
    """Print the hash once. Raises DataError where it is not the packer's."""
    row_hash = row_stream_hash(job.loader, ranks.gather(handed_out(job.loader, job.batch, ranks.rank)))
    ranks.agree(partial(_refuse_other_rows, row_hash, job.recipe.rows_sha256))
    ranks.say(row_hash)
    return 0


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


def _refuse_other_rows(handed_out: str, packed: str) -> None:
    if handed_out != packed:
        raise DataError(
            "the loader does not hand out the rows that were packed",
            seen=handed_out,
            wanted=packed,
            fix="python -m dataprep.verify --full",
        )
