"""The ending: what a person reads when an attempt is over, and what goes on with the run.

In:  a job, where it stands, the journal. Out: the sample, the last lines, a command that can be pasted.
Holds: a run that has ended says so again, word for word from its journal, and computes nothing.
go on with: torchrun --standalone --nproc_per_node=2 -- train/main.py --manifest --run-name base
"""

from collections.abc import Sequence

from dataprep.errors import as_typed
from dataprep.ledger import Record
from train.checkpoint import Cursor
from train.config import command_again
from train.model import GPT
from train.prepare import Job
from train.sample import complete, shown
from train.sampling import Sampling

NEXT = as_typed("next: python -m dataprep.sql --file manifests/queries/seen.sql")


def resume_command(job: Job, *, world_size: int, limit: str | None = None) -> str:
    """What goes on with this run; a `limit` that ended it must be raised."""
    larger = f" (with a larger {limit.partition(' ')[0]})" if limit else ""
    return as_typed(command_again(job.config.argv, world_size=world_size)) + larger


def sample(job: Job, model: GPT, cursor: Cursor) -> Record:
    """Let the model speak once: as an assistant where it learnt from what one says."""
    prompt = job.routine.prompt
    completion = complete(model, job.vocab, prompt, seed=job.settings.seed, chat=job.is_chat)
    where = {"step": cursor.step, "rows_done": cursor.rows_done, "tokens_done": cursor.tokens_done}
    return {**where, "prompt": prompt, "completion": completion, "temperature": Sampling().temperature}


def sample_lines(made: Record, *, chat: bool) -> str:
    """A sample as a person reads it."""
    return shown(made["prompt"], made["completion"], chat=chat)


def has_ended(records: Sequence[Record], cursor: Cursor, last_row: int) -> bool:
    """Whether the journal already tells this run's end, up to the row asked for."""
    ends = [record for record in records if record["kind"] == "end" and record["status"] != "failed"]
    return cursor.rows_done == last_row and any(record["rows_done"] == last_row for record in ends)


def end_again(job: Job, records: Sequence[Record], cursor: Cursor) -> str:
    """What is said instead of training."""
    samples = [sample_lines(record, chat=job.is_chat) for record in records if record["kind"] == "sample"]
    return "\n".join([f"nothing is left to train: the weights hold {cursor.tokens_done:,} tokens", *samples[-1:], NEXT])
