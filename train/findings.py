"""Findings: what was found out about a run's weights after they were trained, appended beside the journal.

In:  an opened model, "eval" or "sample", records as the journal's are. Out: lines in runs/<run>/findings.jsonl.
Holds: append-only, one write per record, under a lock that dies with its process; each says whose weights it is about,
       by their sha256: should the run go back and write that step anew, it no longer counts (dataprep.standing).
Why not the journal: that has one writer, the trainer, and a run may be evaluated while it is trained.
record_findings(paths, opened, "eval", core_records(opened.checkpoint.cursor, scores, …))
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator, Sequence

from dataprep.errors import DataError, disk_error
from dataprep.flocks import take_lock
from dataprep.ledger import Record
from dataprep.paths import Paths
from dataprep.publish import sync
from train.journal import now
from train.lines import append_line, cut_torn_line
from train.weights import Opened


def record_findings(paths: Paths, opened: Opened, kind: str, records: Sequence[Record]) -> None:
    """Append `records` about these weights, and wait until they are on the disk. One process at a time: others wait."""
    about = _about(opened)
    with _locked(paths, opened.run) as descriptor:
        for record in records:
            append_line(descriptor, paths.findings(opened.run), {"kind": kind, **record, **about})
        try:
            os.fsync(descriptor)
        except OSError as error:
            raise disk_error(error, paths.findings(opened.run)) from None


def _about(opened: Opened) -> Record:
    """Which weights, what made them, and when they were asked."""
    cursor = opened.checkpoint.cursor
    return {
        "step": cursor.step,
        "rows_done": cursor.rows_done,
        "tokens_done": cursor.tokens_done,
        "recipe": opened.recipe,
        "recipe_sha256": opened.start["recipe_sha256"],
        "weights_sha256": opened.checkpoint.weights_sha256,
        "time": now(),
    }


@contextlib.contextmanager
def _locked(paths: Paths, run: str) -> Iterator[int]:
    """The file, open for appending and without a torn line, and nobody else writing to it."""
    file = paths.findings(run)
    try:
        descriptor = os.open(file, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    except FileNotFoundError:
        raise DataError(
            f"run {run!r} was taken away while it was evaluated",
            seen=f"no {paths.shown(file.parent)}",
            wanted="its folder, for what was found out",
            fix=f"python -m train.runs restore {run}; then evaluate it again",
        ) from None
    try:
        take_lock(descriptor, fcntl.LOCK_EX, file)
        cut_torn_line(descriptor, file)
        sync(file.parent)
        yield descriptor
    finally:
        os.close(descriptor)
