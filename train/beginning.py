"""Where a run begins: its own newest checkpoint, or the weights of a parent, or nothing.

In:  a job, --parent RUN[@STEP], what the journals say. Out: a `Parent` or None; a `Checkpoint` or None.
Holds: a run goes on with the recipe, tokenizer, model, seed and parent it was begun with, or is refused by name;
       a parent's weights are ones its journal knows, so that the lineage can tell what they saw, to the row.
"""

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from torch import nn

from dataprep.errors import DataError, UsageError
from dataprep.ledger import Journal, Record, read_journal
from dataprep.quantity import at_step
from train.checkpoint import Checkpoint, load_checkpoint, load_moments, load_weights, newest_good
from train.keeping import reading
from train.optim import Optimizer
from train.prepare import Job
from train.runs.trash import refuse_trashed
from train.step_folders import list_checkpoints
from train.weights import find_weights, no_such_run


@dataclass(frozen=True, kw_only=True)
class Parent:
    """Whose weights a run begins with, and whether its optimizer too; `checkpoint` is None once it has its own."""

    run: str
    step: int
    weights_sha256: str | None
    optimizer_kept: bool
    checkpoint: Checkpoint | None


def find_parent(job: Job, held: ExitStack) -> Parent | None:
    """The parent this run was begun with or asks for, safe from removal until `held` closes. Prints what it skips."""
    asked, begun = job.config.parent, job.settings.begun
    kept = _keeps_optimizer(job)
    if begun is None:
        return _open_parent(job, held, *asked, optimizer_kept=kept) if asked else None
    run, step, sha256 = begun["parent_run"], begun["parent_step"], begun.get("parent_sha256")
    if asked and (asked[0] != run or asked[1] not in (None, step)):
        raise DataError(
            f"run {job.run!r} was begun with another parent",
            seen=f"--parent {at_step(*asked)}",
            wanted="none" if run is None else at_step(run, step),
            fix="leave --parent out to go on; or begin a run of its own: --run-name NAME",
        )
    if run is None:
        return None
    if list_checkpoints(job.checkpoints):  # the parent may be gone by now: nothing of it is needed
        return Parent(run=run, step=step, weights_sha256=sha256, optimizer_kept=kept, checkpoint=None)
    return _open_parent(job, held, run, step, sha256, optimizer_kept=kept)


def find_checkpoint(job: Job, records: list[Record]) -> Checkpoint | None:
    """The checkpoint to go on from; None for a new run. Prints what it skips."""
    starts = [record for record in records if record["kind"] == "start"]
    if starts and job.config.resume == "never":
        raise UsageError(
            f"run {job.run!r} exists and --resume never was asked",
            seen=f"{len(starts)} attempt(s) in {job.paths.shown(job.journal)}",
            wanted="a new run",
            fix="another name: --run-name NAME; or go on with it: --resume auto",
        )
    if starts:
        _refuse_other(job, starts[-1], "its journal")
    checkpoint, complaints = newest_good(job.checkpoints)
    _say_skipped(complaints)
    if checkpoint and not starts:
        raise DataError(
            f"run {job.run!r} has checkpoints but no journal: what its weights have seen is not known",
            seen=f"{checkpoint.folder.name}, and no start in {job.paths.shown(job.journal)}",
            wanted="the journal it was trained with",
            fix="bring journal.jsonl back, or train under another name: --run-name NAME",
        )
    if checkpoint:
        _refuse_other(job, checkpoint.identity, checkpoint.folder.name)
        _refuse_shorter(job, records, checkpoint)
    elif complaints:
        raise DataError(
            f"no checkpoint of run {job.run!r} is whole",
            seen=f"{len(complaints)} damaged",
            wanted="one to go on from",
            fix="start anew under another name: --run-name NAME",
        )
    elif any(record["kind"] == "checkpoint" for record in records):
        raise _lost(job, records)
    elif starts:
        print("no checkpoint was reached before: starting again from row 0", flush=True)
    return checkpoint


def begin_with(resumed: Checkpoint | None, parent: Parent | None, model: nn.Module, optimizer: Optimizer) -> None:
    """Load what the first rank found, on this rank. Raises DataError where its files are not on this rank's disk."""
    try:
        if resumed:
            load_checkpoint(resumed, model, optimizer)
        elif parent:
            assert parent.checkpoint, "a run without a checkpoint of its own begins with its parent's"
            load_weights(parent.checkpoint, model)
            if parent.optimizer_kept:
                load_moments(parent.checkpoint, optimizer)
    except FileNotFoundError as error:
        raise DataError(
            "the checkpoint that the first rank found is not where this rank looks",
            seen=f"no {error.filename or error}",
            wanted="one folder runs/ for the ranks of every machine",
            fix="df runs   # on each machine: put it on a disk that all of them share",
        ) from None


def _say_skipped(complaints: Sequence[DataError]) -> None:
    for complaint in complaints:
        print(f"warning: {complaint.what} and skipped: {complaint.seen}", file=sys.stderr, flush=True)


def _lost(job: Job, records: list[Record]) -> DataError:
    """The journal knows checkpoints and none is there: starting again would train rows a second time, unasked."""
    newest = [record for record in records if record["kind"] == "checkpoint"][-1]
    return DataError(
        f"the checkpoints of run {job.run!r} are gone",
        seen=f"nothing in {job.paths.shown(job.checkpoints)}",
        wanted=f"{newest['path']}, as the journal says",
        fix="bring it back (mount it?), or train under another name: --run-name NAME",
    )


def _refuse_shorter(job: Job, records: list[Record], checkpoint: Checkpoint) -> None:
    """Every step is in the journal before its checkpoint is there: where it is not, lines were lost."""
    known = max((record["row_to"] for record in records if record["kind"] == "step"), default=0)
    if known < checkpoint.cursor.rows_done:
        raise DataError(
            f"the journal of run {job.run!r} has lost its last lines",
            seen=f"steps to row {known:,} in {job.paths.shown(job.journal)}",
            wanted=f"to row {checkpoint.cursor.rows_done:,}, which {checkpoint.folder.name} holds",
            fix="bring journal.jsonl back from a copy, or train under another name: --run-name NAME",
        )


def _keeps_optimizer(job: Job) -> bool:
    """An optimizer is kept from the first step on, or not at all."""
    begun, asked = job.settings.begun, job.config.keep_optimizer
    kept = asked and job.config.parent is not None if begun is None else begun.get("kept_optimizer", False)
    if asked and not kept:
        raise UsageError(
            f"run {job.run!r} has no parent's optimizer to keep",
            seen="--keep-optimizer, but no --parent" if begun is None else "--keep-optimizer, but it began without",
            wanted="both flags when a run begins",
            fix="leave --keep-optimizer out; or begin a run: --run-name NAME --parent RUN --keep-optimizer",
        )
    return kept


def _open_parent(
    job: Job, held: ExitStack, run: str, step: int | None, weights_sha256: str | None = None, *, optimizer_kept: bool
) -> Parent:
    """Read the parent's checkpoint, every byte of it, and compare it with what is asked now."""
    refuse_trashed(job.paths, run, wanted="the parent's weights", instead="another --parent under another --run-name")
    journal = read_journal(job.paths.journal(run))
    if not journal.of_kind("start"):
        raise no_such_run(job.paths, run, fix="--parent with one of those runs, or leave --parent out")
    held.enter_context(reading(job.paths.checkpoints(run)))
    another = "begin from another run: --run-name NAME --parent RUN"
    checkpoint = find_weights(job.paths, run, step, fix=another)
    _refuse_other_kind(job, run, checkpoint, optimizer_kept=optimizer_kept)
    _refuse_unknown(journal, checkpoint, weights_sha256)
    step, sha256 = checkpoint.cursor.step, checkpoint.weights_sha256
    return Parent(run=run, step=step, weights_sha256=sha256, optimizer_kept=optimizer_kept, checkpoint=checkpoint)


def _refuse_other_kind(job: Job, run: str, checkpoint: Checkpoint, *, optimizer_kept: bool) -> None:
    """Weights mean nothing under another vocabulary, and do not fit another shape; moments are of one optimizer."""
    theirs = checkpoint.identity
    for key, word, fix in (
        ("fingerprint", "tokenizer", f"a recipe packed with --tokenizer {theirs.get('tokenizer')}"),
        ("model", "model", "the --model and --head that the parent was trained with"),
        *([("optimizer", "optimizer", f"--optimizer {theirs.get('optimizer')}")] if optimizer_kept else []),
    ):
        ours, held = job.identity[key], theirs.get(key)
        if ours != held:
            raise DataError(
                f"the parent {at_step(run, checkpoint.cursor.step)} has another {word}",
                seen=f"{key} {_short(held, ours)}",
                wanted=_short(ours, held),
                fix=f"{fix}; or a parent of this {word}",
            )


def _refuse_unknown(journal: Journal, checkpoint: Checkpoint, weights_sha256: str | None) -> None:
    """The journal must name these weights; and a run that starts again takes the ones it was begun with."""
    known = {record["sha256"] for record in journal.of_kind("checkpoint")}
    wanted = {weights_sha256} if weights_sha256 else known
    if checkpoint.weights_sha256 not in wanted:
        where = "the run was begun with other weights" if weights_sha256 else "its journal does not name these weights"
        raise DataError(
            f"what {at_step(journal.run, checkpoint.cursor.step)} has seen cannot be told: {where}",
            seen=f"sha256 {_short(checkpoint.weights_sha256)}",
            wanted=", ".join(_short(sha256) for sha256 in sorted(wanted)) or "a checkpoint record",
            fix=f"the parent's own command once more (it mends its journal), or --parent {journal.run}@STEP",
        )


def _refuse_other(job: Job, held: dict[str, Any], where: str) -> None:
    """Compare what the run was trained with so far with what is asked now."""
    for key, ours in job.identity.items():
        if held.get(key) != ours:
            raise DataError(
                f"run {job.run!r} was trained with another {key} ({where})",
                seen=f"{key} {_short(ours, held.get(key))}",
                wanted=_short(held.get(key), ours),
                fix="train it as a run of its own: --run-name NAME; or bring back what it was trained with",
            )


def _short(value: Any, other: Any = None) -> str:
    """A hash by its beginning; of a shape, what is not as in `other`."""
    if isinstance(value, dict) and isinstance(other, dict):
        return ", ".join(f"{key} {part}" for key, part in value.items() if other.get(key) != part)
    text = str(value)
    return f"{text[:12]}…" if len(text) == 64 else text  # noqa: PLR2004 -- a sha256
